/*
 * attention.cu: out = softmax(scale * q k^T) v over the positions that a row sees.
 *
 * Positions are taken in absolute blocks of 128 with a running maximum (online softmax, Milakov & Gimelshein 2018), and
 * the blocks in absolute segments of 1024, each begun afresh; segments are then joined in their order. So the bits of a
 * row depend on its position and window alone: not on how the prompt was cut into sweeps, nor on whether one block of
 * threads took all segments or each another, as they do where a step has too few rows to fill a GPU. Places where
 * positions lie decide nothing: a row's branch has the bits of a plain sequence, and so has a cache that keeps the last
 * positions only. A sink comes last: it is a position of its own, without a value.
 */
#include "dtype.h"
#include "kernels.h"
#include "reduce.h"

enum {
    ATTENTION_THREADS = 128, /* a position each for the scores, then two elements each of the values */
    VALUES = 2 * ATTENTION_THREADS,
    SEGMENT = 1024,
    MOST_SHARED_QUERY = 8192, /* floats of a query that is kept in shared memory */
    STATE = VALUES + 2,       /* floats of a state in scratch memory */
    FEW_ITEMS = 1024,         /* up to so many, segments are spread over blocks ... */
    MOST_SPREAD = 16384,      /* ... unless their states would be more than this */
};

/* The softmax over some positions, as one thread has it: two elements of the values weighted by exp(score - most). */
struct softmax_state {
    float values[2];
    float most;
    float sum; /* of the weights */
};

struct attention_problem {
    matrix out; // (rows, heads * head_dim_v)
    matrix q;   // (rows, heads * head_dim)
    int32_t heads;
    int32_t group; /* query heads of a KV head */
    int32_t head_dim;
    int32_t head_dim_v;
    int32_t value_stride; /* elements from one value to the next: more than head_dim_v where a key holds it */
    int32_t parts; /* ceil(head_dim_v / VALUES): larger heads are computed part by part */
    int32_t window;
    int32_t chunk;
    float scale;
    float softcap;
    const float* slopes; // (heads), or null
    const float* sinks;  // (heads), or null
    int64_t items; /* rows * heads * parts */
    int32_t segments; /* that are spread over blocks; 0: a block takes all of an item's */
    float* states; // (items, segments, STATE)
    const int32_t* index;     // (rows), or null
    const int32_t* positions; // of the step
    const int32_t* sequence;  // of the step
    const int32_t* branch;    // of the step
    const kv_cache* caches;   // (sequences)
    int32_t branch_width;
};

/* What a block works on: one head of one row, and the part of its values. */
struct attention_item {
    int64_t row;
    int32_t head;
    int32_t part;
    int64_t first; /* position that it sees */
    int64_t last;  /* not included */
    int64_t branch_begin;  /* positions below it lie at the places of their own numbers */
    const int32_t* branch; // (last - branch_begin): places of the others, the last position's first
    kv_cache cache;
};

__device__ __forceinline__ attention_item item_of(const attention_problem& p, int64_t item) {
    attention_item it;
    it.part = (int32_t)(item % p.parts);
    it.head = (int32_t)(item / p.parts % p.heads);
    it.row = item / p.parts / p.heads;
    int32_t row = p.index == nullptr ? (int32_t)it.row : p.index[it.row];
    it.last = (int64_t)p.positions[row] + 1;
    it.first = p.window > 0 && it.last > p.window ? it.last - p.window : 0;
    int64_t chunk = p.chunk > 0 ? (it.last - 1) / p.chunk * p.chunk : 0;
    it.first = chunk > it.first ? chunk : it.first;
    it.branch_begin = it.last > p.branch_width ? it.last - p.branch_width : 0;
    it.branch = p.branch + (int64_t)row * p.branch_width;
    it.cache = p.caches[p.sequence[row]];
    return it;
}

__device__ __forceinline__ int32_t place_of(const attention_item& it, int64_t position) {
    int32_t place = position < it.branch_begin ? (int32_t)position : it.branch[it.last - 1 - position];
    return place < it.cache.places ? place : place % it.cache.places;
}

/* A product of a query and a key made a score; distance: from the key's position to the row's own. */
__device__ __forceinline__ float score_of(const attention_problem& p, int32_t head, float product, int64_t distance) {
    float score = product * p.scale;
    if (p.softcap > 0.0f) {
        score = p.softcap * tanhf(score / p.softcap);
    }
    return p.slopes == nullptr ? score : fmaf(p.slopes[head], (float)-distance, score);
}

