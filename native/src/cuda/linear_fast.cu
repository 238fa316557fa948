/*
 * linear_fast.cu: linear on tensor cores: activations are rounded once to the type of the weights, products are summed
 * in f32.
 *
 * A product is a sum in this order, for every number of rows, tile, panel and address: k is cut in absolute segments of
 * 512 elements. In a segment the tensor cores add up 16 elements at a time (8 where they can do no more), from zero, in
 * order of k; the sums of the segments are then added in their order in f32, and the bias last. Of 32 elements the
 * first step takes those with k mod 8 < 4: with the same elements of a and of the weight in every step it does not
 * matter which, and so each lane has eight that lie together.
 *
 * Weights are the tensor cores' first operand (16 rows), activations the second (8 columns): out^T = weight a^T. Both
 * are staged in shared memory as they are stored, and made registers there (dtype.h).
 *
 * Up to 8 rows need each weight once: what counts is how many bytes are on their way. So a unit of work is one segment
 * of 16 weight rows, a warp has one unit with a ring of stages of its own, and whichever warp is the last one of a tile
 * adds up the segments. With more rows a block computes a tile of weight rows and rows; where there are too few tiles
 * for the GPU, segments are spread over blocks and another kernel adds them up.
 */
#include "reduce.h"
#include "weight.h"

enum {
    SEGMENT = 512,
    UNIT = 32,             /* elements of k whose operands a lane loads together: two steps of the tensor cores */
    UNIT_BYTES = UNIT * 2, /* of activations */
    MMA_ROWS = 16,
    MMA_COLUMNS = 8,
    ROUND_THREADS = 256,
    JOIN_AHEAD = 16, /* sums of segments that are on their way together */
    FEW_WARPS = 4,
    FEW_SHARED = 48 << 10, /* bytes for stages: what every GPU gives without being asked for more */
    TILE_SHARED = 64 << 10 /* the same, where it is asked */
};

/* How rows of a weight are staged: by groups of whole units and blocks, of 32 bytes at least. */
template <class T>
struct staged {
    static constexpr int unit_bytes = UNIT * T::block_bytes / T::block;
    static constexpr int elements = T::block > UNIT ? T::block : unit_bytes < 32 ? 2 * UNIT : UNIT;
    static constexpr int bytes = elements / T::block * T::block_bytes;
    static constexpr int units = elements / UNIT;
    static constexpr int of_segment = SEGMENT / elements;
    static_assert(elements % T::block == 0 && SEGMENT % elements == 0 && bytes % 16 == 0,
                  "staged in pieces of 16 bytes");
};

struct fast_problem {
    matrix out;        // (rows, weight rows)
    matrix a;          // (rows, k)
    uint16_t* rounded; // (rows, rounded_stride): a as operands, zeros behind k
    int64_t rounded_stride;
    weight_matrix weight;
    const float* bias; // (weight rows), or null
    float* partials;   // (segments, rows, weight rows): sums of segments
    unsigned* arrivals; // (tiles of 16 weight rows): units that are done; 0 before and after
    int32_t rows;
    int32_t segments;
    int32_t groups; /* staged<T>, the last one may be part of one */
    int32_t splits; /* blocks that the segments of a tile are spread over */
    bool a_aligned;
    bool weight_aligned;
};

/* -- staging ------------------------------------------------------------------------------------------------------- */

/*
 * Stages ROWS rows of PARTS parts, of which the first `rows` rows are there and `bytes` bytes of each, and zeros for
 * the others: (PARTS, ROWS, PART_BYTES) in shared memory. So the 16 bytes that a lane takes of a part lie one after the
 * other in order of lanes, and all banks are busy.
 */
template <int ROWS, int PARTS, int PART_BYTES, int THREADS>
__device__ __forceinline__ void stage(uint8_t* to, const uint8_t* from, int64_t stride, int32_t rows, int64_t bytes,
                                      bool aligned, int32_t thread) {
    constexpr int part_pieces = PART_BYTES / 16;
    constexpr int pieces = PARTS * part_pieces;
    static_assert(ROWS * pieces % THREADS == 0, "as many pieces for every thread");
#pragma unroll
    for (int i = 0; i < ROWS * pieces / THREADS; i++) {
        int32_t row = (i * THREADS + thread) / pieces;
        int32_t piece = (i * THREADS + thread) % pieces;
        uint8_t* slot = to + piece / part_pieces * (ROWS * PART_BYTES) + row * PART_BYTES + piece % part_pieces * 16;
        int64_t left = row < rows ? bytes - piece * 16 : 0;
        int32_t valid = left >= 16 ? 16 : left > 0 ? (int32_t)left : 0;
        const uint8_t* source = valid > 0 ? from + row * stride + piece * 16 : from;
        if (aligned) {
            copy_async(slot, source, valid);
        } else {
            alignas(16) uint8_t x[16];
            load_bytes<16>(x, source, valid);
            memcpy(slot, x, sizeof x);
        }
    }
}

