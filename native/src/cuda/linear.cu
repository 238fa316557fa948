/*
 * linear.cu: out[r, n] = sum over k of a[r, k] * weight[n, k] + vector[n].
 *
 * A warp computes a tile of a few weight rows and rows of a. Chunk c of k (16 bytes of a weight row) belongs to lane
 * c mod 32, which adds up its products in order of k; warp_sum adds up the lanes. That order is the same for every
 * tile, address and number of rows.
 */
#include "dtype.h"
#include "kernels.h"
#include "reduce.h"

enum { LINEAR_WARPS = 4 };

struct linear_problem {
    matrix out;            // (rows, weight_rows)
    matrix a;              // (rows, k)
    const uint8_t* weight; // (weight_rows, k) of dtype
    int64_t weight_stride;
    const float* bias;     // (weight_rows), or null
    int32_t rows;
    int32_t weight_rows;
    int32_t k;
    bool a_aligned;
    bool weight_aligned;
};

template <class T, int TILE_ROWS, int TILE_WEIGHT_ROWS>
__device__ __forceinline__ void linear_tile(const linear_problem& p, int32_t row, int32_t weight_row) {
    constexpr int elements = chunk<T>::elements;
    int32_t lane = threadIdx.x % WARP_LANES;
    const float* a[TILE_ROWS];
    const uint8_t* weight[TILE_WEIGHT_ROWS];
    float sums[TILE_ROWS][TILE_WEIGHT_ROWS] = {};
    /* Rows beyond the last one are computed as that one, and not stored. */
#pragma unroll
    for (int m = 0; m < TILE_ROWS; m++) {
        a[m] = p.a.data + (m < p.rows - row ? row + m : p.rows - 1) * p.a.stride; // (k)
    }
#pragma unroll
    for (int n = 0; n < TILE_WEIGHT_ROWS; n++) {
        int32_t w = n < p.weight_rows - weight_row ? weight_row + n : p.weight_rows - 1;
        weight[n] = p.weight + w * p.weight_stride; // (k) of dtype
    }
    for (int64_t k = (int64_t)lane * elements; k < p.k; k += WARP_LANES * elements) {
        int32_t count = p.k - k < elements ? (int32_t)(p.k - k) : elements;
        float w[TILE_WEIGHT_ROWS][elements];
#pragma unroll
        for (int n = 0; n < TILE_WEIGHT_ROWS; n++) {
            load_chunk<T>(w[n], weight[n] + k * (int64_t)sizeof(typename T::bits), count, p.weight_aligned);
        }
#pragma unroll
        for (int m = 0; m < TILE_ROWS; m++) {
            float x[elements];
            load_floats<elements>(x, a[m] + k, count, p.a_aligned);
#pragma unroll
            for (int n = 0; n < TILE_WEIGHT_ROWS; n++) {
#pragma unroll
                for (int i = 0; i < elements; i++) {
                    sums[m][n] = fmaf(x[i], w[n][i], sums[m][n]);
                }
            }
        }
    }
#pragma unroll
    for (int m = 0; m < TILE_ROWS; m++) {
#pragma unroll
        for (int n = 0; n < TILE_WEIGHT_ROWS; n++) {
            float sum = warp_sum(sums[m][n]);
            if (lane == 0 && m < p.rows - row && n < p.weight_rows - weight_row) {
                p.out.data[(row + m) * p.out.stride + weight_row + n] =
                    p.bias == nullptr ? sum : sum + p.bias[weight_row + n];
            }
        }
    }
}

/*
 * The warps of a block have the same rows of a, which come from the cache for all but one of them; neighbouring blocks
 * have the same weight rows, which come from memory once.
 */
template <class T, int TILE_ROWS, int TILE_WEIGHT_ROWS>
__global__ void __launch_bounds__(LINEAR_WARPS * WARP_LANES) linear_kernel(linear_problem p, int64_t items) {
    int32_t row_tiles = (p.rows - 1) / TILE_ROWS + 1;
    for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
        int64_t weight_row = (item / row_tiles * LINEAR_WARPS + threadIdx.x / WARP_LANES) * TILE_WEIGHT_ROWS;
        if (weight_row < p.weight_rows) {
            linear_tile<T, TILE_ROWS, TILE_WEIGHT_ROWS>(p, (int32_t)(item % row_tiles) * TILE_ROWS,
                                                        (int32_t)weight_row);
        }
    }
}

template <class T, int TILE_ROWS, int TILE_WEIGHT_ROWS>
static void launch_linear(const linear_problem& p, cudaStream_t stream) {
    int64_t row_tiles = (p.rows - 1) / TILE_ROWS + 1;
    int64_t items = row_tiles * ((p.weight_rows - 1) / (TILE_WEIGHT_ROWS * LINEAR_WARPS) + 1);
    LAUNCH((linear_kernel<T, TILE_ROWS, TILE_WEIGHT_ROWS>), block_count(items, 1), LINEAR_WARPS * WARP_LANES, 0, stream,
           p, items);
}

void linear(const run& run, const lm_op& op) {
    linear_problem p = {};
    p.out = view_matrix(run, op.out);
    p.a = view_matrix(run, op.a);
    p.weight = (const uint8_t*)run.step->panel + op.weight_offset;
    p.weight_stride = op.weight_stride;
    p.bias = op.vector;
    p.rows = lm_row_count(run.step, op.row_set);
    p.weight_rows = op.weight_rows;
    p.k = op.a.width;
    p.a_aligned = view_aligned(op.a);
    p.weight_aligned = (uintptr_t)p.weight % 16 == 0 && op.weight_stride % 16 == 0;
    with_dtype(op.dtype, [&](auto type) {
        typedef decltype(type) T;
        if (p.rows == 1) {
            launch_linear<T, 1, 2>(p, run.stream);
        } else if (p.rows <= 4) {
            launch_linear<T, 4, 4>(p, run.stream);
        } else {
            launch_linear<T, 8, 4>(p, run.stream);
        }
    });
}
