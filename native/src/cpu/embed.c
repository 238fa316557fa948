/* embed.c: rows of the embedding table, converted to f32. */
#include "kernels.h"

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    const lm_op* op = w->op;
    int32_t width = op->out.width;
    int64_t element = lm_dtype_bytes(op->dtype);
    for (int64_t r = lm_part(w->rows, index, w->chunks); r < lm_part(w->rows, index + 1, w->chunks); r++) {
        const uint8_t* in = lm_input_row(w, r, width * element); // (width) of dtype
        float* out = lm_row(w->step, &op->out, r);               // (width)
        for (int32_t i = 0; i < width; i += LM_LANES) {
            v_store_n(out + i, v_load_dtype(in + i * element, width - i, op->dtype), width - i);
        }
    }
}

void LM_KERNEL(lm_embed)(const lm_run* run, const lm_op* op) {
    lm_run_rows(run, op, chunk, op->out.width);
}