/* -- fragments ----------------------------------------------------------------------------------------------------- */

/* What a lane has of 16 weight rows and a unit: its octet of rows lane / 4 and lane / 4 + 8. */
struct weight_unit {
    uint32_t low[OCTET / 2];
    uint32_t high[OCTET / 2];
};

/*
 * `group` is staged: rows of staged<T>::bytes, of which the first one is this weight row; what the unit begins with is
 * element k. Scales are not staged: the 32 elements of a unit have one.
 */
template <class T>
__device__ __forceinline__ void load_weights(weight_unit& out, const fast_problem& p, const uint8_t* group, int unit,
                                             int64_t weight_row, int64_t k) {
    int32_t lane = threadIdx.x % WARP_LANES;
    int32_t element = unit * UNIT + lane % 4 * OCTET;
    const uint8_t* block = group + lane / 4 * staged<T>::bytes + element / T::block * T::block_bytes;
    bool there = k < p.weight.k;
    float low = there ? T::scale(row_of<T>(p.weight, weight_row + lane / 4).scales, k) : 0.0f;
    float high = there ? T::scale(row_of<T>(p.weight, weight_row + lane / 4 + MMA_COLUMNS).scales, k) : 0.0f;
    load_operand<T>(out.low, block, element % T::block / OCTET, low);
    load_operand<T>(out.high, block + MMA_COLUMNS * staged<T>::bytes, element % T::block / OCTET, high);
}

/* sums (16 weight rows, 8 rows) += the products of a unit; b: the lane's octet of row lane / 4. */
template <class T>
__device__ __forceinline__ void add_products(float* sums, const weight_unit& w, const uint32_t* b) {
#pragma unroll
    for (int step = 0; step < 2; step++) {
        uint32_t a[4] = {w.low[2 * step], w.high[2 * step], w.low[2 * step + 1], w.high[2 * step + 1]};
        T::operand::mma(sums, a, b + 2 * step);
    }
}

/* -- sums of segments ---------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float* partial(const fast_problem& p, int64_t segment, int64_t row, int64_t weight_row) {
    return p.partials + (segment * p.rows + row) * p.weight.rows + weight_row;
}

__device__ __forceinline__ void store_total(const fast_problem& p, int64_t row, int64_t weight_row, float total) {
    p.out.data[row * p.out.stride + weight_row] = p.bias == nullptr ? total : total + p.bias[weight_row];
}

/* Calls store(row, weight row, value) for the four sums that a lane has of 16 weight rows and 8 rows, if they are
 * there. */
template <class F>
__device__ __forceinline__ void each_sum(const fast_problem& p, int64_t row, int64_t weight_row, const float* sums,
                                         const F& store) {
    int32_t lane = threadIdx.x % WARP_LANES;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int64_t r = row + lane % 4 * 2 + i % 2;
        int64_t w = weight_row + lane / 4 + i / 2 * MMA_COLUMNS;
        if (r < p.rows && w < p.weight.rows) {
            store(r, w, sums[i]);
        }
    }
}

/* Adds up the segments of an output; other blocks have stored them. */
__device__ __forceinline__ void join_segments(const fast_problem& p, int64_t row, int64_t weight_row) {
    float total = 0.0f;
    for (int32_t segment = 0; segment < p.segments; segment += JOIN_AHEAD) {
        float sums[JOIN_AHEAD];
#pragma unroll
        for (int i = 0; i < JOIN_AHEAD; i++) {
            sums[i] = segment + i < p.segments ? __ldcg(partial(p, segment + i, row, weight_row)) : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < JOIN_AHEAD; i++) {
            total = segment + i < p.segments ? total + sums[i] : total;
        }
    }
    store_total(p, row, weight_row, total);
}

