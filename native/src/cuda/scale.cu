/* scale.cu: out = a * scale * vector, or a * scale. */
#include "kernels.h"

/* Not __restrict__: out may be a. */
__global__ void __launch_bounds__(BLOCK_THREADS)
scale_kernel(matrix out, matrix a, const float* vector, float scale, int64_t width, int64_t items) {
    for (int64_t i = first_item(); i < items; i += item_stride()) {
        int64_t row = i / width;
        int64_t column = i % width;
        float x = a.data[row * a.stride + column] * scale;
        out.data[row * out.stride + column] = vector == nullptr ? x : x * vector[column];
    }
}

void scale(const run& run, const lm_op& op) {
    int64_t width = op.a.width;
    int64_t items = lm_row_count(run.step, op.row_set) * width;
    LAUNCH(scale_kernel, block_count(items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream, view_matrix(run, op.out),
           view_matrix(run, op.a), op.vector, op.scale, width, items);
}
