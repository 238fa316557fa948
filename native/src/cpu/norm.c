/*
 * norm.c: rms_norm: out = a / sqrt(mean(a^2) + epsilon) * vector in each of `heads` groups of a row; layer_norm is the
 * same of a - mean(a).
 */
#include "kernels.h"

static v mean_of(const float* a, int32_t width) {
    v sum = v_zero();
    for (int32_t i = 0; i < width; i += LM_LANES) {
        sum = v_add(sum, v_load_n(a + i, width - i));
    }
    return v_set(v_sum(sum) / (float)width);
}

/* Up to 16 elements less the mean; zeros in the lanes beyond them, which are no part of the variance. */
LM_INLINE v centered(const float* a, v mean, int32_t n) {
    v x = v_sub(v_load_n(a, n), mean);
    if (n < LM_LANES) {
        float lanes[LM_LANES];
        v_store(lanes, x);
        x = v_load_part(lanes, n);
    }
    return x;
}

/* The mean that is taken off is 0 for rms_norm, which changes no bit. */
static void norm(float* out, const float* a, const float* weight, int32_t width, v mean, float epsilon) {
    v squares = v_zero();
    for (int32_t i = 0; i < width; i += LM_LANES) {
        v x = centered(a + i, mean, width - i);
        squares = v_fma(x, x, squares);
    }
    v scale = v_set(1.0f / sqrtf(v_sum(squares) / (float)width + epsilon));
    for (int32_t i = 0; i < width; i += LM_LANES) {
        v x = v_mul(v_sub(v_load_n(a + i, width - i), mean), scale);
        if (weight != NULL) {
            x = v_mul(x, v_load_n(weight + i, width - i));
        }
        v_store_n(out + i, x, width - i);
    }
}

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    const lm_op* op = w->op;
    int32_t width = op->a.width / op->heads;
    int32_t weight_step = op->vector_length < op->a.width ? 0 : width; /* floats from that of one group to the next */
    for (int64_t r = lm_part(w->rows, index, w->chunks); r < lm_part(w->rows, index + 1, w->chunks); r++) {
        for (int32_t h = 0; h < op->heads; h++) {
            const float* a = lm_row(w->step, &op->a, r) + (int64_t)h * width; // (width)
            float* out = lm_row(w->step, &op->out, r) + (int64_t)h * width;   // (width)
            const float* weight = op->vector == NULL ? NULL : op->vector + (int64_t)h * weight_step; // (width)
            v mean = op->code == LM_OP_LAYER_NORM ? mean_of(a, width) : v_zero();
            norm(out, a, weight, width, mean, op->epsilon);
        }
    }
}

void LM_KERNEL(lm_norm)(const lm_run* run, const lm_op* op) {
    lm_run_rows(run, op, chunk, op->a.width);
}