__global__ void __launch_bounds__(BLOCK_THREADS) join_kernel(fast_problem p, int64_t outputs) {
    for (int64_t i = first_item(); i < outputs; i += item_stride()) {
        join_segments(p, i / p.weight.rows, i % p.weight.rows);
    }
}

/* -- up to 8 rows ---------------------------------------------------------------------------------------------------
 */

template <class T>
struct few {
    static constexpr int stage_groups = staged<T>::elements >= 2 * UNIT ? 1 : 2; /* 128 bytes of a row of 16 bits */
    static constexpr int stage_bytes = stage_groups * MMA_ROWS * staged<T>::bytes;
    static constexpr int stages = FEW_SHARED / FEW_WARPS / stage_bytes;
    static constexpr int of_segment = staged<T>::of_segment / stage_groups;
    static_assert(staged<T>::of_segment % stage_groups == 0 && stages >= 2, "whole stages, and more than one");
};

template <class T>
__device__ __forceinline__ void stage_few(uint8_t* to, const fast_problem& p, int64_t weight_row, int64_t group) {
    stage<MMA_ROWS, few<T>::stage_groups, staged<T>::bytes, WARP_LANES>(
        to, p.weight.data + weight_row * p.weight.stride + group * staged<T>::bytes, p.weight.stride,
        (int32_t)(p.weight.rows - weight_row), p.weight.row_bytes - group * staged<T>::bytes, p.weight_aligned,
        threadIdx.x % WARP_LANES);
}

/* The lane's octets of row lane / 4 in a segment, rounded here; zeros where there is no such row. */
template <class T>
__device__ __forceinline__ void load_rows(uint32_t (&out)[SEGMENT / UNIT][OCTET / 2], const fast_problem& p,
                                          int64_t segment) {
    int32_t lane = threadIdx.x % WARP_LANES;
    int64_t first = segment * SEGMENT + lane % 4 * OCTET;
    bool there = lane / 4 < p.rows;
    const float* a = p.a.data + (there ? lane / 4 : 0) * p.a.stride; // (k)
    bool whole = p.a_aligned && segment < p.weight.k / SEGMENT;
#pragma unroll
    for (int u = 0; u < SEGMENT / UNIT; u++) {
        int64_t k = first + u * UNIT;
        float x[OCTET] = {};
        if (there) {
            int32_t count = whole || p.weight.k - k >= OCTET ? OCTET : (int32_t)(p.weight.k - k);
            load_floats<OCTET>(x, a + k, count, p.a_aligned);
        }
        round_octet<typename T::operand>(out[u], x);
    }
}

