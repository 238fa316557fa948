/*
 * convolution.cu: out[t, c] = kind(sum over j < K of vector[c * K + j] * a[t - K + 1 + j, c]) over the rows of each
 * sequence in their order. A thread has a column of a sequence: the K - 1 elements before a row are its part of the
 * state, and move on with every row.
 */
#include "kernels.h"

struct convolution_problem {
    matrix out;           // (rows, width)
    matrix a;             // (rows, width)
    const float* weights; // (width, taps)
    int32_t taps;
    int32_t rows;
    int64_t width;
    int64_t items;           /* sequences * width */
    const int32_t* index;    // (rows), or null
    const int32_t* sequence; // of the step
    const int32_t* states;   // (sequences)
    const kv_cache* caches;  // (sequences)
    bool silu;
};

__global__ void __launch_bounds__(BLOCK_THREADS) convolution_kernel(convolution_problem p) {
    for (int64_t item = first_item(); item < p.items; item += item_stride()) {
        int32_t sequence = (int32_t)(item / p.width);
        int64_t column = item % p.width;
        state_halves state = halves_of(p.caches[sequence], p.states[sequence]); // (taps - 1, width)
        const float* weights = p.weights + column * p.taps;                     // (taps)
        const float* last = state.before;
        for (int32_t r = 0; r < p.rows; r++) {
            if (p.sequence[p.index == nullptr ? r : p.index[r]] != sequence) {
                continue;
            }
            float sum = 0.0f;
            for (int32_t j = 0; j < p.taps - 1; j++) {
                float x = last == nullptr ? 0.0f : last[j * p.width + column];
                sum = fmaf(weights[j], x, sum);
                if (j > 0) {
                    state.after[(j - 1) * p.width + column] = x;
                }
            }
            float x = p.a.data[r * p.a.stride + column];
            sum = fmaf(weights[p.taps - 1], x, sum);
            state.after[(p.taps - 2) * p.width + column] = x;
            last = state.after;
            p.out.data[r * p.out.stride + column] = p.silu ? sum / (1.0f + expf(-sum)) : sum;
        }
    }
}

void convolution(const run& run, const lm_op& op) {
    convolution_problem p = {};
    p.out = view_matrix(run, op.out);
    p.a = view_matrix(run, op.a);
    p.weights = op.vector;
    p.taps = run.step->kv[0]->layers[op.layer].shape.head_dim + 1;
    p.rows = lm_row_count(run.step, op.row_set);
    p.width = op.a.width;
    p.items = run.step->sequences * p.width;
    p.index = row_index(run, op.row_set);
    p.sequence = run.sequence;
    p.states = run.states;
    p.caches = run.caches + (int64_t)op.layer * run.step->sequences;
    p.silu = op.kind == LM_ACTIVATION_SILU;
    LAUNCH(convolution_kernel, block_count(p.items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream, p);
}
