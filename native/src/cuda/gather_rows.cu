/* gather_rows.cu: packs the rows whose logits are wanted. */
#include "kernels.h"

__global__ void __launch_bounds__(BLOCK_THREADS)
gather_rows_kernel(matrix out, matrix a, const int32_t* index, int64_t width, int64_t items) {
    for (int64_t i = first_item(); i < items; i += item_stride()) {
        int64_t column = i % width;
        out.data[i / width * out.stride + column] = a.data[index[i / width] * a.stride + column];
    }
}

void gather_rows(const run& run, const lm_op& op) {
    int64_t width = op.a.width;
    int64_t items = run.step->output_rows * width;
    LAUNCH(gather_rows_kernel, block_count(items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream,
           view_matrix(run, op.out), view_matrix(run, op.a), run.output_index, width, items);
}