template <class T>
__global__ void __launch_bounds__(FEW_WARPS* WARP_LANES) few_kernel(fast_problem p, int64_t units) {
    DYNAMIC_SHARED(uint8_t, shared); // (FEW_WARPS, stages, stage_bytes)
    typedef few<T> f;
    int32_t lane = threadIdx.x % WARP_LANES;
    int32_t warp = (int32_t)threadIdx.x / WARP_LANES;
    uint8_t* ring = shared + warp * f::stages * f::stage_bytes;
    for (int64_t unit = (int64_t)blockIdx.x * FEW_WARPS + warp; unit < units; unit += (int64_t)gridDim.x * FEW_WARPS) {
        int64_t tile = unit / p.segments;
        int64_t segment = unit % p.segments;
        int64_t first = segment * staged<T>::of_segment;
        int32_t groups = p.groups - first < staged<T>::of_segment ? (int32_t)(p.groups - first) : staged<T>::of_segment;
        __syncwarp(); /* the last unit's stages have been read */
#pragma unroll
        for (int s = 0; s < f::stages - 1; s++) {
            if (s < f::of_segment && s * f::stage_groups < groups) {
                stage_few<T>(ring + s * f::stage_bytes, p, tile * MMA_ROWS, first + s * f::stage_groups);
            }
            copy_async_commit();
        }
        uint32_t rows[SEGMENT / UNIT][OCTET / 2];
        load_rows<T>(rows, p, segment);
        float sums[4] = {};
#pragma unroll
        for (int s = 0; s < f::of_segment; s++) {
            if (s * f::stage_groups >= groups) {
                break;
            }
            copy_async_wait<f::stages - 2>();
            __syncwarp(); /* the stage is there for all lanes, and the one before has been read */
            int next = s + f::stages - 1;
            if (next * f::stage_groups < groups) {
                stage_few<T>(ring + next % f::stages * f::stage_bytes, p, tile * MMA_ROWS,
                             first + next * f::stage_groups);
            }
            copy_async_commit();
#pragma unroll
            for (int g = 0; g < f::stage_groups; g++) {
                if (s * f::stage_groups + g < groups) {
#pragma unroll
                    for (int u = 0; u < staged<T>::units; u++) {
                        weight_unit w;
                        int64_t k = (first + s * f::stage_groups + g) * staged<T>::elements + u * UNIT;
                        load_weights<T>(w, p, ring + s % f::stages * f::stage_bytes + g * MMA_ROWS * staged<T>::bytes,
                                        u, tile * MMA_ROWS, k);
                        add_products<T>(sums, w, rows[(s * f::stage_groups + g) * staged<T>::units + u]);
                    }
                }
            }
        }
        each_sum(p, 0, tile * MMA_ROWS, sums, [&](int64_t row, int64_t weight_row, float x) {
            *partial(p, segment, row, weight_row) = x;
        });
        __threadfence(); /* the sums are there for all blocks before the unit counts as done: each lane's, ... */
        __syncwarp();
        unsigned before = 0;
        if (lane == 0) {
            __threadfence(); /* ... and what this lane has seen of the others' */
            before = atomicAdd(&p.arrivals[tile], 1u);
        }
        if (__shfl_sync(0xffffffffu, before, 0) == (unsigned)p.segments - 1) {
            __threadfence();
            for (int32_t i = lane; i < MMA_ROWS * p.rows; i += WARP_LANES) {
                int64_t weight_row = tile * MMA_ROWS + i % MMA_ROWS;
                if (weight_row < p.weight.rows) {
                    join_segments(p, i / MMA_ROWS, weight_row);
                }
            }
            if (lane == 0) {
                p.arrivals[tile] = 0;
            }
        }
    }
}

/* -- more rows ------------------------------------------------------------------------------------------------------
 */

template <class OPERAND>
__global__ void __launch_bounds__(ROUND_THREADS) round_kernel(fast_problem p, int64_t octets) {
    int64_t row_octets = p.rounded_stride / OCTET;
    for (int64_t i = first_item(); i < octets; i += item_stride()) {
        int64_t row = i / row_octets;
        int64_t k = i % row_octets * OCTET;
        float x[OCTET];
        int32_t count = p.weight.k - k < OCTET ? (int32_t)(p.weight.k - k) : OCTET;
        load_floats<OCTET>(x, p.a.data + row * p.a.stride + k, count, p.a_aligned);
        uint32_t rounded[OCTET / 2];
        round_octet<OPERAND>(rounded, x);
        uint4 raw;
        memcpy(&raw, rounded, sizeof raw);
        *(uint4*)(p.rounded + row * p.rounded_stride + k) = raw;
    }
}

/* A block's tile: its warps along weight rows and along rows, and how many 16 x 8 products each of them has there. */
template <class T, int WARPS_W, int WARPS_R, int MMAS_W, int MMAS_R>
struct tile {
    static constexpr int threads = WARPS_W * WARPS_R * WARP_LANES;
    static constexpr int weight_rows = WARPS_W * MMAS_W * MMA_ROWS;
    static constexpr int rows = WARPS_R * MMAS_R * MMA_COLUMNS;
    static constexpr int weight_bytes = weight_rows * staged<T>::bytes; /* of a stage, which is a group */
    static constexpr int stage_bytes = weight_bytes + rows * staged<T>::units * UNIT_BYTES;
    static constexpr int stages = TILE_SHARED / stage_bytes;
    static_assert(stages >= 2, "one is computed while another comes");
};

