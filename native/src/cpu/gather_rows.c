/* gather_rows.c: packs the rows whose logits are wanted. */
#include "kernels.h"

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    const lm_op* op = w->op;
    for (int64_t r = lm_part(w->rows, index, w->chunks); r < lm_part(w->rows, index + 1, w->chunks); r++) {
        memcpy(lm_row(w->step, &op->out, r), lm_row(w->step, &op->a, w->step->output_index[r]),
               (size_t)op->a.width * sizeof(float));
    }
}

void LM_KERNEL(lm_gather_rows)(const lm_run* run, const lm_op* op) {
    lm_run_rows(run, op, chunk, op->a.width);
}
