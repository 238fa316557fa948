/* rms_norm.cu: out = a / sqrt(mean(a^2) + epsilon) * vector, in each of `heads` groups of a row: a block a group. */
#include "kernels.h"
#include "reduce.h"

enum { MOST_NORM_THREADS = 512, FLOATS_PER_THREAD = 8 };

/* Not __restrict__: out may be a. Each thread writes what it alone has read. */
__global__ void __launch_bounds__(MOST_NORM_THREADS)
rms_norm_kernel(matrix out, matrix a, const float* weight, int32_t groups, int32_t width, float epsilon,
                int64_t items) {
    for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
        int64_t row = item / groups;
        int64_t column = item % groups * width;
        const float* x = a.data + row * a.stride + column; // (width)
        float* y = out.data + row * out.stride + column;   // (width)
        float squares = 0.0f;
        for (int32_t i = threadIdx.x; i < width; i += blockDim.x) {
            squares = fmaf(x[i], x[i], squares);
        }
        float scale = 1.0f / sqrtf(block_sum(squares) / (float)width + epsilon);
        for (int32_t i = threadIdx.x; i < width; i += blockDim.x) {
            y[i] = x[i] * scale * weight[i];
        }
    }
}

void rms_norm(const run& run, const lm_op& op) {
    matrix out = view_matrix(run, op.out); // (rows, heads * width)
    matrix a = view_matrix(run, op.a);     // (rows, heads * width)
    int32_t width = op.a.width / op.heads;
    int64_t items = (int64_t)lm_row_count(run.step, op.row_set) * op.heads;
    /* The threads decide the order of a sum: they depend on the width alone. */
    unsigned threads = WARP_LANES;
    while (threads < MOST_NORM_THREADS && (int64_t)threads * FLOATS_PER_THREAD < width) {
        threads *= 2;
    }
    LAUNCH(rms_norm_kernel, block_count(items, 1), threads, 0, run.stream, out, a, op.vector, op.heads, width,
           op.epsilon, items);
}
