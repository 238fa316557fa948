/*
 * linear.cu: out[r, n] = sum over k of a[r, k] * weight[n, k] + vector[n], in f32.
 *
 * A product is a sum in this order, for every number of rows, tile and address: k is cut in absolute segments of 1024
 * elements. In a segment, block b of a weight row (dtype.h) belongs to lane b mod 32 of a warp, which adds up its
 * products in order of k, from zero. Each lane adds its sums of the segments in their order, and warp_sum adds the
 * lanes.
 *
 * One row or a few need each weight once: what counts is how many bytes are on their way. So a warp has one weight row,
 * loads a segment of it at once, and the segments of a row are spread over the warps of a block. With more rows a warp
 * computes a tile of weight rows and rows.
 */
#include "reduce.h"
#include "weight.h"

enum {
    SEGMENT = 1024,
    LINEAR_WARPS = 4,              /* of a block that computes tiles */
    SPREAD_WARPS = 8,              /* of a block that has segments spread over it, at least ... */
    MOST_WARPS = 16,               /* ... and at most */
    MOST_SPREAD = (48 << 10) / 128 /* sums of all lanes of a warp that fit into shared memory */
};

struct linear_problem {
    matrix out; // (rows, weight rows)
    matrix a;   // (rows, k)
    weight_matrix weight;
    const float* bias; // (weight rows), or null
    int32_t rows;
    int32_t segments;
    int32_t warps; /* that the segments of a weight row are spread over */
    bool a_aligned;
};

/* The lane's products of a segment, added to sums. AHEAD blocks of each weight row are on their way together. */
template <class T, bool WHOLE, int AHEAD, int ROWS, int WEIGHT_ROWS>
__device__ __forceinline__ void add_products(float (&sums)[ROWS][WEIGHT_ROWS], const linear_problem& p,
                                             const float* const (&a)[ROWS], const stored_row (&weight)[WEIGHT_ROWS],
                                             int32_t segment) {
    int64_t first = (int64_t)segment * (SEGMENT / T::block) + threadIdx.x % WARP_LANES;
#pragma unroll 1
    for (int i = 0; i < SEGMENT / T::block / WARP_LANES; i += AHEAD) {
        float w[AHEAD][WEIGHT_ROWS][T::block];
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
#pragma unroll
            for (int n = 0; n < WEIGHT_ROWS; n++) {
                load_block<T, WHOLE>(w[j][n], p.weight, weight[n], first + (i + j) * WARP_LANES);
            }
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            int64_t k = (first + (i + j) * WARP_LANES) * T::block;
            int32_t count = WHOLE || p.weight.k - k >= T::block ? T::block : (int32_t)(p.weight.k - k);
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                float x[T::block];
                load_floats<T::block>(x, a[m] + k, count, WHOLE || p.a_aligned);
#pragma unroll
                for (int n = 0; n < WEIGHT_ROWS; n++) {
#pragma unroll
                    for (int e = 0; e < T::block; e++) {
                        sums[m][n] = fmaf(x[e], w[j][n][e], sums[m][n]);
                    }
                }
            }
        }
    }
}

template <class T, int AHEAD, int ROWS, int WEIGHT_ROWS>
__device__ __forceinline__ void add_segment(float (&sums)[ROWS][WEIGHT_ROWS], const linear_problem& p,
                                            const float* const (&a)[ROWS], const stored_row (&weight)[WEIGHT_ROWS],
                                            int32_t segment) {
    if (p.weight.aligned && p.a_aligned && segment < p.weight.k / SEGMENT) {
        add_products<T, true, AHEAD>(sums, p, a, weight, segment);
        return;
    }
    /* One weight row after the other: it takes fewer registers. */
#pragma unroll
    for (int n = 0; n < WEIGHT_ROWS; n++) {
        const stored_row one[1] = {weight[n]};
        float of_one[ROWS][1];
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            of_one[m][0] = sums[m][n];
        }
        add_products<T, false, 1>(of_one, p, a, one, segment);
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            sums[m][n] = of_one[m][0];
        }
    }
}

/* Every lane of a warp has its part of the sum. */
__device__ __forceinline__ void store_sum(const linear_problem& p, int32_t row, int32_t weight_row, float lane_sum) {
    float sum = warp_sum(lane_sum);
    if (threadIdx.x % WARP_LANES == 0 && row < p.rows && weight_row < p.weight.rows) {
        p.out.data[row * p.out.stride + weight_row] = p.bias == nullptr ? sum : sum + p.bias[weight_row];
    }
}

/* Rows and weight rows from these on; beyond the last one it is that one, and not stored. */
template <class T, int ROWS, int WEIGHT_ROWS>
__device__ __forceinline__ void tile_rows(const float* (&a)[ROWS], stored_row (&weight)[WEIGHT_ROWS],
                                          const linear_problem& p, int32_t row, int64_t first) {
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
        a[m] = p.a.data + (m < p.rows - row ? row + m : p.rows - 1) * p.a.stride; // (k)
    }
#pragma unroll
    for (int n = 0; n < WEIGHT_ROWS; n++) {
        weight[n] = row_of<T>(p.weight, first + n);
    }
}

/* -- tiles --------------------------------------------------------------------------------------------------------- */

