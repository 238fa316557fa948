/* activation.c: out = kind(a) * b, or kind(a) alone. */
#include "kernels.h"

#include "vmath.h"

LM_INLINE v activate(v x, int32_t kind) {
    v one = v_set(1.0f);
    switch (kind) {
    case LM_ACTIVATION_SILU: /* x / (1 + exp(-x)) */
        return v_div(x, v_add(one, v_exp(v_sub(v_zero(), x))));
    case LM_ACTIVATION_GELU: /* x / 2 * (1 + erf(x / sqrt(2))) */
        return v_mul(v_mul(x, v_set(0.5f)), v_add(one, v_erf(v_mul(x, v_set(0.70710678f)))));
    case LM_ACTIVATION_GELU_TANH: { /* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */
        v inner = v_fma(v_mul(v_mul(x, x), x), v_set(0.044715f), x);
        return v_mul(v_mul(x, v_set(0.5f)), v_add(one, v_tanh(v_mul(inner, v_set(0.79788456f)))));
    }
    default: /* LM_ACTIVATION_RELU */
        return v_max(v_zero(), x);
    }
}

LM_INLINE void activate_row(float* out, const float* a, const float* b, int32_t width, int32_t kind) {
    for (int32_t i = 0; i < width; i += LM_LANES) {
        v x = activate(v_load_n(a + i, width - i), kind);
        if (b != NULL) {
            x = v_mul(x, v_load_n(b + i, width - i));
        }
        v_store_n(out + i, x, width - i);
    }
}

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    const lm_op* op = w->op;
    int32_t width = op->a.width;
    for (int64_t r = lm_part(w->rows, index, w->chunks); r < lm_part(w->rows, index + 1, w->chunks); r++) {
        const float* a = lm_row(w->step, &op->a, r);                           // (width)
        const float* b = op->b.width == 0 ? NULL : lm_row(w->step, &op->b, r); // (width)
        float* out = lm_row(w->step, &op->out, r);                             // (width)
        switch (op->kind) {
        case LM_ACTIVATION_SILU:
            activate_row(out, a, b, width, LM_ACTIVATION_SILU);
            break;
        case LM_ACTIVATION_GELU:
            activate_row(out, a, b, width, LM_ACTIVATION_GELU);
            break;
        case LM_ACTIVATION_GELU_TANH:
            activate_row(out, a, b, width, LM_ACTIVATION_GELU_TANH);
            break;
        default:
            activate_row(out, a, b, width, LM_ACTIVATION_RELU);
        }
    }
}

void LM_KERNEL(lm_activation)(const lm_run* run, const lm_op* op) {
    lm_run_rows(run, op, chunk, op->a.width * INT64_C(4));
}