template <class T, int WARPS_W, int WARPS_R, int MMAS_W, int MMAS_R>
__global__ void __launch_bounds__(WARPS_W* WARPS_R* WARP_LANES) tile_kernel(fast_problem p, int64_t items) {
    DYNAMIC_SHARED(uint8_t, shared); // (stages, stage_bytes)
    typedef tile<T, WARPS_W, WARPS_R, MMAS_W, MMAS_R> t;
    int32_t warp = (int32_t)threadIdx.x / WARP_LANES;
    int32_t warp_weight_row = warp % WARPS_W * MMAS_W * MMA_ROWS;
    int32_t warp_row = warp / WARPS_W * MMAS_R * MMA_COLUMNS;
    int64_t row_tiles = (p.rows - 1) / t::rows + 1;
    for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
        /* Neighbouring blocks have the same weight rows, which come from memory once. */
        int64_t row = item % row_tiles * t::rows;
        int64_t weight_row = item / row_tiles / p.splits * t::weight_rows;
        int64_t split = item / row_tiles % p.splits;
        int64_t first_segment = p.segments * split / p.splits;
        int64_t last_segment = p.segments * (split + 1) / p.splits;
        int64_t first = first_segment * staged<T>::of_segment;
        int64_t last =
            last_segment * staged<T>::of_segment < p.groups ? last_segment * staged<T>::of_segment : p.groups;
        const uint8_t* weight = p.weight.data + weight_row * p.weight.stride;
        const uint8_t* rounded = (const uint8_t*)(p.rounded + row * p.rounded_stride);
        auto bring = [&](int64_t group) {
            uint8_t* to = shared + (uint32_t)(group - first) % t::stages * t::stage_bytes;
            stage<t::weight_rows, 1, staged<T>::bytes, t::threads>(
                to, weight + group * staged<T>::bytes, p.weight.stride, (int32_t)(p.weight.rows - weight_row),
                p.weight.row_bytes - group * staged<T>::bytes, p.weight_aligned, threadIdx.x);
            stage<t::rows, staged<T>::units, UNIT_BYTES, t::threads>(
                to + t::weight_bytes, rounded + group * staged<T>::units * UNIT_BYTES, p.rounded_stride * 2,
                (int32_t)(p.rows - row), staged<T>::units * UNIT_BYTES, true, threadIdx.x);
        };
        float totals[MMAS_W][MMAS_R][4] = {};
        float sums[MMAS_W][MMAS_R][4] = {};
        __syncthreads(); /* the last item's stages have been read */
#pragma unroll
        for (int s = 0; s < t::stages - 1; s++) {
            if (first + s < last) {
                bring(first + s);
            }
            copy_async_commit();
        }
#pragma unroll 1
        for (int64_t group = first; group < last; group++) {
            copy_async_wait<t::stages - 2>();
            __syncthreads(); /* the stage is there for all threads, and the one before has been read */
            if (group + t::stages - 1 < last) {
                bring(group + t::stages - 1);
            }
            copy_async_commit();
            const uint8_t* staged_here = shared + (uint32_t)(group - first) % t::stages * t::stage_bytes;
            const uint8_t* weights = staged_here + warp_weight_row * staged<T>::bytes;
            const uint8_t* octets =
                staged_here + t::weight_bytes + warp_row * UNIT_BYTES + threadIdx.x % WARP_LANES * (OCTET * 2);
#pragma unroll
            for (int u = 0; u < staged<T>::units; u++) {
                uint32_t b[MMAS_R][OCTET / 2];
#pragma unroll
                for (int r = 0; r < MMAS_R; r++) {
                    uint4 raw = *(const uint4*)(octets + (u * t::rows + r * MMA_COLUMNS) * UNIT_BYTES);
                    memcpy(b[r], &raw, sizeof raw);
                }
#pragma unroll
                for (int w = 0; w < MMAS_W; w++) {
                    weight_unit a;
                    load_weights<T>(a, p, weights + w * MMA_ROWS * staged<T>::bytes, u,
                                    weight_row + warp_weight_row + w * MMA_ROWS,
                                    group * staged<T>::elements + u * UNIT);
#pragma unroll
                    for (int r = 0; r < MMAS_R; r++) {
                        add_products<T>(sums[w][r], a, b[r]);
                    }
                }
            }
            if ((group + 1) % staged<T>::of_segment != 0 && group + 1 < last) {
                continue;
            }
            int64_t segment = group / staged<T>::of_segment;
#pragma unroll
            for (int w = 0; w < MMAS_W; w++) {
#pragma unroll
                for (int r = 0; r < MMAS_R; r++) {
                    if (p.splits > 1) {
                        each_sum(p, row + warp_row + r * MMA_COLUMNS, weight_row + warp_weight_row + w * MMA_ROWS,
                                 sums[w][r], [&](int64_t at_row, int64_t at_weight_row, float x) {
                                     *partial(p, segment, at_row, at_weight_row) = x;
                                 });
                    }
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        totals[w][r][i] += sums[w][r][i];
                        sums[w][r][i] = 0.0f;
                    }
                }
            }
        }
        if (p.splits > 1) {
            continue;
        }