template <class T, int TILE_ROWS, int TILE_WEIGHT_ROWS>
__device__ __forceinline__ void linear_tile(const linear_problem& p, int32_t row, int32_t weight_row) {
    const float* a[TILE_ROWS];
    stored_row weight[TILE_WEIGHT_ROWS];
    float totals[TILE_ROWS][TILE_WEIGHT_ROWS] = {};
    tile_rows<T>(a, weight, p, row, weight_row);
    for (int32_t segment = 0; segment < p.segments; segment++) {
        float sums[TILE_ROWS][TILE_WEIGHT_ROWS] = {};
        add_segment<T, 1>(sums, p, a, weight, segment);
#pragma unroll
        for (int m = 0; m < TILE_ROWS; m++) {
#pragma unroll
            for (int n = 0; n < TILE_WEIGHT_ROWS; n++) {
                totals[m][n] += sums[m][n];
            }
        }
    }
#pragma unroll
    for (int m = 0; m < TILE_ROWS; m++) {
#pragma unroll
        for (int n = 0; n < TILE_WEIGHT_ROWS; n++) {
            store_sum(p, row + m, weight_row + n, totals[m][n]);
        }
    }
}

/*
 * The warps of a block have the same rows of a, which come from the cache for all but one of them; neighbouring blocks
 * have the same weight rows, which come from memory once.
 */
template <class T, int TILE_ROWS, int TILE_WEIGHT_ROWS>
__global__ void __launch_bounds__(LINEAR_WARPS* WARP_LANES) tile_kernel(linear_problem p, int64_t items) {
    int32_t row_tiles = (p.rows - 1) / TILE_ROWS + 1;
    for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
        int64_t weight_row = (item / row_tiles * LINEAR_WARPS + threadIdx.x / WARP_LANES) * TILE_WEIGHT_ROWS;
        if (weight_row < p.weight.rows) {
            linear_tile<T, TILE_ROWS, TILE_WEIGHT_ROWS>(p, (int32_t)(item % row_tiles) * TILE_ROWS,
                                                        (int32_t)weight_row);
        }
    }
}

template <class T, int TILE_ROWS, int TILE_WEIGHT_ROWS>
static void launch_tiles(const linear_problem& p, cudaStream_t stream) {
    int64_t row_tiles = (p.rows - 1) / TILE_ROWS + 1;
    int64_t items = row_tiles * ((p.weight.rows - 1) / (TILE_WEIGHT_ROWS * LINEAR_WARPS) + 1);
    LAUNCH((tile_kernel<T, TILE_ROWS, TILE_WEIGHT_ROWS>), block_count(items, 1), LINEAR_WARPS * WARP_LANES, 0, stream,
           p, items);
}

/* -- segments spread over warps -------------------------------------------------------------------------------------
 */

/* A block has several weight rows where p.warps are few. */
template <class T, int ROWS>
__global__ void __launch_bounds__(MOST_WARPS* WARP_LANES) spread_kernel(linear_problem p) {
    DYNAMIC_SHARED(float, lane_sums); // (weight rows of the block, segments, ROWS, lanes)
    int32_t lane = threadIdx.x % WARP_LANES;
    int32_t warp = (int32_t)threadIdx.x / WARP_LANES;
    int32_t block_rows = (int32_t)blockDim.x / WARP_LANES / p.warps;
    float* own = lane_sums + (int64_t)(warp / p.warps) * p.segments * ROWS * WARP_LANES + lane;
    for (int64_t first = (int64_t)blockIdx.x * block_rows; first < p.weight.rows;
         first += (int64_t)gridDim.x * block_rows) {
        int64_t weight_row = first + warp / p.warps;
        const float* a[ROWS];
        stored_row weight[1];
        tile_rows<T>(a, weight, p, 0, weight_row);
        for (int32_t segment = warp % p.warps; weight_row < p.weight.rows && segment < p.segments; segment += p.warps) {
            float sums[ROWS][1] = {};
            add_segment<T, SEGMENT / T::block / WARP_LANES>(sums, p, a, weight, segment);
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                own[(segment * ROWS + m) * WARP_LANES] = sums[m][0];
            }
        }
        __syncthreads();
        if (warp % p.warps == 0 && weight_row < p.weight.rows) {
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                float total = 0.0f;
                for (int32_t segment = 0; segment < p.segments; segment++) {
                    total += own[(segment * ROWS + m) * WARP_LANES];
                }
                store_sum(p, m, (int32_t)weight_row, total);
            }
        }
        __syncthreads(); /* the next weight rows' sums have the same place */
    }
}

/* Whether the sums of ROWS rows fit. */
template <class T, int ROWS>
static bool launch_spread(linear_problem p, cudaStream_t stream) {
    p.warps = (p.segments - 1) / ((p.segments - 1) / MOST_WARPS + 1) + 1;
    int32_t block_rows = p.warps < SPREAD_WARPS ? SPREAD_WARPS / p.warps : 1;
    int64_t sums = (int64_t)block_rows * p.segments * ROWS;
    if (sums > MOST_SPREAD) {
        return false;
    }
    LAUNCH((spread_kernel<T, ROWS>), block_count(p.weight.rows, block_rows), block_rows * p.warps * WARP_LANES,
           (size_t)sums * WARP_LANES * sizeof(float), stream, p);
    return true;
}

void linear(const run& run, const lm_op& op) {
    if (linear_fast(run, op)) {
        return;
    }
    with_weight_dtype(op.dtype, [&](auto type) {
        typedef decltype(type) T;
        linear_problem p = {};
        p.out = view_matrix(run, op.out);
        p.a = view_matrix(run, op.a);
        p.weight = weight_of<T>(run, op, op.a.width);
        p.bias = op.vector;
        p.rows = lm_row_count(run.step, op.row_set);
        p.segments = (p.weight.k - 1) / SEGMENT + 1;
        p.a_aligned = view_aligned(op.a);
        if (!(p.rows == 1 && launch_spread<T, 1>(p, run.stream))
            && !(p.rows <= 4 && launch_spread<T, 4>(p, run.stream))) {
            launch_tiles<T, 8, 4>(p, run.stream);
        }
    });
}
