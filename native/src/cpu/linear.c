/*
 * linear.c: out[r, n] = sum over k of a[r, k] * weight[n, k] + bias[n].
 *
 * Every output element is one canonical sum (simd.h), whatever the tile that it is computed in; so its bits depend
 * neither on the other rows nor on the cut of the weight into panels and chunks. Two ways to walk the same sums:
 *
 *   few rows    the weight is read once, straight from the panel, several of its rows at a time: memory is the limit
 *   many rows   blocks of the weight are widened to f32 once and meet blocks of rows while both are in cache; sums rest
 *               in memory between the blocks of k, lane by lane. Where a vector takes several registers, these are
 *               walked one after the other, for then the tile of sums that fits the registers is larger and needs
 *               fewer loads: lanes do not meet before the end
 */
#include "kernels.h"

#include "dot.h"

enum {
    CHUNK_BYTES = 256 << 10,          /* few rows: weight of a chunk, about 20 us of reading */
    AHEAD = 6144 / LM_TILE_WEIGHTS_1, /* few rows: bytes of each weight row to prefetch; all rows: enough under way */
    FEW_ROWS_SCALED = LM_TILE_ROWS,
    BLOCK_WEIGHTS = 40 / LM_BLOCK_GROUP * LM_BLOCK_GROUP,
    BLOCK_ROWS = 60, /* many rows: activation rows, weight rows (above) */
    BLOCK_K = LM_SPAN, /* and elements of a block */
    THREAD_SCRATCH = BLOCK_WEIGHTS * BLOCK_K + BLOCK_WEIGHTS * BLOCK_ROWS * LM_LANES, /* floats */
};

typedef struct linear {
    const lm_run* run;
    const lm_op* op;
    const uint8_t* weight; // (weight_rows, k) in dtype, weight_stride bytes apart
    int32_t rows;
    int32_t k;
    int32_t row_tiles;     /* many rows: tiles of rows, */
    int32_t row_blocks;    /* blocks of whole tiles of rows ... */
    int32_t weight_blocks; /* ... and of weight rows */
} linear;

/* Sums of a finished tile, with the bias, into out rows r .. and columns n .. */
LM_INLINE void finish(const linear* t, const v* sums, int mr, int nr, int32_t r, int32_t n) {
    LM_UNROLL
    for (int i = 0; i < mr; i++) {
        float* out = lm_row(t->run->step, &t->op->out, r + i) + n; // (nr)
        LM_UNROLL
        for (int j = 0; j < nr; j++) {
            float sum = v_sum(sums[i * nr + j]);
            out[j] = t->op->vector == NULL ? sum : sum + t->op->vector[n + j];
        }
    }
}

/* -- few rows ---------------------------------------------------------------------------------------------------- */

LM_INLINE void few_tile(const linear* t, int mr, int nr, int32_t r, int32_t n, int32_t dtype) {
    v sums[LM_TILE_MOST * LM_TILE_MOST];
    LM_UNROLL
    for (int i = 0; i < mr * nr; i++) {
        sums[i] = v_zero();
    }
    int64_t stride = t->op->weight_stride;
    const float* a = lm_row(t->run->step, &t->op->a, r); // (mr, k)
    const uint8_t* weight = t->weight + n * stride;      // (nr, k) in dtype
    if (lm_scale_block(dtype) == 0) {
        dot_tile(sums, mr, nr, a, t->op->a.stride, weight, stride, t->k, dtype, AHEAD);
    } else {
        dot_tile_scaled(sums, mr, nr, a, t->op->a.stride, weight, t->run->step, t->op, n, t->k, dtype, AHEAD);
    }
    finish(t, sums, mr, nr, r, n);
}

/* All rows, in tiles of at most LM_TILE_ROWS, with nr weight rows. */
LM_INLINE void few_weights(const linear* t, int nr, int32_t n, int32_t dtype) {
    for (int32_t r = 0; r < t->rows;) {
        int32_t mr = t->rows - r < LM_TILE_ROWS ? t->rows - r : LM_TILE_ROWS;
        switch (mr) {
        case 1:
            few_tile(t, 1, nr, r, n, dtype);
            break;
        case 2:
            few_tile(t, 2, nr, r, n, dtype);
            break;
#if LM_TILE_ROWS >= 3
        case 3:
            few_tile(t, 3, nr, r, n, dtype);
            break;
#endif
#if LM_TILE_ROWS >= 5
        case 4:
            few_tile(t, 4, nr, r, n, dtype);
            break;
        default:
            few_tile(t, 5, nr, r, n, dtype);
            break;
#endif
        }
        r += mr;
    }
}

