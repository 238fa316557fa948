/*
 * linear_transposed.cu: out[r, n] = start + a[r, 0] * weight[0, n] + a[r, 1] * weight[1, n] + ..., in f32.
 *
 * Each output is one chain of fused multiply-adds in order of k, from a start that may be what an earlier panel left in
 * out: so neither the cut into panels nor the other rows decide its bits. A thread has a column of some rows; those of
 * a warp read neighbouring columns, and a thread has the weights of AHEAD elements of k on their way together.
 */
#include "kernels.h"
#include "weight.h"

enum { ROWS = 4, AHEAD = 16, COLUMN_THREADS = 64 };

struct transposed_problem {
    matrix out;           // (rows, columns)
    matrix a;             // (rows, k)
    weight_matrix weight; // (k, columns)
    const float* start;   // (columns), or null
    int32_t rows;
    int32_t columns;
    bool accumulate;
};

/* The products of COUNT elements of k, from k on, added to the sums. */
template <class T, int COUNT>
__device__ __forceinline__ void add_products(float (&sums)[ROWS], const transposed_problem& p,
                                             const float* const (&a)[ROWS], int32_t column, int32_t k) {
    float w[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        stored_row row = row_of<T>(p.weight, k + i);
        w[i] = load_element<T>(row.data + column * (int64_t)sizeof(typename T::bits));
        if constexpr (T::scale_rows != 0) {
            w[i] *= T::scale(row.scales, column);
        }
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            sums[m] = fmaf(a[m][k + i], w[i], sums[m]);
        }
    }
}

template <class T>
__global__ void __launch_bounds__(COLUMN_THREADS) transposed_kernel(transposed_problem p, int64_t items) {
    for (int64_t item = first_item(); item < items; item += item_stride()) {
        int32_t column = (int32_t)(item % p.columns);
        int32_t first = (int32_t)(item / p.columns) * ROWS;
        const float* a[ROWS];
        float sums[ROWS];
#pragma unroll
        for (int m = 0; m < ROWS; m++) { /* beyond the last row it is that one, and not stored */
            int64_t row = first + m < p.rows ? first + m : p.rows - 1;
            a[m] = p.a.data + row * p.a.stride; // (k)
            sums[m] = p.accumulate          ? p.out.data[row * p.out.stride + column]
                      : p.start == nullptr ? 0.0f
                                            : p.start[column];
        }
        int32_t k = 0;
        for (; k + AHEAD <= p.weight.rows; k += AHEAD) {
            add_products<T, AHEAD>(sums, p, a, column, k);
        }
        for (; k < p.weight.rows; k++) {
            add_products<T, 1>(sums, p, a, column, k);
        }
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            if (first + m < p.rows) {
                p.out.data[(int64_t)(first + m) * p.out.stride + column] = sums[m];
            }
        }
    }
}

void linear_transposed(const run& run, const lm_op& op) {
    with_weight_dtype(op.dtype, [&](auto type) {
        typedef decltype(type) T;
        if constexpr (!std::is_same<T, mxfp4>::value) { /* api.c lets none of those through */
            transposed_problem p = {};
            p.out = view_matrix(run, op.out);
            p.a = view_matrix(run, op.a);
            p.weight = weight_of<T>(run, op, op.out.width);
            p.start = op.vector;
            p.rows = lm_row_count(run.step, op.row_set);
            p.columns = op.out.width;
            p.accumulate = op.accumulate != 0;
            int64_t items = (int64_t)((p.rows - 1) / ROWS + 1) * p.columns;
            LAUNCH(transposed_kernel<T>, block_count(items, COLUMN_THREADS), COLUMN_THREADS, 0, run.stream, p, items);
        }
    });
}
