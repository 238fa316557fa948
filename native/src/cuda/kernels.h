/*
 * kernels.h: the ops of the CUDA backend, one file each, or one for two that are much the same.
 *
 *     backend.cu    devices, memory, queues; puts what a step needs onto the device and launches its ops
 *     file.cu       files that cuFile reads into device memory
 *     dtype.h       element types, and how weights are stored        weight.h      rows of a weight
 *     reduce.h      sums over warps and blocks
 *     linear.cu     products in f32        linear_fast.cu    on tensor cores, where the device was opened for that
 *     intrinsics.h  what is an instruction of a GPU      emulation.*  CUDA without a GPU
 *
 * Kernels take grids of any size and go over their items in strides of the grid. The bits of an item depend neither on
 * the grid nor on the other items.
 */
#ifndef LAMINA_CUDA_KERNELS_H
#define LAMINA_CUDA_KERNELS_H

#include "../backend.h"
#include "intrinsics.h"

/* One layer of one sequence's cache, on the device. */
struct kv_cache {
    uint8_t* keys;   // (kv_heads, places, head_dim) of dtype; LM_KV_STATE: half 0, (kv_heads, head_dim, head_dim_v) f32
    uint8_t* values; // (kv_heads, places, head_dim_v) of dtype; LM_KV_LATENT: the keys; LM_KV_STATE: half 1
    int32_t places;
    int32_t dtype;
};

/* What kernels are chosen by. */
struct gpu {
    int32_t capability; /* major * 10 + minor of what the kernels were compiled for, if that is less; where fast */
    int32_t processors; /* streaming multiprocessors */
    bool fast;          /* LM_MODE_FAST */
};

/* What an op gets: the step, its arrays on the device, and the stream. */
struct run {
    const lm_step* step;
    gpu on;
    cudaStream_t stream;
    const uint8_t* inputs;
    const int32_t* positions;    // (rows)
    const int32_t* sequence;     // (rows)
    const int32_t* branch;       // (rows, branch_width)
    const int32_t* output_index; // (output_rows)
    const int32_t* list;         // (list_rows)
    const float* list_weights;   // (list_rows)
    const int32_t* states;       // (sequences)
    const kv_cache* caches;      // (layers, sequences)
    uint8_t* scratch;            // as many bytes as the op asked for, aligned to 256
    unsigned* arrivals;          // as many counters as the op asked for: 0, and so it leaves them
};

/* A (rows, width) matrix on the device. */
struct matrix {
    float* data;
    int64_t stride; /* floats from one row to the next */
};

void embed(const run& run, const lm_op& op);
void rms_norm(const run& run, const lm_op& op);
void linear(const run& run, const lm_op& op);
void rope(const run& run, const lm_op& op);
void kv_store(const run& run, const lm_op& op);
void attention(const run& run, const lm_op& op);
void activation(const run& run, const lm_op& op);
void add(const run& run, const lm_op& op);
void gather_rows(const run& run, const lm_op& op);
void layer_norm(const run& run, const lm_op& op);
void linear_transposed(const run& run, const lm_op& op);
void scale(const run& run, const lm_op& op);
void weight_norm(const run& run, const lm_op& op);
void scatter_add(const run& run, const lm_op& op);
void convolution(const run& run, const lm_op& op);
void delta_rule(const run& run, const lm_op& op);
int64_t attention_scratch(const lm_step& step, const lm_op& op); /* bytes */

/* What linear needs in run.scratch and run.arrivals. */
struct fast_memory {
    int64_t bytes;
    int32_t arrivals;
};

/* For the current device, before the first linear_fast: compiled_for is the capability whose instructions it has. */
cudaError_t linear_fast_prepare(int32_t* compiled_for);
fast_memory linear_fast_memory(const gpu& on, const lm_step& step, const lm_op& op);
bool linear_fast(const run& run, const lm_op& op); /* false: this is no product for tensor cores, nothing is done */

static inline matrix view_matrix(const run& run, const lm_view& view) {
    return {(float*)run.step->activations + view.offset, view.stride};
}

/* Whether every row begins at a multiple of 16 bytes; activations do. */
static inline bool view_aligned(const lm_view& view) {
    return view.offset % 4 == 0 && view.stride % 4 == 0;
}

/* The step's rows behind the rows of a row set; null: they are the same. */
static inline const int32_t* row_index(const run& run, int32_t row_set) {
    return row_set == LM_ROWS_ALL ? nullptr : row_set == LM_ROWS_OUTPUT ? run.output_index : run.list;
}

/*
 * Where a state lies before and after a step; before is null where it begins with zeros. which: as step.states has it.
 */
struct state_halves {
    const float* before;
    float* after;
};

__device__ __forceinline__ state_halves halves_of(const kv_cache& cache, int32_t which) {
    const uint8_t* before = which < 0 ? nullptr : which == 0 ? cache.keys : cache.values;
    return {(const float*)before, (float*)(which == 0 ? cache.values : cache.keys)};
}

/* Blocks for this many items; the kernels stride over what is beyond MOST_BLOCKS. */
static inline unsigned block_count(int64_t items, int64_t items_per_block) {
    int64_t blocks = (items + items_per_block - 1) / items_per_block;
    return (unsigned)(blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS);
}

enum { BLOCK_THREADS = 256 }; /* of kernels that have an element a thread */

/* The first item of a thread that has one, and how far it is to the next. */
__device__ __forceinline__ int64_t first_item() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ __forceinline__ int64_t item_stride() {
    return (int64_t)gridDim.x * blockDim.x;
}

#endif
