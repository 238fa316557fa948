/*
 * weight_norm.cu: out[r, n] = a[r, n] / max(sqrt(sum over k of weight[n, k]^2), epsilon): a warp a weight row. A lane
 * adds up every 32nd block of the row, and warp_sum adds the lanes.
 */
#include "reduce.h"
#include "weight.h"

struct weight_norm_problem {
    matrix out; // (rows, weight rows)
    matrix a;   // (rows, weight rows)
    weight_matrix weight;
    float epsilon;
    int32_t rows;
};

/* Not __restrict__: out may be a. */
template <class T>
__global__ void __launch_bounds__(BLOCK_THREADS) weight_norm_kernel(weight_norm_problem p) {
    int32_t lane = threadIdx.x % WARP_LANES;
    for (int64_t n = first_item() / WARP_LANES; n < p.weight.rows; n += item_stride() / WARP_LANES) {
        stored_row row = row_of<T>(p.weight, n);
        float squares = 0.0f;
        for (int64_t b = lane; b * T::block < p.weight.k; b += WARP_LANES) {
            float w[T::block];
            if (p.weight.aligned && (b + 1) * T::block <= p.weight.k) {
                load_block<T, true>(w, p.weight, row, b);
            } else {
                load_block<T, false>(w, p.weight, row, b);
            }
#pragma unroll
            for (int i = 0; i < T::block; i++) {
                squares = fmaf(w[i], w[i], squares);
            }
        }
        float norm = sqrtf(warp_sum(squares));
        float divisor = norm < p.epsilon ? p.epsilon : norm; /* a NaN stays one */
        for (int32_t r = lane; r < p.rows; r += WARP_LANES) {
            p.out.data[r * p.out.stride + n] = p.a.data[r * p.a.stride + n] / divisor;
        }
    }
}

void weight_norm(const run& run, const lm_op& op) {
    with_weight_dtype(op.dtype, [&](auto type) {
        typedef decltype(type) T;
        weight_norm_problem p = {};
        p.out = view_matrix(run, op.out);
        p.a = view_matrix(run, op.a);
        p.weight = weight_of<T>(run, op, op.columns);
        p.epsilon = op.epsilon;
        p.rows = lm_row_count(run.step, op.row_set);
        LAUNCH(weight_norm_kernel<T>, block_count(p.weight.rows, BLOCK_THREADS / WARP_LANES), BLOCK_THREADS, 0,
               run.stream, p);
    });
}