LM_INLINE void few_rows(const linear* t, int32_t n, int32_t end, int32_t dtype) {
    if (t->rows == 1) {
        for (; n + LM_TILE_WEIGHTS_1 <= end; n += LM_TILE_WEIGHTS_1) {
            few_tile(t, 1, LM_TILE_WEIGHTS_1, 0, n, dtype);
        }
    } else {
        for (; n + LM_TILE_WEIGHTS <= end; n += LM_TILE_WEIGHTS) {
            few_weights(t, LM_TILE_WEIGHTS, n, dtype);
        }
    }
    for (; n < end; n++) {
        few_weights(t, 1, n, dtype);
    }
}

static void few_chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const linear* t = work;
    int32_t first = (int32_t)lm_part(t->op->weight_rows, index, t->weight_blocks);
    int32_t end = (int32_t)lm_part(t->op->weight_rows, index + 1, t->weight_blocks);
    switch (t->op->dtype) {
    case LM_DTYPE_F32:
        few_rows(t, first, end, LM_DTYPE_F32);
        break;
    case LM_DTYPE_F16:
        few_rows(t, first, end, LM_DTYPE_F16);
        break;
    case LM_DTYPE_BF16:
        few_rows(t, first, end, LM_DTYPE_BF16);
        break;
    case LM_DTYPE_F8_E4M3:
        few_rows(t, first, end, LM_DTYPE_F8_E4M3);
        break;
    default:
        few_rows(t, first, end, LM_DTYPE_MXFP4);
        break;
    }
}

/* -- many rows --------------------------------------------------------------------------------------------------- */

/* One block under way: rows r .. and weight rows n .., elements k .. of the sums. */
typedef struct block {
    const linear* t;
    const float* weights; // (weight rows, stride), widened, zeros up to stride
    float* sums;          // (rows, weight rows, lanes)
    int32_t stride;
    int32_t weight_rows;
    int32_t first_row;
    int32_t first_weight;
    int32_t k;
    int32_t length; /* of this part of k */
    int32_t begins; /* whether it is the first part */
    int32_t ends;   /* ... and the last */
} block;

/*
 * sums[m * nr + n] += a row m * weight row n over k elements, for the lanes of one register: those that a and weights
 * point to. a_stride and stride are floats; weights are zeros from k on.
 */
LM_INLINE void dot_part(vp* sums, int mr, int nr, const float* a, int64_t a_stride, const float* weights,
                        int64_t stride, int32_t k, int part) {
    int32_t i = 0;
    for (; i + LM_LANES <= k; i += LM_LANES) {
        vp w[LM_TILE_MOST];
        LM_UNROLL
        for (int n = 0; n < nr; n++) {
            w[n] = p_load(weights + n * stride + i + part * LM_PART_LANES);
        }
        LM_UNROLL
        for (int m = 0; m < mr; m++) {
            vp x = p_load(a + m * a_stride + i + part * LM_PART_LANES);
            LM_UNROLL
            for (int n = 0; n < nr; n++) {
                sums[m * nr + n] = p_fma(x, w[n], sums[m * nr + n]);
            }
        }
    }
    if (i < k) {
        LM_UNROLL
        for (int m = 0; m < mr; m++) {
            float tail[LM_LANES];
            v_store(tail, v_load_part(a + m * a_stride + i, k - i));
            vp x = p_load(tail + part * LM_PART_LANES);
            LM_UNROLL
            for (int n = 0; n < nr; n++) {
                vp w = p_load(weights + n * stride + i + part * LM_PART_LANES);
                sums[m * nr + n] = p_fma(x, w, sums[m * nr + n]);
            }
        }
    }
}

