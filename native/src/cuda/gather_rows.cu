/* gather_rows.cu: packs rows of the step, and scatter_add: adds packed rows to rows of the step. */
#include "kernels.h"

/* weights: a factor of each packed row, or null. */
__global__ void __launch_bounds__(BLOCK_THREADS)
gather_rows_kernel(matrix out, matrix a, const int32_t* index, const float* weights, int64_t width, int64_t items) {
    for (int64_t i = first_item(); i < items; i += item_stride()) {
        int64_t row = i / width;
        int64_t column = i % width;
        float x = a.data[index[row] * a.stride + column];
        out.data[row * out.stride + column] = weights == nullptr ? x : x * weights[row];
    }
}

/* The rows behind the packed ones differ: nobody else adds to what a thread adds to. */
__global__ void __launch_bounds__(BLOCK_THREADS)
scatter_add_kernel(matrix out, matrix a, const int32_t* index, const float* weights, int64_t width, int64_t items) {
    for (int64_t i = first_item(); i < items; i += item_stride()) {
        int64_t row = i / width;
        int64_t column = i % width;
        float* to = out.data + index[row] * out.stride + column;
        *to = fmaf(a.data[row * a.stride + column], weights == nullptr ? 1.0f : weights[row], *to);
    }
}

static const float* weights_of(const run& run, const lm_op& op) {
    return op.row_set == LM_ROWS_LIST && op.kind == LM_ROWS_WEIGHTED ? run.list_weights : nullptr;
}

void gather_rows(const run& run, const lm_op& op) {
    int64_t width = op.a.width;
    int64_t items = lm_row_count(run.step, op.row_set) * width;
    LAUNCH(gather_rows_kernel, block_count(items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream,
           view_matrix(run, op.out), view_matrix(run, op.a), row_index(run, op.row_set), weights_of(run, op), width,
           items);
}

void scatter_add(const run& run, const lm_op& op) {
    int64_t width = op.a.width;
    int64_t items = lm_row_count(run.step, op.row_set) * width;
    LAUNCH(scatter_add_kernel, block_count(items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream,
           view_matrix(run, op.out), view_matrix(run, op.a), row_index(run, op.row_set), weights_of(run, op), width,
           items);
}