#pragma unroll
        for (int w = 0; w < MMAS_W; w++) {
#pragma unroll
            for (int r = 0; r < MMAS_R; r++) {
                each_sum(p, row + warp_row + r * MMA_COLUMNS, weight_row + warp_weight_row + w * MMA_ROWS, totals[w][r],
                         [&](int64_t at_row, int64_t at_weight_row, float x) {
                             store_total(p, at_row, at_weight_row, x);
                         });
            }
        }
    }
}

/* -- which way ------------------------------------------------------------------------------------------------------
 */

#define SMALL_TILE 2, 2, 2, 4 /* 64 weight rows, 64 rows */
#define LARGE_TILE 2, 4, 4, 4 /* 128 weight rows, 128 rows */
enum { FEW_ROWS = MMA_COLUMNS, SMALL_ROWS = 64, LARGE_ROWS = 128 };

/* How a product is computed. */
struct fast_plan {
    int64_t groups;
    int64_t segments;
    int64_t rounded_bytes;
    int64_t partials; /* floats */
    int32_t arrivals;
    int32_t splits;
    int32_t rows;      /* that are computed at once */
    int32_t tile_rows; /* of a block: 8, 64 or 128 */
};

static int64_t tiles_of(int64_t rows, int64_t weight_rows, int64_t tile_rows) {
    return ((rows - 1) / tile_rows + 1) * ((weight_rows - 1) / tile_rows + 1);
}

template <class T>
static fast_plan plan_of(const gpu& on, int64_t rows, const lm_op& op) {
    fast_plan plan = {};
    plan.groups = (op.a.width - 1) / staged<T>::elements + 1;
    plan.segments = (op.a.width - 1) / SEGMENT + 1;
    plan.rows = (int32_t)rows;
    plan.splits = 1;
    if (rows <= FEW_ROWS) {
        plan.tile_rows = FEW_ROWS;
        plan.arrivals = (op.weight_rows - 1) / MMA_ROWS + 1;
        plan.partials = plan.segments * rows * op.weight_rows;
        return plan;
    }
    plan.rounded_bytes = rows * plan.groups * staged<T>::elements * 2;
    bool large = rows > SMALL_ROWS && tiles_of(rows, op.weight_rows, LARGE_ROWS) * plan.segments >= on.processors;
    plan.tile_rows = large ? LARGE_ROWS : SMALL_ROWS;
    if (tiles_of(rows, op.weight_rows, plan.tile_rows) * 2 > on.processors || plan.segments == 1) {
        return plan;
    }
    int64_t at_once = MOST_PARTIALS / (plan.segments * op.weight_rows) / plan.tile_rows * plan.tile_rows;
    at_once = at_once < rows ? at_once : rows;
    if (at_once > 0) { /* else even a single tile's would be too many */
        int64_t splits = on.processors / tiles_of(at_once, op.weight_rows, plan.tile_rows);
        plan.rows = (int32_t)at_once;
        plan.splits = (int32_t)(splits < plan.segments ? splits : plan.segments);
        plan.partials = plan.segments * at_once * op.weight_rows;
    }
    return plan;
}

template <class T, int WARPS_W, int WARPS_R, int MMAS_W, int MMAS_R>
static void launch_tiles(const fast_problem& p, cudaStream_t stream) {
    typedef tile<T, WARPS_W, WARPS_R, MMAS_W, MMAS_R> t;
    int64_t items = tiles_of(p.rows, p.weight.rows, t::rows) * p.splits;
    LAUNCH((tile_kernel<T, WARPS_W, WARPS_R, MMAS_W, MMAS_R>), block_count(items, 1), t::threads,
           t::stages * t::stage_bytes, stream, p, items);
    if (p.splits > 1) {
        int64_t outputs = (int64_t)p.rows * p.weight.rows;
        LAUNCH(join_kernel, block_count(outputs, BLOCK_THREADS), BLOCK_THREADS, 0, stream, p, outputs);
    }
}