LM_INLINE void many_tile(const block* b, int mr, int nr, int32_t r, int32_t n) {
    const linear* t = b->t;
    const float* a = lm_row(t->run->step, &t->op->a, b->first_row + r) + b->k; // (mr, length)
    const float* weights = b->weights + (int64_t)n * b->stride;                // (nr, length)
    float* rest = b->sums + ((int64_t)r * b->weight_rows + n) * LM_LANES;      // (mr, nr, lanes)
    int64_t rest_stride = (int64_t)b->weight_rows * LM_LANES;
    for (int part = 0; part < LM_LANES / LM_PART_LANES; part++) {
        vp sums[LM_TILE_MOST * LM_TILE_MOST];
        float* rest_part = rest + part * LM_PART_LANES;
        LM_UNROLL
        for (int i = 0; i < mr; i++) {
            LM_UNROLL
            for (int j = 0; j < nr; j++) {
                sums[i * nr + j] = b->begins ? p_zero() : p_load(rest_part + i * rest_stride + j * LM_LANES);
            }
        }
        dot_part(sums, mr, nr, a, t->op->a.stride, weights, b->stride, b->length, part);
        LM_UNROLL
        for (int i = 0; i < mr; i++) {
            LM_UNROLL
            for (int j = 0; j < nr; j++) {
                p_store(rest_part + i * rest_stride + j * LM_LANES, sums[i * nr + j]);
            }
        }
    }
    if (b->ends) {
        LM_UNROLL
        for (int i = 0; i < mr; i++) {
            v sums[LM_TILE_MOST];
            LM_UNROLL
            for (int j = 0; j < nr; j++) {
                sums[j] = v_load(rest + i * rest_stride + j * LM_LANES);
            }
            finish(t, sums, 1, nr, b->first_row + r + i, b->first_weight + n);
        }
    }
}

/* mr rows with weight rows n to end - 1. */
LM_INLINE void many_tiles(const block* b, int mr, int32_t r, int32_t n, int32_t end) {
    for (; n + LM_BLOCK_TILE_WEIGHTS <= end; n += LM_BLOCK_TILE_WEIGHTS) {
        many_tile(b, mr, LM_BLOCK_TILE_WEIGHTS, r, n);
    }
    for (; n < end; n++) {
        many_tile(b, mr, 1, r, n);
    }
}

/* All rows of the block with weight rows n to end - 1, which stay in the first-level cache meanwhile. */
LM_INLINE void many_rows(const block* b, int32_t rows, int32_t n, int32_t end) {
    for (int32_t r = 0; r < rows;) {
        int32_t mr = rows - r < LM_BLOCK_TILE_ROWS ? rows - r : LM_BLOCK_TILE_ROWS;
        switch (mr) {
        case 1:
            many_tiles(b, 1, r, n, end);
            break;
        case 2:
            many_tiles(b, 2, r, n, end);
            break;
#if LM_BLOCK_TILE_ROWS >= 4
        case 3:
            many_tiles(b, 3, r, n, end);
            break;
        case 4:
            many_tiles(b, 4, r, n, end);
            break;
#endif
#if LM_BLOCK_TILE_ROWS >= 5
        case 5:
            many_tiles(b, 5, r, n, end);
            break;
#endif
        }
        r += mr;
    }
}

LM_INLINE void widen_row(float* to, const uint8_t* from, const linear* t, int32_t n, int32_t k, int32_t length,
                         int32_t dtype) {
    float room[LM_SPAN_SCALES];
    const float* scales = weight_scales(room, t->run->step, t->op, n, k, length, dtype);
    int32_t block = lm_scale_block(dtype);
    for (int32_t i = 0; i < length; i += LM_LANES) {
        const float* scale = block == 0 ? NULL : scales + i / block;
        v_store(to + i, weight_load(from + lm_weight_bytes(dtype, i), length - i, scale, dtype));
    }
}

/*
 * Widens `rows` rows of `length` elements from (n, k) on to f32, with zeros up to a multiple of LM_LANES: what an
 * earlier op left there could be a NaN, which not even a zero of the activations makes harmless.
 */
static void widen(float* out, const linear* t, int32_t n, int32_t rows, int32_t k, int32_t length, int32_t stride) {
    for (int32_t j = 0; j < rows; j++) {
        const uint8_t* from = t->weight + (n + j) * t->op->weight_stride + lm_weight_bytes(t->op->dtype, k); // (length)
        float* to = out + (int64_t)j * stride;                                                             // (stride)
        /* Pieces are too short for the processor to see them coming. */
        for (int64_t i = 0; i < lm_weight_bytes(t->op->dtype, length); i += LM_LINE) {
            LM_PREFETCH((uintptr_t)from + (uintptr_t)(2 * t->op->weight_stride + i));
        }
        switch (t->op->dtype) {
        case LM_DTYPE_F32:
            widen_row(to, from, t, n + j, k, length, LM_DTYPE_F32);
            break;
        case LM_DTYPE_F16:
            widen_row(to, from, t, n + j, k, length, LM_DTYPE_F16);
            break;
        case LM_DTYPE_BF16:
            widen_row(to, from, t, n + j, k, length, LM_DTYPE_BF16);
            break;
        case LM_DTYPE_F8_E4M3:
            widen_row(to, from, t, n + j, k, length, LM_DTYPE_F8_E4M3);
            break;
        default:
            widen_row(to, from, t, n + j, k, length, LM_DTYPE_MXFP4);
            break;
        }
    }
}

