/* activation.c: out = kind(a) * b, or kind(a) alone. */
#include "kernels.h"

#include "vmath.h"

LM_INLINE v activate(v x, int32_t kind, float scale) {
    v one = v_set(1.0f);
    switch (kind) {
    case LM_ACTIVATION_SILU:
        return v_swish(x, 1.0f);
    case LM_ACTIVATION_GELU: /* x / 2 * (1 + erf(x / sqrt(2))) */
        return v_mul(v_mul(x, v_set(0.5f)), v_add(one, v_erf(v_mul(x, v_set(0.70710678f)))));
    case LM_ACTIVATION_GELU_TANH: { /* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */
        v inner = v_fma(v_mul(v_mul(x, x), x), v_set(0.044715f), x);
        return v_mul(v_mul(x, v_set(0.5f)), v_add(one, v_tanh(v_mul(inner, v_set(0.79788456f)))));
    }
    case LM_ACTIVATION_RELU:
        return v_max(v_zero(), x);
    case LM_ACTIVATION_SIGMOID:
        return v_div(one, v_add(one, v_exp(v_sub(v_zero(), x))));
    case LM_ACTIVATION_IDENTITY:
        return x;
    case LM_ACTIVATION_RELU_SQUARED: {
        v positive = v_max(v_zero(), x);
        return v_mul(positive, positive);
    }
    case LM_ACTIVATION_QUICK_GELU:
        return v_swish(x, 1.702f);
    default: /* LM_ACTIVATION_SOFT_CAP */
        return v_mul(v_set(scale), v_tanh(v_div(x, v_set(scale))));
    }
}

LM_INLINE void activate_row(const lm_op* op, float* out, const float* a, const float* b, int32_t kind) {
    int32_t width = op->out.width;
    for (int32_t i = 0; i < width; i += LM_LANES) {
        v x = activate(v_load_n(a + i, width - i), kind, op->scale);
        if (b != NULL) {
            x = v_mul(x, v_load_n(b + i, width - i));
        }
        v_store_n(out + i, x, width - i);
    }
}

/* Each element of a serves some neighbours of b. */
LM_INLINE void broadcast_row(const lm_op* op, float* out, const float* a, const float* b, int32_t kind) {
    int32_t neighbours = op->out.width / op->a.width;
    for (int32_t i = 0; i < op->a.width; i += LM_LANES) {
        int32_t n = op->a.width - i < LM_LANES ? op->a.width - i : LM_LANES;
        float factors[LM_LANES];
        v_store(factors, activate(v_load_n(a + i, n), kind, op->scale));
        for (int32_t j = 0; j < n; j++) {
            int64_t at = (int64_t)(i + j) * neighbours;
            for (int32_t k = 0; k < neighbours; k += LM_LANES) {
                v x = v_mul(v_set(factors[j]), v_load_n(b + at + k, neighbours - k));
                v_store_n(out + at + k, x, neighbours - k);
            }
        }
    }
}

/* min and max have the operand that may be NaN as their second. */
static void clamped_swiglu_row(const lm_op* op, float* out, const float* a) {
    int32_t width = op->out.width;
    v limit = v_set(op->scale);
    v lowest = v_set(-op->scale);
    for (int32_t i = 0; i < width; i += LM_LANES) {
        float pairs[2][LM_LANES] = {0};
        for (int32_t j = 0; j < LM_LANES && i + j < width; j++) {
            pairs[0][j] = a[2 * (int64_t)(i + j)];
            pairs[1][j] = a[2 * (int64_t)(i + j) + 1];
        }
        v x = v_min(limit, v_load(pairs[0]));
        v y = v_max(lowest, v_min(limit, v_load(pairs[1])));
        v_store_n(out + i, v_mul(v_swish(x, 1.702f), v_add(y, v_set(1.0f))), width - i);
    }
}

LM_INLINE void activate_rows(const lm_rows* w, int32_t index, int32_t kind) {
    const lm_op* op = w->op;
    for (int64_t r = lm_part(w->rows, index, w->chunks); r < lm_part(w->rows, index + 1, w->chunks); r++) {
        const float* a = lm_row(w->step, &op->a, r);                           // (a.width)
        const float* b = op->b.width == 0 ? NULL : lm_row(w->step, &op->b, r); // (out.width)
        float* out = lm_row(w->step, &op->out, r);                             // (out.width)
        if (kind == LM_ACTIVATION_CLAMPED_SWIGLU) {
            clamped_swiglu_row(op, out, a);
        } else if (op->a.width == op->out.width) {
            activate_row(op, out, a, b, kind);
        } else {
            broadcast_row(op, out, a, b, kind);
        }
    }
}

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    switch (w->op->kind) {
    case LM_ACTIVATION_SILU:
        activate_rows(w, index, LM_ACTIVATION_SILU);
        break;
    case LM_ACTIVATION_GELU:
        activate_rows(w, index, LM_ACTIVATION_GELU);
        break;
    case LM_ACTIVATION_GELU_TANH:
        activate_rows(w, index, LM_ACTIVATION_GELU_TANH);
        break;
    case LM_ACTIVATION_RELU:
        activate_rows(w, index, LM_ACTIVATION_RELU);
        break;
    case LM_ACTIVATION_SIGMOID:
        activate_rows(w, index, LM_ACTIVATION_SIGMOID);
        break;
    case LM_ACTIVATION_IDENTITY:
        activate_rows(w, index, LM_ACTIVATION_IDENTITY);
        break;
    case LM_ACTIVATION_RELU_SQUARED:
        activate_rows(w, index, LM_ACTIVATION_RELU_SQUARED);
        break;
    case LM_ACTIVATION_QUICK_GELU:
        activate_rows(w, index, LM_ACTIVATION_QUICK_GELU);
        break;
    case LM_ACTIVATION_SOFT_CAP:
        activate_rows(w, index, LM_ACTIVATION_SOFT_CAP);
        break;
    default:
        activate_rows(w, index, LM_ACTIVATION_CLAMPED_SWIGLU);
        break;
    }
}

void LM_KERNEL(lm_activation)(const lm_run* run, const lm_op* op) {
    lm_run_rows(run, op, chunk, op->out.width * INT64_C(4));
}
