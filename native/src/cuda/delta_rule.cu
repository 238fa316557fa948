/*
 * delta_rule.cu: the gated delta rule (Yang, Kautz & Hatamizadeh 2024), the rows of a sequence one after the other.
 *
 * Columns of a head's state do not know of one another: a warp has eight of them, and four lanes each column, of which
 * lane i has every fourth element from i on. They stay in shared memory for all rows of a sequence, where they fit.
 * Each lane touches its own alone: lanes meet only where they add up. Queries and keys are used as they are; what they
 * are divided by is made up for in the sums.
 */
#include "kernels.h"
#include "reduce.h"

enum {
    DELTA_WARPS = 4, /* of a block, each with columns of its own */
    COLUMNS = 8,     /* of a warp */
    PARTS = WARP_LANES / COLUMNS,
    MOST_SHARED_KEY = (48 << 10) / (DELTA_WARPS * COLUMNS * 4) /* floats of a key, so that the columns fit */
};

struct delta_problem {
    matrix out;         // (rows, heads_v * dim_v)
    matrix a;           // (rows, 2 * heads * dim + heads_v * dim_v): queries, keys, values
    matrix b;           // (rows, 2 * heads_v)
    const float* gates; // (2, heads_v): d, then t
    int32_t heads;
    int32_t heads_v;
    int32_t dim;
    int32_t dim_v;
    int32_t rows;
    int32_t groups; /* of COLUMNS columns of a head */
    int64_t items;  /* sequences * heads_v * groups */
    const int32_t* index;    // (rows), or null
    const int32_t* sequence; // of the step
    const int32_t* states;   // (sequences)
    const kv_cache* caches;  // (sequences)
    float scale;
    float epsilon;
};

/* A lane's part of a column. */
struct delta_column {
    float* state;    /* of key element part + PARTS * i: state[i * step] */
    int64_t step;
    int32_t count;   /* 0 beyond the last column */
    int32_t part;
    int32_t column;
    int32_t head;    /* of the value */
};

/* Of all lanes with the same column. */
__device__ __forceinline__ float column_sum(float x) {
#pragma unroll
    for (int distance = COLUMNS; distance < WARP_LANES; distance *= 2) {
        x += __shfl_xor_sync(0xffffffffu, x, distance);
    }
    return x;
}

/* The factor that makes a vector one of length 1. */
__device__ __forceinline__ float unit_factor(const float* x, int32_t dim, float epsilon) {
    float squares = 0.0f;
    for (int32_t i = threadIdx.x % WARP_LANES; i < dim; i += WARP_LANES) {
        squares = fmaf(x[i], x[i], squares);
    }
    return 1.0f / sqrtf(warp_sum(squares) + epsilon);
}

/* log(1 + exp(x)) */
__device__ __forceinline__ float softplus(float x) {
    return x > 20.0f ? x : log1pf(expf(x)); /* there the next term is below the last place of x */
}

__device__ __forceinline__ void delta_row(const delta_problem& p, const delta_column& c, int64_t r) {
    const float* a = p.a.data + r * p.a.stride;
    const float* b = p.b.data + r * p.b.stride;
    int32_t head = c.head / (p.heads_v / p.heads); /* of query and key */
    const float* q = a + (int64_t)head * p.dim;    // (dim)
    const float* k = q + (int64_t)p.heads * p.dim; // (dim)
    const float* v = a + 2 * (int64_t)p.heads * p.dim + (int64_t)c.head * p.dim_v + c.column;
    float q_factor = unit_factor(q, p.dim, p.epsilon) * p.scale;
    float k_factor = unit_factor(k, p.dim, p.epsilon);
    float decay = expf(p.gates[c.head] * softplus(b[p.heads_v + c.head] + p.gates[p.heads_v + c.head]));
    float rate = 1.0f / (1.0f + expf(-b[c.head]));
    float sum = 0.0f;
#pragma unroll 4
    for (int32_t i = 0; i < c.count; i++) {
        sum = fmaf(c.state[i * c.step], k[c.part + PARTS * i], sum);
    }
    float known = column_sum(sum) * decay * k_factor; /* what the state has for this key */
    float change = c.count > 0 ? (*v - known) * rate * k_factor : 0.0f;
    float out = 0.0f;
#pragma unroll 4
    for (int32_t i = 0; i < c.count; i++) {
        float s = fmaf(k[c.part + PARTS * i], change, c.state[i * c.step] * decay);
        c.state[i * c.step] = s;
        out = fmaf(s, q[c.part + PARTS * i], out);
    }
    out = column_sum(out);
    if (c.count > 0 && c.part == 0) {
        p.out.data[r * p.out.stride + (int64_t)c.head * p.dim_v + c.column] = out * q_factor;
    }
}

