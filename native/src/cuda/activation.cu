/* activation.cu: out = kind(a) * b, or kind(a) alone. */
#include "kernels.h"

__device__ __forceinline__ float activate(float x, int32_t kind) {
    switch (kind) {
    case LM_ACTIVATION_SILU:
        return x / (1.0f + expf(-x));
    case LM_ACTIVATION_GELU:
        return x * 0.5f * (1.0f + erff(x * 0.70710678f));
    case LM_ACTIVATION_GELU_TANH:
        return x * 0.5f * (1.0f + tanhf(fmaf(x * x * x, 0.044715f, x) * 0.79788456f));
    default: /* LM_ACTIVATION_RELU; a NaN stays one */
        return x < 0.0f ? 0.0f : x;
    }
}

/* Not __restrict__: out may be a or b. */
__global__ void __launch_bounds__(BLOCK_THREADS)
activation_kernel(matrix out, matrix a, matrix b, int32_t kind, int64_t width, int64_t items) {
    for (int64_t i = first_item(); i < items; i += item_stride()) {
        int64_t row = i / width;
        int64_t column = i % width;
        float x = activate(a.data[row * a.stride + column], kind);
        out.data[row * out.stride + column] = b.data == nullptr ? x : x * b.data[row * b.stride + column];
    }
}

void activation(const run& run, const lm_op& op) {
    matrix none = {nullptr, 0};
    int64_t width = op.a.width;
    int64_t items = lm_row_count(run.step, op.row_set) * width;
    LAUNCH(activation_kernel, block_count(items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream,
           view_matrix(run, op.out), view_matrix(run, op.a), op.b.width == 0 ? none : view_matrix(run, op.b), op.kind,
           width, items);
}