template <class T>
__device__ __forceinline__ float dot(const float* q, const uint8_t* key, int32_t dim) {
    constexpr int elements = chunk<T>::elements;
    bool aligned = (uintptr_t)key % 16 == 0;
    float sums[4] = {};
    for (int32_t i = 0; i < dim; i += elements) {
        int32_t count = dim - i < elements ? dim - i : elements;
        float k[elements];
        load_chunk<T>(k, key + i * (int64_t)sizeof(typename T::bits), count, aligned);
#pragma unroll
        for (int j = 0; j < elements; j++) {
            sums[j % 4] = fmaf(j < count ? q[i + j] : 0.0f, k[j], sums[j % 4]);
        }
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* The positions first to last, not included, all of one segment. */
template <class T>
__device__ softmax_state attend_segment(const attention_problem& p, const attention_item& it, const float* q,
                                        int64_t first, int64_t last) {
    __shared__ float weights[ATTENTION_THREADS];
    __shared__ int32_t places[ATTENTION_THREADS];
    int64_t element = sizeof(typename T::bits);
    int64_t value_bytes = p.value_stride * element;
    int64_t kv_head = (int64_t)(it.head / p.group) * it.cache.places; /* in positions */
    const uint8_t* keys = it.cache.keys + kv_head * p.head_dim * element; // (places, head_dim)
    const uint8_t* all_values = it.cache.values + kv_head * value_bytes;  // (places, head_dim_v)
    int32_t thread = (int32_t)threadIdx.x;
    softmax_state state = {{0.0f, 0.0f}, -INFINITY, 0.0f};
    for (int64_t block = first / ATTENTION_THREADS * ATTENTION_THREADS; block < last; block += ATTENTION_THREADS) {
        int64_t position = block + thread;
        bool visible = position >= first && position < last;
        float score = -INFINITY;
        int32_t place = 0;
        if (visible) {
            place = place_of(it, position);
            float product = dot<T>(q, keys + (int64_t)place * p.head_dim * element, p.head_dim);
            score = score_of(p, it.head, product, it.last - 1 - position);
        }
        float most = fmaxf(state.most, block_max(score));
        float weight = visible ? expf(score - most) : 0.0f;
        float before = state.sum == 0.0f ? 0.0f : expf(state.most - most);
        weights[thread] = weight; /* block_max has waited for those who still read the last ones */
        places[thread] = place;
        state.sum = fmaf(state.sum, before, block_sum(weight)); /* and this waits for weights and places */
        state.most = most;
        int32_t from = first > block ? (int32_t)(first - block) : 0;
        int32_t to = last - block < ATTENTION_THREADS ? (int32_t)(last - block) : ATTENTION_THREADS;
        int64_t in_order = it.last <= it.cache.places ? it.branch_begin : 0; /* positions that are places */
        int32_t direct = in_order - block < to ? (int32_t)(in_order - block) : to;
#pragma unroll
        for (int v = 0; v < 2; v++) {
            int32_t i = it.part * VALUES + v * ATTENTION_THREADS + thread;
            if (i < p.head_dim_v) {
                const uint8_t* values = all_values + i * element;
                const uint8_t* of_block = values + block * value_bytes;
                float sum = state.values[v] * before;
                int32_t j = from;
#pragma unroll 4
                for (; j < direct; j++) {
                    typename T::bits x = *(const typename T::bits*)(of_block + j * value_bytes);
                    sum = fmaf(weights[j], T::decode(x), sum);
                }
#pragma unroll 4
                for (; j < to; j++) {
                    typename T::bits x = *(const typename T::bits*)(values + places[j] * value_bytes);
                    sum = fmaf(weights[j], T::decode(x), sum);
                }
                state.values[v] = sum;
            }
        }
    }
    return state;
}

/* The states of two runs of positions made one; empty has seen none yet. */
__device__ __forceinline__ softmax_state join(const softmax_state& total, const softmax_state& next, bool empty) {
    if (empty) {
        return next;
    }
    softmax_state joined;
    joined.most = fmaxf(total.most, next.most);
    float a = expf(total.most - joined.most);
    float b = expf(next.most - joined.most);
    joined.sum = fmaf(total.sum, a, next.sum * b);
    joined.values[0] = fmaf(total.values[0], a, next.values[0] * b);
    joined.values[1] = fmaf(total.values[1], a, next.values[1] * b);
    return joined;
}

__device__ __forceinline__ void store_out(const attention_problem& p, const attention_item& it, softmax_state state) {
    if (p.sinks != nullptr) {
        state = join(state, {{0.0f, 0.0f}, p.sinks[it.head], 1.0f}, false);
    }
    float* out = p.out.data + it.row * p.out.stride + (int64_t)it.head * p.head_dim_v; // (head_dim_v)
#pragma unroll
    for (int v = 0; v < 2; v++) {
        int32_t i = it.part * VALUES + v * ATTENTION_THREADS + (int32_t)threadIdx.x;
        if (i < p.head_dim_v) {
            out[i] = state.values[v] / state.sum;
        }
    }
}

__device__ __forceinline__ softmax_state attend(const attention_problem& p, const attention_item& it, const float* q,
                                                int64_t segment) {
    int64_t first = it.first > segment * SEGMENT ? it.first : segment * SEGMENT;
    int64_t last = it.last < (segment + 1) * SEGMENT ? it.last : (segment + 1) * SEGMENT;
    return it.cache.dtype == LM_DTYPE_F32 ? attend_segment<f32>(p, it, q, first, last)
                                          : attend_segment<f16>(p, it, q, first, last);
}

__global__ void __launch_bounds__(ATTENTION_THREADS) attention_kernel(attention_problem p) {
    DYNAMIC_SHARED(float, query); // (head_dim), if that fits
    int64_t pieces = p.segments == 0 ? 1 : p.segments;
    for (int64_t piece = blockIdx.x; piece < p.items * pieces; piece += gridDim.x) {
        attention_item it = item_of(p, piece / pieces);
        const float* q = p.q.data + it.row * p.q.stride + (int64_t)it.head * p.head_dim; // (head_dim)
        if (p.head_dim <= MOST_SHARED_QUERY) {
            /* Nothing reads the last item's any more: sums over the block came after that. */
            for (int32_t i = threadIdx.x; i < p.head_dim; i += ATTENTION_THREADS) {
                query[i] = q[i];
            }
            __syncthreads();
            q = query;
        }
        int64_t first_segment = it.first / SEGMENT;
        int64_t last_segment = (it.last - 1) / SEGMENT;
        if (p.segments == 0) {
            softmax_state total = {};
            for (int64_t segment = first_segment; segment <= last_segment; segment++) {
                total = join(total, attend(p, it, q, segment), segment == first_segment);
            }
            store_out(p, it, total);
        } else if (piece % pieces >= first_segment && piece % pieces <= last_segment) {
            softmax_state state = attend(p, it, q, piece % pieces);
            float* to = p.states + piece * STATE; // (STATE)
            to[threadIdx.x] = state.values[0];
            to[ATTENTION_THREADS + threadIdx.x] = state.values[1];
            if (threadIdx.x == 0) {
                to[VALUES] = state.most;
                to[VALUES + 1] = state.sum;
            }
        }
    }
}

__global__ void __launch_bounds__(ATTENTION_THREADS) join_kernel(attention_problem p) {
    for (int64_t item = blockIdx.x; item < p.items; item += gridDim.x) {
        attention_item it = item_of(p, item);
        int64_t first_segment = it.first / SEGMENT;
        softmax_state total = {};
        for (int64_t segment = first_segment; segment <= (it.last - 1) / SEGMENT; segment++) {
            const float* from = p.states + (item * p.segments + segment) * STATE; // (STATE)
            softmax_state state = {{from[threadIdx.x], from[ATTENTION_THREADS + threadIdx.x]},
                                   from[VALUES],
                                   from[VALUES + 1]};
            total = join(total, state, segment == first_segment);
        }
        store_out(p, it, total);
    }
}

static int64_t item_count(const lm_step& step, const lm_op& op) {
    int64_t parts = (step.kv[0]->layers[op.layer].shape.head_dim_v - 1) / VALUES + 1;
    return (int64_t)lm_row_count(&step, op.row_set) * op.heads * parts;
}

/* Segments to spread over blocks; 0: not worth it, or too many. */
static int32_t spread_segments(const lm_step& step, const lm_op& op) {
    int32_t most = 0;
    for (int32_t i = 0; i < lm_row_count(&step, op.row_set); i++) {
        int32_t position = step.positions[lm_step_row(&step, op.row_set, i)];
        most = position > most ? position : most;
    }
    int32_t segments = most / SEGMENT + 1;
    int64_t items = item_count(step, op);
    return segments > 1 && items <= FEW_ITEMS && items * segments <= MOST_SPREAD ? segments : 0;
}

int64_t attention_scratch(const lm_step& step, const lm_op& op) {
    return item_count(step, op) * spread_segments(step, op) * STATE * (int64_t)sizeof(float);
}

void attention(const run& run, const lm_op& op) {
    lm_kv_layer shape = run.step->kv[0]->layers[op.layer].shape;
    attention_problem p = {};
    p.out = view_matrix(run, op.out);
    p.q = view_matrix(run, op.a);
    p.heads = op.heads;
    p.group = op.heads / shape.kv_heads;
    p.head_dim = shape.head_dim;
    p.head_dim_v = shape.head_dim_v;
    p.parts = (shape.head_dim_v - 1) / VALUES + 1;
    p.value_stride = shape.kind == LM_KV_LATENT ? shape.head_dim : shape.head_dim_v;
    p.window = op.window;
    p.chunk = op.chunk;
    p.scale = op.scale;
    p.softcap = op.softcap;
    p.slopes = op.kind == LM_ATTENTION_ALIBI ? op.vector : nullptr;
    p.sinks = op.kind == LM_ATTENTION_SINKS ? op.vector : nullptr;
    p.items = item_count(*run.step, op);
    p.segments = spread_segments(*run.step, op);
    p.states = (float*)run.scratch;
    p.index = row_index(run, op.row_set);
    p.positions = run.positions;
    p.sequence = run.sequence;
    p.branch = run.branch;
    p.branch_width = run.step->branch_width;
    p.caches = run.caches + (int64_t)op.layer * run.step->sequences;
    size_t shared = shape.head_dim <= MOST_SHARED_QUERY ? shape.head_dim * sizeof(float) : 0;
    int64_t pieces = p.items * (p.segments == 0 ? 1 : p.segments);
    LAUNCH(attention_kernel, block_count(pieces, 1), ATTENTION_THREADS, shared, run.stream, p);
    if (p.segments != 0) {
        LAUNCH(join_kernel, block_count(p.items, 1), ATTENTION_THREADS, 0, run.stream, p);
    }
}
