/* add.cu: out = a + b. */
#include "kernels.h"

/* Not __restrict__: out may be a or b. */
__global__ void __launch_bounds__(BLOCK_THREADS)
add_kernel(matrix out, matrix a, matrix b, int64_t width, int64_t items) {
    for (int64_t i = first_item(); i < items; i += item_stride()) {
        int64_t row = i / width;
        int64_t column = i % width;
        out.data[row * out.stride + column] = a.data[row * a.stride + column] + b.data[row * b.stride + column];
    }
}

void add(const run& run, const lm_op& op) {
    int64_t width = op.a.width;
    int64_t items = lm_row_count(run.step, op.row_set) * width;
    LAUNCH(add_kernel, block_count(items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream, view_matrix(run, op.out),
           view_matrix(run, op.a), view_matrix(run, op.b), width, items);
}
