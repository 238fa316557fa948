/*
 * linear_transposed.c: out[r, n] = start + a[r, 0] * weight[0, n] + a[r, 1] * weight[1, n] + ...
 *
 * Every output element is one chain of fused multiply-adds, in order of k, in a lane of its own: so its bits depend
 * neither on the other rows nor on the cut of the weight into panels along k. The sums rest in out between groups of k.
 * Two ways to walk the same chains:
 *
 *   few rows    the weight is read once, straight from the panel, several of its rows side by side: memory is the limit
 *   many rows   blocks of the weight are widened to f32 once and meet all rows while they are in cache
 */
#include "kernels.h"

#include "weight.h"

enum {
    TILE_MOST = 6,   /* the most rows or vectors of columns of a tile */
    FEW_ROWS = 8,    /* up to here without blocks, in tiles of at most FEW_TILE_ROWS */
    FEW_TILE_ROWS = 4,
    GROUP = 8,       /* few rows: weight rows side by side, each a stream of its own */
    PIECE = 64,      /* few rows: chunks are whole multiples of so many columns */
    BLOCK_ROWS = 20 * LM_COLUMN_TILE_ROWS, /* many rows: activation rows, */
    BLOCK_COLUMNS = 256,                   /* columns */
    BLOCK_K = 64,                          /* and weight rows of a block */
    STRIP = LM_COLUMN_TILE_VECTORS * LM_LANES, /* columns of a tile, which lie together in a block */
    THREAD_SCRATCH = BLOCK_COLUMNS * BLOCK_K,  /* floats */
};

typedef struct transposed {
    const lm_run* run;
    const lm_op* op;
    const uint8_t* weight; // (k, columns) in dtype, weight_stride bytes apart
    int32_t rows;
    int32_t k;
    int32_t columns;
    int32_t row_blocks;    /* many rows */
    int32_t column_blocks; /* or chunks of few rows */
} transposed;

/* Some rows of the weight, from one column on: as they are in the panel, or widened. */
typedef struct slab {
    const uint8_t* data; // (count, columns)
    int64_t stride;      /* bytes from one row to the next */
    int32_t k;           /* number of the first row */
    int32_t count;
} slab;

/* Puts the starts of the sums into out, for `rows` rows from r on and columns n to end - 1. */
static void start(const transposed* t, int32_t r, int32_t rows, int32_t n, int32_t end) {
    for (int32_t i = r; !t->op->accumulate && i < r + rows; i++) {
        float* out = lm_row(t->run->step, &t->op->out, i) + n; // (end - n)
        if (t->op->vector == NULL) {
            memset(out, 0, (size_t)(end - n) * sizeof(float));
        } else {
            memcpy(out, t->op->vector + n, (size_t)(end - n) * sizeof(float));
        }
    }
}

/* LM_DTYPE_F8_E4M3: the scale of weight[k, n]. */
LM_INLINE const float* scale_of(const lm_op* op, int64_t k, int32_t n) {
    return op->scales + (op->scale_row + k) / 128 * op->scale_stride + n / 128;
}

/*
 * Goes on with the sums of mr rows from r on and nc vectors of columns from n on, where s begins; `left` columns, of
 * which the last vector may have fewer than 16. mr, nc, dtype and left, but for such a vector, are constants.
 */
LM_INLINE void tile(const transposed* t, int mr, int nc, int32_t left, int32_t r, int32_t n, slab s, int32_t dtype) {
    int64_t element = lm_weight_bytes(dtype, 1);
    int64_t a_stride = t->op->a.stride;
    int64_t out_stride = t->op->out.stride;
    const float* a = lm_row(t->run->step, &t->op->a, r) + s.k; // (mr, count)
    float* out = lm_row(t->run->step, &t->op->out, r) + n;     // (mr, left)
    v sums[TILE_MOST * TILE_MOST];
    LM_UNROLL
    for (int m = 0; m < mr; m++) {
        LM_UNROLL
        for (int c = 0; c < nc; c++) {
            sums[m * nc + c] = v_load_n(out + m * out_stride + c * LM_LANES, left - c * LM_LANES);
        }
    }
    for (int32_t k = 0; k < s.count; k++) {
        const uint8_t* row = s.data + k * s.stride;
        v weights[TILE_MOST];
        LM_UNROLL
        for (int c = 0; c < nc; c++) {
            const float* scale = NULL;
            if (lm_scale_block(dtype) != 0) {
                scale = scale_of(t->op, (int64_t)s.k + k, n + c * LM_LANES);
            }
            weights[c] = weight_load(row + c * LM_LANES * element, left - c * LM_LANES, scale, dtype);
        }
        LM_UNROLL
        for (int m = 0; m < mr; m++) {
            v x = v_set(a[m * a_stride + k]);
            LM_UNROLL
            for (int c = 0; c < nc; c++) {
                sums[m * nc + c] = v_fma(x, weights[c], sums[m * nc + c]);
            }
        }
    }
    LM_UNROLL
    for (int m = 0; m < mr; m++) {
        LM_UNROLL
        for (int c = 0; c < nc; c++) {
            v_store_n(out + m * out_stride + c * LM_LANES, sums[m * nc + c], left - c * LM_LANES);
        }
    }
}

