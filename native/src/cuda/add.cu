/* add.cu: out = a + scale * b, or a + vector. */
#include "kernels.h"

/* Not __restrict__: out may be a or b. The vector is a b of rows that are all the same: its stride is 0. */
__global__ void __launch_bounds__(BLOCK_THREADS)
add_kernel(matrix out, matrix a, const float* b, int64_t b_stride, float scale, int64_t width, int64_t items) {
    for (int64_t i = first_item(); i < items; i += item_stride()) {
        int64_t row = i / width;
        int64_t column = i % width;
        float x = a.data[row * a.stride + column];
        out.data[row * out.stride + column] = fmaf(b[row * b_stride + column], scale, x);
    }
}

void add(const run& run, const lm_op& op) {
    int64_t width = op.a.width;
    int64_t items = lm_row_count(run.step, op.row_set) * width;
    bool vector = op.b.width == 0;
    const float* b = vector ? op.vector : view_matrix(run, op.b).data;
    LAUNCH(add_kernel, block_count(items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream, view_matrix(run, op.out),
           view_matrix(run, op.a), b, vector ? 0 : op.b.stride, vector ? 1.0f : op.scale, width, items);
}