__global__ void __launch_bounds__(DELTA_WARPS* WARP_LANES) delta_rule_kernel(delta_problem p) {
    DYNAMIC_SHARED(float, shared); // (DELTA_WARPS, ceil(dim / PARTS), lanes), if that fits
    int32_t lane = threadIdx.x % WARP_LANES;
    int32_t warp = (int32_t)threadIdx.x / WARP_LANES;
    int32_t most = (p.dim - 1) / PARTS + 1;
    for (int64_t item = (int64_t)blockIdx.x * DELTA_WARPS + warp; item < p.items;
         item += (int64_t)gridDim.x * DELTA_WARPS) {
        int32_t sequence = (int32_t)(item / p.groups / p.heads_v);
        delta_column c;
        c.head = (int32_t)(item / p.groups % p.heads_v);
        c.part = lane / COLUMNS;
        c.column = (int32_t)(item % p.groups) * COLUMNS + lane % COLUMNS;
        c.count = c.column < p.dim_v && c.part < p.dim ? (p.dim - 1 - c.part) / PARTS + 1 : 0;
        state_halves halves = halves_of(p.caches[sequence], p.states[sequence]); // (heads_v, dim, dim_v)
        int64_t first = ((int64_t)c.head * p.dim + c.part) * p.dim_v + c.column;
        int64_t step = PARTS * (int64_t)p.dim_v;
        bool fits = p.dim <= MOST_SHARED_KEY;
        c.state = fits ? shared + warp * most * WARP_LANES + lane : halves.after + first;
        c.step = fits ? (int64_t)WARP_LANES : step;
        bool begun = false;
        for (int32_t r = 0; r < p.rows; r++) {
            if (p.sequence[p.index == nullptr ? r : p.index[r]] != sequence) {
                continue;
            }
            for (int32_t i = 0; !begun && i < c.count; i++) {
                c.state[i * c.step] = halves.before == nullptr ? 0.0f : halves.before[first + i * step];
            }
            begun = true;
            delta_row(p, c, r);
        }
        for (int32_t i = 0; begun && fits && i < c.count; i++) {
            halves.after[first + i * step] = c.state[i * c.step];
        }
    }
}

void delta_rule(const run& run, const lm_op& op) {
    lm_kv_layer shape = run.step->kv[0]->layers[op.layer].shape;
    delta_problem p = {};
    p.out = view_matrix(run, op.out);
    p.a = view_matrix(run, op.a);
    p.b = view_matrix(run, op.b);
    p.gates = op.vector;
    p.heads = op.heads;
    p.heads_v = shape.kv_heads;
    p.dim = shape.head_dim;
    p.dim_v = shape.head_dim_v;
    p.rows = lm_row_count(run.step, op.row_set);
    p.groups = (p.dim_v - 1) / COLUMNS + 1;
    p.items = (int64_t)run.step->sequences * p.heads_v * p.groups;
    p.index = row_index(run, op.row_set);
    p.sequence = run.sequence;
    p.states = run.states;
    p.caches = run.caches + (int64_t)op.layer * run.step->sequences;
    p.scale = op.scale;
    p.epsilon = op.epsilon;
    size_t shared = p.dim <= MOST_SHARED_KEY
                        ? (size_t)DELTA_WARPS * ((p.dim - 1) / PARTS + 1) * WARP_LANES * sizeof(float)
                        : 0;
    LAUNCH(delta_rule_kernel, block_count(p.items, DELTA_WARPS), DELTA_WARPS * WARP_LANES, shared, run.stream, p);
}
