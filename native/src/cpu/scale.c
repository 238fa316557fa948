/* scale.c: out = a * scale * vector, or a * scale alone. */
#include "kernels.h"

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    const lm_op* op = w->op;
    int32_t width = op->a.width;
    v scale = v_set(op->scale);
    for (int64_t r = lm_part(w->rows, index, w->chunks); r < lm_part(w->rows, index + 1, w->chunks); r++) {
        const float* a = lm_row(w->step, &op->a, r); // (width)
        float* out = lm_row(w->step, &op->out, r);   // (width)
        for (int32_t i = 0; i < width; i += LM_LANES) {
            v x = v_mul(v_load_n(a + i, width - i), scale);
            if (op->vector != NULL) {
                x = v_mul(x, v_load_n(op->vector + i, width - i));
            }
            v_store_n(out + i, x, width - i);
        }
    }
}

void LM_KERNEL(lm_scale)(const lm_run* run, const lm_op* op) {
    lm_run_rows(run, op, chunk, op->a.width);
}
