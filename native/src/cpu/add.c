/* add.c: out = a + scale * b, with one rounding, or a + vector. */
#include "kernels.h"

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    const lm_op* op = w->op;
    int32_t width = op->a.width;
    int has_b = op->b.width > 0;
    v scale = v_set(has_b ? op->scale : 1.0f);
    for (int64_t r = lm_part(w->rows, index, w->chunks); r < lm_part(w->rows, index + 1, w->chunks); r++) {
        const float* a = lm_row(w->step, &op->a, r);                      // (width)
        const float* b = has_b ? lm_row(w->step, &op->b, r) : op->vector; // (width)
        float* out = lm_row(w->step, &op->out, r);                        // (width)
        for (int32_t i = 0; i < width; i += LM_LANES) {
            v sum = v_fma(v_load_n(b + i, width - i), scale, v_load_n(a + i, width - i));
            v_store_n(out + i, sum, width - i);
        }
    }
}

void LM_KERNEL(lm_add)(const lm_run* run, const lm_op* op) {
    lm_run_rows(run, op, chunk, op->a.width);
}