/* -- few rows ---------------------------------------------------------------------------------------------------- */

/* All rows with nc vectors of columns. */
LM_INLINE void few_tiles(const transposed* t, int nc, int32_t left, int32_t n, slab s, int32_t dtype) {
    for (int32_t r = 0; r < t->rows;) {
        int32_t mr = t->rows - r < FEW_TILE_ROWS ? t->rows - r : FEW_TILE_ROWS;
        switch (mr) {
        case 1:
            tile(t, 1, nc, left, r, n, s, dtype);
            break;
        case 2:
            tile(t, 2, nc, left, r, n, s, dtype);
            break;
        case 3:
            tile(t, 3, nc, left, r, n, s, dtype);
            break;
        default:
            tile(t, 4, nc, left, r, n, s, dtype);
            break;
        }
        r += mr;
    }
}

LM_INLINE void few_columns(const transposed* t, int32_t first, int32_t end, int32_t dtype) {
    int64_t element = lm_weight_bytes(dtype, 1);
    for (int32_t k = 0; k < t->k; k += GROUP) {
        slab s = {NULL, t->op->weight_stride, k, t->k - k < GROUP ? t->k - k : GROUP};
        for (int32_t n = first; n < end;) {
            s.data = t->weight + k * s.stride + n * element;
            int32_t left = end - n;
            int32_t columns = left < 2 * LM_LANES ? LM_LANES : 2 * LM_LANES;
            for (int i = 0; i < GROUP; i++) { /* of the next group: no hardware follows this many rows */
                LM_PREFETCH((uintptr_t)s.data + (uintptr_t)((i + GROUP) * s.stride));
            }
            if (columns > LM_LANES) {
                few_tiles(t, 2, 2 * LM_LANES, n, s, dtype);
            } else if (left >= LM_LANES) {
                few_tiles(t, 1, LM_LANES, n, s, dtype);
            } else {
                few_tiles(t, 1, left, n, s, dtype);
            }
            n += columns;
        }
    }
}

static void few_chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const transposed* t = work;
    int64_t pieces = ((int64_t)t->columns + PIECE - 1) / PIECE;
    int32_t first = (int32_t)(lm_part(pieces, index, t->column_blocks) * PIECE);
    int64_t last = lm_part(pieces, index + 1, t->column_blocks) * PIECE;
    int32_t end = last < t->columns ? (int32_t)last : t->columns;
    start(t, 0, t->rows, first, end);
    switch (t->op->dtype) {
    case LM_DTYPE_F32:
        few_columns(t, first, end, LM_DTYPE_F32);
        break;
    case LM_DTYPE_F16:
        few_columns(t, first, end, LM_DTYPE_F16);
        break;
    case LM_DTYPE_BF16:
        few_columns(t, first, end, LM_DTYPE_BF16);
        break;
    default:
        few_columns(t, first, end, LM_DTYPE_F8_E4M3);
        break;
    }
}

/* -- many rows --------------------------------------------------------------------------------------------------- */

/* Widens count rows from k on, columns first to end - 1, to f32: (strips, BLOCK_K, STRIP). */
LM_INLINE void widen_columns(float* out, const transposed* t, int32_t k, int32_t count, int32_t first, int32_t end,
                             int32_t dtype) {
    int64_t element = lm_weight_bytes(dtype, 1);
    for (int32_t i = 0; i < count; i++) {
        const uint8_t* row = t->weight + (k + i) * t->op->weight_stride;
        for (int32_t n = first; n < end; n += LM_LANES) {
            float* to = out + ((n - first) / STRIP * BLOCK_K + i) * STRIP + (n - first) % STRIP; // (LM_LANES)
            const float* scale = lm_scale_block(dtype) == 0 ? NULL : scale_of(t->op, (int64_t)k + i, n);
            v_store(to, weight_load(row + n * element, end - n, scale, dtype));
        }
    }
}

