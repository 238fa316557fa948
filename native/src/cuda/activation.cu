/* activation.cu: out = kind(a) * b, or kind(a) alone. */
#include "kernels.h"

struct activation_problem {
    matrix out;    // (rows, width)
    matrix a;      // (rows, width / share), or (rows, 2 * width) of pairs
    const float* b; // (rows, width), or null
    int64_t b_stride;
    int64_t width;
    int64_t share; /* neighbours that an element of a serves */
    int64_t items; /* rows * width */
    int32_t kind;
    float scale;
};

__device__ __forceinline__ float activate(float x, int32_t kind, float scale) {
    switch (kind) {
    case LM_ACTIVATION_SILU:
        return x / (1.0f + expf(-x));
    case LM_ACTIVATION_GELU:
        return x * 0.5f * (1.0f + erff(x * 0.70710678f));
    case LM_ACTIVATION_GELU_TANH:
        return x * 0.5f * (1.0f + tanhf(fmaf(x * x * x, 0.044715f, x) * 0.79788456f));
    case LM_ACTIVATION_SIGMOID:
        return 1.0f / (1.0f + expf(-x));
    case LM_ACTIVATION_RELU_SQUARED:
        return x < 0.0f ? 0.0f : x * x;
    case LM_ACTIVATION_QUICK_GELU:
        return x / (1.0f + expf(-1.702f * x));
    case LM_ACTIVATION_SOFT_CAP:
        return scale * tanhf(x / scale);
    case LM_ACTIVATION_IDENTITY:
        return x;
    default: /* LM_ACTIVATION_RELU; a NaN stays one */
        return x < 0.0f ? 0.0f : x;
    }
}

/* LM_ACTIVATION_CLAMPED_SWIGLU: a NaN stays one here too. */
__device__ __forceinline__ float clamped_swiglu(float x, float y, float limit) {
    x = x > limit ? limit : x;
    y = y > limit ? limit : y < -limit ? -limit : y;
    return x / (1.0f + expf(-1.702f * x)) * (y + 1.0f);
}

/* Not __restrict__: out may be a or b. */
__global__ void __launch_bounds__(BLOCK_THREADS) activation_kernel(activation_problem p) {
    for (int64_t i = first_item(); i < p.items; i += item_stride()) {
        int64_t row = i / p.width;
        int64_t column = i % p.width;
        const float* a = p.a.data + row * p.a.stride;
        float x = p.kind == LM_ACTIVATION_CLAMPED_SWIGLU
                      ? clamped_swiglu(a[2 * column], a[2 * column + 1], p.scale)
                      : activate(a[p.share == 1 ? column : column / p.share], p.kind, p.scale);
        p.out.data[row * p.out.stride + column] = p.b == nullptr ? x : x * p.b[row * p.b_stride + column];
    }
}

void activation(const run& run, const lm_op& op) {
    bool pairs = op.kind == LM_ACTIVATION_CLAMPED_SWIGLU;
    activation_problem p = {};
    p.out = view_matrix(run, op.out);
    p.a = view_matrix(run, op.a);
    p.b = pairs || op.b.width == 0 ? nullptr : view_matrix(run, op.b).data;
    p.b_stride = op.b.stride;
    p.width = op.out.width;
    p.share = pairs ? 1 : op.out.width / op.a.width;
    p.items = lm_row_count(run.step, op.row_set) * p.width;
    p.kind = op.kind;
    p.scale = op.scale;
    LAUNCH(activation_kernel, block_count(p.items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream, p);
}
