/* gather_rows.c: packs the rows whose logits are wanted, or those that chose an expert. */
#include "kernels.h"

static void scale_row(float* out, const float* a, int32_t width, float weight) {
    for (int32_t i = 0; i < width; i += LM_LANES) {
        v_store_n(out + i, v_mul(v_load_n(a + i, width - i), v_set(weight)), width - i);
    }
}

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    const lm_op* op = w->op;
    int weighted = op->row_set == LM_ROWS_LIST && op->kind == LM_ROWS_WEIGHTED;
    for (int64_t r = lm_part(w->rows, index, w->chunks); r < lm_part(w->rows, index + 1, w->chunks); r++) {
        const float* a = lm_row(w->step, &op->a, lm_step_row(w->step, op->row_set, (int32_t)r)); // (width)
        float* out = lm_row(w->step, &op->out, r);                                               // (width)
        if (weighted) {
            scale_row(out, a, op->a.width, w->step->list_weights[w->step->list_first + r]);
        } else {
            memcpy(out, a, (size_t)op->a.width * sizeof(float));
        }
    }
}

void LM_KERNEL(lm_gather_rows)(const lm_run* run, const lm_op* op) {
    lm_run_rows(run, op, chunk, op->a.width);
}