/* Calls f with an object of the weight's struct, if the GPU has tensor cores for it; gives what f gives, else none. */
template <class R, class F>
static R with_operand(const gpu& on, int32_t dtype, const R& none, const F& f) {
    R result = none;
    with_weight_dtype(dtype, [&](auto type) {
        typedef typename decltype(type)::operand operand;
        if constexpr (!std::is_void<operand>::value) {
            if (on.fast && on.capability >= operand::capability) {
                result = f(type);
            }
        }
    });
    return result;
}

fast_memory linear_fast_memory(const gpu& on, const lm_step& step, const lm_op& op) {
    int32_t rows = lm_row_count(&step, op.row_set);
    if (rows == 0) {
        return fast_memory();
    }
    return with_operand(on, op.dtype, fast_memory(), [&](auto type) {
        fast_plan plan = plan_of<decltype(type)>(on, rows, op);
        return fast_memory{plan.rounded_bytes + plan.partials * (int64_t)sizeof(float), plan.arrivals};
    });
}

bool linear_fast(const run& run, const lm_op& op) {
    return with_operand(run.on, op.dtype, false, [&](auto type) {
        typedef decltype(type) T;
        int32_t rows = lm_row_count(run.step, op.row_set);
        fast_plan plan = plan_of<T>(run.on, rows, op);
        fast_problem p = {};
        p.out = view_matrix(run, op.out);
        p.a = view_matrix(run, op.a);
        p.rounded = (uint16_t*)run.scratch;
        p.rounded_stride = plan.groups * staged<T>::elements;
        p.weight = weight_of<T>(run, op, op.a.width);
        p.bias = op.vector;
        p.partials = (float*)(run.scratch + plan.rounded_bytes);
        p.arrivals = run.arrivals;
        p.rows = rows;
        p.segments = (int32_t)plan.segments;
        p.groups = (int32_t)plan.groups;
        p.splits = plan.splits;
        p.a_aligned = view_aligned(op.a);
        p.weight_aligned = (uintptr_t)p.weight.data % 16 == 0 && p.weight.stride % 16 == 0;
        if (plan.tile_rows == FEW_ROWS) {
            int64_t units = plan.arrivals * plan.segments;
            LAUNCH(few_kernel<T>, block_count(units, FEW_WARPS), FEW_WARPS * WARP_LANES,
                   FEW_WARPS * few<T>::stages * few<T>::stage_bytes, run.stream, p, units);
            return true;
        }
        int64_t octets = rows * (p.rounded_stride / OCTET);
        LAUNCH(round_kernel<typename T::operand>, block_count(octets, ROUND_THREADS), ROUND_THREADS, 0, run.stream, p,
               octets);
        for (int32_t first = 0; first < rows; first += plan.rows) {
            fast_problem part = p;
            part.rounded += first * p.rounded_stride;
            part.out.data += first * p.out.stride;
            part.rows = rows - first < plan.rows ? rows - first : plan.rows;
            if (plan.tile_rows == SMALL_ROWS) {
                launch_tiles<T, SMALL_TILE>(part, run.stream);
            } else {
                launch_tiles<T, LARGE_TILE>(part, run.stream);
            }
        }
        return true;
    });
}

template <class T, int WARPS_W, int WARPS_R, int MMAS_W, int MMAS_R>
static cudaError_t ask_shared() {
    typedef tile<T, WARPS_W, WARPS_R, MMAS_W, MMAS_R> t;
    return cudaFuncSetAttribute(tile_kernel<T, WARPS_W, WARPS_R, MMAS_W, MMAS_R>,
                                cudaFuncAttributeMaxDynamicSharedMemorySize, t::stages * t::stage_bytes);
}

cudaError_t linear_fast_prepare(int32_t* compiled_for) {
    gpu any = {INT32_MAX, 0, true};
    cudaFuncAttributes attributes = {};
    cudaError_t error = cudaFuncGetAttributes(&attributes, few_kernel<bf16>);
    *compiled_for = attributes.ptxVersion;
    for (int32_t dtype = 0; dtype <= LM_DTYPE_MXFP4 && error == cudaSuccess; dtype++) {
        error = with_operand(any, dtype, cudaSuccess, [](auto type) {
            cudaError_t small = ask_shared<decltype(type), SMALL_TILE>();
            return small == cudaSuccess ? ask_shared<decltype(type), LARGE_TILE>() : small;
        });
    }
    return error;
}
