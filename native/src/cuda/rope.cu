/* rope.cu: rotary position embedding: turns pairs of elements of each head by the angles of the row's position. */
#include "dtype.h"
#include "kernels.h"

struct rope_shape {
    int32_t heads;
    int32_t head_dim;
    int32_t pairs; /* of one head */
    int32_t kind;
};

/* (x, y) of each pair becomes (x cos - y sin, y cos + x sin): a thread a pair. */
__global__ void __launch_bounds__(BLOCK_THREADS)
rope_kernel(matrix out, const uint8_t* tables, rope_shape s, int64_t items) {
    for (int64_t item = first_item(); item < items; item += item_stride()) {
        int64_t pair = item % s.pairs;
        int64_t head = item / s.pairs % s.heads;
        int64_t row = item / s.pairs / s.heads;
        const uint8_t* table = tables + row * 2 * s.pairs * (int64_t)sizeof(float); // (2, pairs) f32
        float cosine = load_element<f32>(table + pair * (int64_t)sizeof(float));
        float sine = load_element<f32>(table + (s.pairs + pair) * (int64_t)sizeof(float));
        float* x = out.data + row * out.stride + head * s.head_dim + (s.kind == LM_ROPE_HALF ? pair : 2 * pair);
        float* y = x + (s.kind == LM_ROPE_HALF ? s.pairs : 1);
        float x0 = *x;
        float y0 = *y;
        *x = fmaf(x0, cosine, -(y0 * sine));
        *y = fmaf(y0, cosine, x0 * sine);
    }
}

void rope(const run& run, const lm_op& op) {
    rope_shape shape = {op.heads, op.head_dim, op.rotary_dim / 2, op.kind};
    int64_t items = (int64_t)lm_row_count(run.step, op.row_set) * op.heads * shape.pairs;
    LAUNCH(rope_kernel, block_count(items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream, view_matrix(run, op.out),
           run.inputs + op.input_offset, shape, items);
}
