/* weight_norm.c: out[r, n] = a[r, n] / max(sqrt(sum over k of weight[n, k]^2), epsilon). */
#include "kernels.h"

#include "weight.h"

enum { CHUNK_BYTES = 256 << 10 }; /* weight of a chunk, about 20 us of reading */

typedef struct weight_norm {
    const lm_run* run;
    const lm_op* op;
    int32_t rows;
    int32_t chunks; /* of weight rows */
} weight_norm;

/* The canonical sum of the squares of weight row n. */
LM_INLINE float sum_of_squares(const lm_step* step, const lm_op* op, const uint8_t* row, int64_t n, int32_t dtype) {
    int32_t block = lm_scale_block(dtype);
    v squares = v_zero();
    for (int32_t span = 0; span < op->columns; span += LM_SPAN) {
        int32_t count = op->columns - span < LM_SPAN ? op->columns - span : LM_SPAN;
        float room[LM_SPAN_SCALES];
        const float* scales = weight_scales(room, step, op, n, span, count, dtype);
        for (int32_t k = 0; k < count; k += LM_LANES) {
            const float* scale = block == 0 ? NULL : scales + k / block;
            v x = weight_load(row + lm_weight_bytes(dtype, span + k), count - k, scale, dtype);
            squares = v_fma(x, x, squares);
        }
    }
    return v_sum(squares);
}

static float squares_of(const lm_step* step, const lm_op* op, const uint8_t* row, int64_t n) {
    switch (op->dtype) {
    case LM_DTYPE_F32:
        return sum_of_squares(step, op, row, n, LM_DTYPE_F32);
    case LM_DTYPE_F16:
        return sum_of_squares(step, op, row, n, LM_DTYPE_F16);
    case LM_DTYPE_BF16:
        return sum_of_squares(step, op, row, n, LM_DTYPE_BF16);
    case LM_DTYPE_F8_E4M3:
        return sum_of_squares(step, op, row, n, LM_DTYPE_F8_E4M3);
    default:
        return sum_of_squares(step, op, row, n, LM_DTYPE_MXFP4);
    }
}

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const weight_norm* t = work;
    const lm_op* op = t->op;
    const lm_step* step = t->run->step;
    const uint8_t* weight = (const uint8_t*)step->panel + op->weight_offset; // (weight_rows, columns) in dtype
    int64_t end = lm_part(op->weight_rows, index + 1, t->chunks);
    for (int64_t n = lm_part(op->weight_rows, index, t->chunks); n < end; n++) {
        float norm = sqrtf(squares_of(step, op, weight + n * op->weight_stride, n));
        float divisor = norm < op->epsilon ? op->epsilon : norm; /* a NaN stays one */
        for (int32_t r = 0; r < t->rows; r++) {
            lm_row(step, &op->out, r)[n] = lm_row(step, &op->a, r)[n] / divisor;
        }
    }
}

void LM_KERNEL(lm_weight_norm)(const lm_run* run, const lm_op* op) {
    weight_norm t = {run, op, lm_row_count(run->step, op->row_set), 1};
    int64_t bytes = op->weight_rows * lm_weight_bytes(op->dtype, op->columns);
    int64_t chunks = (bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
    t.chunks = (int32_t)(chunks < op->weight_rows ? chunks : op->weight_rows);
    if (t.rows > 0) {
        lm_pool_run(run->pool, chunk, &t, t.chunks);
    }
}
