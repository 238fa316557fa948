/* rope.c: rotary position embedding: turns pairs of elements of each head by the angles of the row's position. */
#include "kernels.h"

/* (x, y) of each pair becomes (x cos - y sin, y cos + x sin). */
static void rotate_half(float* x, float* y, const uint8_t* cosines, const uint8_t* sines, int32_t pairs) {
    for (int32_t i = 0; i < pairs; i += LM_LANES) {
        int32_t n = pairs - i;
        v c = v_load_dtype(cosines + i * sizeof(float), n, LM_DTYPE_F32);
        v s = v_load_dtype(sines + i * sizeof(float), n, LM_DTYPE_F32);
        v x0 = v_load_n(x + i, n);
        v y0 = v_load_n(y + i, n);
        v_store_n(x + i, v_fma(x0, c, v_sub(v_zero(), v_mul(y0, s))), n);
        v_store_n(y + i, v_fma(y0, c, v_mul(x0, s)), n);
    }
}

static void rotate_interleaved(float* x, const uint8_t* cosines, const uint8_t* sines, int32_t pairs) {
    for (int32_t i = 0; i < pairs; i++) {
        float c;
        float s;
        memcpy(&c, cosines + i * sizeof c, sizeof c);
        memcpy(&s, sines + i * sizeof s, sizeof s);
        float x0 = x[2 * i];
        float y0 = x[2 * i + 1];
        x[2 * i] = fmaf(x0, c, 0.0f - y0 * s);
        x[2 * i + 1] = fmaf(y0, c, x0 * s);
    }
}

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    const lm_op* op = w->op;
    int32_t pairs = op->rotary_dim / 2;
    for (int64_t r = lm_part(w->rows, index, w->chunks); r < lm_part(w->rows, index + 1, w->chunks); r++) {
        const uint8_t* cosines = lm_input_row(w, r, op->rotary_dim * (int64_t)sizeof(float)); // (pairs) f32
        const uint8_t* sines = cosines + pairs * sizeof(float);                               // (pairs) f32
        float* row = lm_row(w->step, &op->out, r);                                            // (heads, head_dim)
        for (int32_t h = 0; h < op->heads; h++) {
            float* x = row + (int64_t)h * op->head_dim;
            if (op->kind == LM_ROPE_HALF) {
                rotate_half(x, x + pairs, cosines, sines, pairs);
            } else {
                rotate_interleaved(x, cosines, sines, pairs);
            }
        }
    }
}

void LM_KERNEL(lm_rope)(const lm_run* run, const lm_op* op) {
    lm_run_rows(run, op, chunk, op->a.width);
}
