/*
 * norm.cu: out = a / sqrt(mean(a^2) + epsilon) * vector in each of `heads` groups of a row, and layer_norm, which is
 * the same of a - mean(a): a block a group.
 */
#include "kernels.h"
#include "reduce.h"

enum { MOST_NORM_THREADS = 512, FLOATS_PER_THREAD = 8 };

struct norm_problem {
    matrix out;          // (rows, groups * width)
    matrix a;            // (rows, groups * width)
    const float* vector; // (width), or (groups * width), or null
    int32_t groups;
    int32_t width;
    int32_t vector_step; /* floats from the vector of one group to that of the next */
    float epsilon;
    int64_t items; /* rows * groups */
};

/* Not __restrict__: out may be a. Each thread writes what it alone has read. */
template <bool CENTERED>
__global__ void __launch_bounds__(MOST_NORM_THREADS) norm_kernel(norm_problem p) {
    for (int64_t item = blockIdx.x; item < p.items; item += gridDim.x) {
        int64_t row = item / p.groups;
        int64_t group = item % p.groups;
        const float* x = p.a.data + row * p.a.stride + group * p.width; // (width)
        float* y = p.out.data + row * p.out.stride + group * p.width;   // (width)
        const float* weight = p.vector == nullptr ? nullptr : p.vector + group * p.vector_step; // (width)
        float mean = 0.0f;
        if constexpr (CENTERED) {
            float sum = 0.0f;
            for (int32_t i = threadIdx.x; i < p.width; i += blockDim.x) {
                sum += x[i];
            }
            mean = block_sum(sum) / (float)p.width;
        }
        float squares = 0.0f;
        for (int32_t i = threadIdx.x; i < p.width; i += blockDim.x) {
            float d = x[i] - mean;
            squares = fmaf(d, d, squares);
        }
        float scale = 1.0f / sqrtf(block_sum(squares) / (float)p.width + p.epsilon);
        for (int32_t i = threadIdx.x; i < p.width; i += blockDim.x) {
            float d = (x[i] - mean) * scale;
            y[i] = weight == nullptr ? d : d * weight[i];
        }
    }
}

static norm_problem norm_of(const run& run, const lm_op& op) {
    norm_problem p = {};
    p.out = view_matrix(run, op.out);
    p.a = view_matrix(run, op.a);
    p.vector = op.vector;
    p.groups = op.heads;
    p.width = op.a.width / op.heads;
    p.vector_step = op.vector_length == p.width ? 0 : p.width;
    p.epsilon = op.epsilon;
    p.items = (int64_t)lm_row_count(run.step, op.row_set) * op.heads;
    return p;
}

/* The threads decide the order of a sum: they depend on the width alone. */
static unsigned threads_for(int32_t width) {
    unsigned threads = WARP_LANES;
    while (threads < MOST_NORM_THREADS && (int64_t)threads * FLOATS_PER_THREAD < width) {
        threads *= 2;
    }
    return threads;
}

void rms_norm(const run& run, const lm_op& op) {
    norm_problem p = norm_of(run, op);
    LAUNCH(norm_kernel<false>, block_count(p.items, 1), threads_for(p.width), 0, run.stream, p);
}

void layer_norm(const run& run, const lm_op& op) {
    norm_problem p = norm_of(run, op);
    LAUNCH(norm_kernel<true>, block_count(p.items, 1), threads_for(p.width), 0, run.stream, p);
}