static void widen(float* out, const transposed* t, int32_t k, int32_t count, int32_t first, int32_t end) {
    switch (t->op->dtype) {
    case LM_DTYPE_F32:
        widen_columns(out, t, k, count, first, end, LM_DTYPE_F32);
        break;
    case LM_DTYPE_F16:
        widen_columns(out, t, k, count, first, end, LM_DTYPE_F16);
        break;
    case LM_DTYPE_BF16:
        widen_columns(out, t, k, count, first, end, LM_DTYPE_BF16);
        break;
    default:
        widen_columns(out, t, k, count, first, end, LM_DTYPE_F8_E4M3);
        break;
    }
}

/* mr rows from r on with the columns of a strip from n on, of which `left` are there. */
LM_INLINE void strip_tiles(const transposed* t, int mr, int32_t r, int32_t n, int32_t left, slab s) {
    if (left >= STRIP) {
        tile(t, mr, LM_COLUMN_TILE_VECTORS, STRIP, r, n, s, LM_DTYPE_F32);
        return;
    }
    for (; left > 0; left -= LM_LANES, n += LM_LANES, s.data += LM_LANES * sizeof(float)) {
        tile(t, mr, 1, left, r, n, s, LM_DTYPE_F32);
    }
}

/* Rows r to end - 1 with a strip. */
static void strip_rows(const transposed* t, int32_t r, int32_t end, int32_t n, int32_t left, slab s) {
    for (; r + LM_COLUMN_TILE_ROWS <= end; r += LM_COLUMN_TILE_ROWS) {
        strip_tiles(t, LM_COLUMN_TILE_ROWS, r, n, left, s);
    }
#if LM_COLUMN_TILE_ROWS > 2
    for (; r + 2 <= end; r += 2) {
        strip_tiles(t, 2, r, n, left, s);
    }
#endif
    for (; r < end; r++) {
        strip_tiles(t, 1, r, n, left, s);
    }
}

static void many_chunk(const void* work, int32_t index, int32_t thread) {
    const transposed* t = work;
    int32_t first = index / t->row_blocks * BLOCK_COLUMNS; /* rows change fastest: the weight is still in the cache */
    int32_t end = t->columns - first < BLOCK_COLUMNS ? t->columns : first + BLOCK_COLUMNS;
    int32_t r = index % t->row_blocks * BLOCK_ROWS;
    int32_t end_row = t->rows - r < BLOCK_ROWS ? t->rows : r + BLOCK_ROWS;
    float* scratch = t->run->scratch + (int64_t)thread * THREAD_SCRATCH;
    start(t, r, end_row - r, first, end);
    for (int32_t k = 0; k < t->k; k += BLOCK_K) {
        int32_t count = t->k - k < BLOCK_K ? t->k - k : BLOCK_K;
        widen(scratch, t, k, count, first, end);
        for (int32_t n = first; n < end; n += STRIP) {
            slab s = {(const uint8_t*)(scratch + (int64_t)(n - first) * BLOCK_K), STRIP * sizeof(float), k, count};
            strip_rows(t, r, end_row, n, end - n, s);
        }
    }
}

/* ---------------------------------------------------------------------------------------------------------------- */

int64_t LM_KERNEL(lm_linear_transposed_scratch)(const lm_step* step, const lm_op* op, int32_t threads) {
    return lm_row_count(step, op->row_set) <= FEW_ROWS ? 0 : (int64_t)threads * THREAD_SCRATCH;
}

void LM_KERNEL(lm_linear_transposed)(const lm_run* run, const lm_op* op) {
    transposed t = {
        .run = run,
        .op = op,
        .weight = (const uint8_t*)run->step->panel + op->weight_offset,
        .rows = lm_row_count(run->step, op->row_set),
        .k = op->a.width,
        .columns = op->out.width,
    };
    if (t.rows == 0) {
        return;
    }
    if (t.rows <= FEW_ROWS) {
        int64_t pieces = ((int64_t)t.columns + PIECE - 1) / PIECE;
        t.column_blocks = lm_chunks(pieces, (int64_t)t.k * PIECE, run->threads);
        lm_pool_run(run->pool, few_chunk, &t, t.column_blocks);
    } else {
        t.row_blocks = (int32_t)(((int64_t)t.rows + BLOCK_ROWS - 1) / BLOCK_ROWS);
        t.column_blocks = (int32_t)(((int64_t)t.columns + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS);
        lm_pool_run(run->pool, many_chunk, &t, t.row_blocks * t.column_blocks);
    }
}
