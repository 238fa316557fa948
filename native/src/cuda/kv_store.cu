/* kv_store.cu: puts keys and values of each row at its place in its sequence's cache: a block a row. */
#include "kernels.h"

struct kv_rows {
    matrix keys;   // (rows, kv_heads * head_dim)
    matrix values; // (rows, kv_heads * head_dim_v); without data where there are none: LM_KV_LATENT
    int32_t kv_heads;
    int32_t head_dim;
    int32_t head_dim_v;
    int32_t rows;
    const int32_t* index;    // (rows), or null
    const int32_t* places;   // of the step's rows, place_stride apart
    const int32_t* sequence; // of the step
    const kv_cache* caches;  // (sequences)
    int64_t place_stride;
};

/* One row's vectors of all heads, in the dtype of the cache. */
__device__ void store_heads(uint8_t* to, const float* from, int32_t heads, int32_t dim, int64_t places,
                            int64_t place, int32_t dtype) {
    for (int64_t i = threadIdx.x; i < (int64_t)heads * dim; i += blockDim.x) {
        int64_t at = (i / dim * places + place) * dim + i % dim;
        if (dtype == LM_DTYPE_F32) {
            ((float*)to)[at] = from[i];
        } else {
            ((uint16_t*)to)[at] = f32_to_f16(from[i]);
        }
    }
}

/*
 * Of two rows at one place the later one stays: a row looks for a later one, and leaves it to that. In a cache with
 * fewer places than positions, these begin at the first one again.
 */
__global__ void __launch_bounds__(BLOCK_THREADS) kv_store_kernel(kv_rows k) {
    __shared__ int32_t overwritten;
    for (int64_t r = blockIdx.x; r < k.rows; r += gridDim.x) {
        int32_t row = k.index == nullptr ? (int32_t)r : k.index[r];
        int32_t sequence = k.sequence[row];
        kv_cache cache = k.caches[sequence];
        int32_t place = k.places[row * k.place_stride] % cache.places;
        if (threadIdx.x == 0) {
            overwritten = 0;
        }
        __syncthreads();
        for (int64_t i = r + 1 + threadIdx.x; i < k.rows; i += blockDim.x) {
            int32_t later = k.index == nullptr ? (int32_t)i : k.index[i];
            if (k.sequence[later] == sequence && k.places[later * k.place_stride] % cache.places == place) {
                overwritten = 1;
            }
        }
        __syncthreads();
        if (!overwritten) {
            store_heads(cache.keys, k.keys.data + r * k.keys.stride, k.kv_heads, k.head_dim, cache.places, place,
                        cache.dtype);
            if (k.values.data != nullptr) {
                store_heads(cache.values, k.values.data + r * k.values.stride, k.kv_heads, k.head_dim_v, cache.places,
                            place, cache.dtype);
            }
        }
        __syncthreads(); /* the next row clears what is read above */
    }
}

void kv_store(const run& run, const lm_op& op) {
    lm_kv_layer shape = run.step->kv[0]->layers[op.layer].shape;
    kv_rows k = {};
    k.keys = view_matrix(run, op.a);
    k.values = shape.kind == LM_KV_LATENT ? matrix{nullptr, 0} : view_matrix(run, op.b);
    k.kv_heads = shape.kv_heads;
    k.head_dim = shape.head_dim;
    k.head_dim_v = shape.head_dim_v;
    k.rows = lm_row_count(run.step, op.row_set);
    k.index = row_index(run, op.row_set);
    k.places = run.step->branch_width == 0 ? run.positions : run.branch;
    k.place_stride = run.step->branch_width == 0 ? 1 : run.step->branch_width;
    k.sequence = run.sequence;
    k.caches = run.caches + (int64_t)op.layer * run.step->sequences;
    LAUNCH(kv_store_kernel, block_count(k.rows, 1), BLOCK_THREADS, 0, run.stream, k);
}