static void many_chunk(const void* work, int32_t index, int32_t thread) {
    const linear* t = work;
    int32_t row_block = index % t->row_blocks; /* rows change fastest: the weight block is still in the cache */
    int32_t weight_block = index / t->row_blocks;
    int32_t first_row = (int32_t)lm_part(t->row_tiles, row_block, t->row_blocks) * LM_BLOCK_TILE_ROWS;
    int32_t end_row = (int32_t)lm_part(t->row_tiles, row_block + 1, t->row_blocks) * LM_BLOCK_TILE_ROWS;
    int32_t rows = (end_row < t->rows ? end_row : t->rows) - first_row;
    int32_t first_weight = weight_block * BLOCK_WEIGHTS;
    int32_t left = t->op->weight_rows - first_weight;
    float* scratch = t->run->scratch + (int64_t)thread * THREAD_SCRATCH;
    block b = {
        .t = t,
        .weights = scratch,
        .sums = scratch + BLOCK_WEIGHTS * BLOCK_K,
        .stride = BLOCK_K,
        .weight_rows = left < BLOCK_WEIGHTS ? left : BLOCK_WEIGHTS,
        .first_row = first_row,
        .first_weight = first_weight,
    };
    for (b.k = 0; b.k < t->k; b.k += BLOCK_K) {
        b.length = t->k - b.k < BLOCK_K ? t->k - b.k : BLOCK_K;
        b.begins = b.k == 0;
        b.ends = b.k + b.length == t->k;
        widen(scratch, t, first_weight, b.weight_rows, b.k, b.length, b.stride);
        for (int32_t n = 0; n < b.weight_rows; n += LM_BLOCK_GROUP) {
            many_rows(&b, rows, n, b.weight_rows - n < LM_BLOCK_GROUP ? b.weight_rows : n + LM_BLOCK_GROUP);
        }
    }
}

/* ---------------------------------------------------------------------------------------------------------------- */

/* Whether the weight is read straight from the panel; each tile of rows decodes it again, which costs with scales. */
static int few(const lm_op* op, int32_t rows) {
    return rows <= (lm_scale_block(op->dtype) == 0 ? LM_FEW_ROWS : FEW_ROWS_SCALED);
}

int64_t LM_KERNEL(lm_linear_scratch)(const lm_step* step, const lm_op* op, int32_t threads) {
    return few(op, lm_row_count(step, op->row_set)) ? 0 : (int64_t)threads * THREAD_SCRATCH;
}

void LM_KERNEL(lm_linear)(const lm_run* run, const lm_op* op) {
    linear t = {
        .run = run,
        .op = op,
        .weight = (const uint8_t*)run->step->panel + op->weight_offset,
        .rows = lm_row_count(run->step, op->row_set),
        .k = op->a.width,
    };
    if (t.rows == 0) {
        return;
    }
    if (few(op, t.rows)) {
        int64_t bytes = op->weight_rows * lm_weight_bytes(op->dtype, op->a.width);
        int64_t chunks = (bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
        t.weight_blocks = (int32_t)(chunks < op->weight_rows ? chunks : op->weight_rows);
        lm_pool_run(run->pool, few_chunk, &t, t.weight_blocks);
    } else {
        t.row_tiles = (int32_t)(((int64_t)t.rows + LM_BLOCK_TILE_ROWS - 1) / LM_BLOCK_TILE_ROWS);
        t.row_blocks = (int32_t)(((int64_t)t.rows + BLOCK_ROWS - 1) / BLOCK_ROWS);
        t.weight_blocks = (int32_t)(((int64_t)op->weight_rows + BLOCK_WEIGHTS - 1) / BLOCK_WEIGHTS);
        lm_pool_run(run->pool, many_chunk, &t, t.row_blocks * t.weight_blocks);
    }
}
