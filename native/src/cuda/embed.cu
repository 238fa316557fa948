/* embed.cu: rows of the embedding table, converted to f32. */
#include "dtype.h"
#include "kernels.h"

template <class T>
__global__ void __launch_bounds__(BLOCK_THREADS)
embed_kernel(matrix out, const uint8_t* inputs, int64_t width, int64_t items) {
    for (int64_t i = first_item(); i < items; i += item_stride()) {
        out.data[i / width * out.stride + i % width] = load_element<T>(inputs + i * (int64_t)sizeof(typename T::bits));
    }
}

void embed(const run& run, const lm_op& op) {
    matrix out = view_matrix(run, op.out); // (rows, width)
    int64_t width = op.out.width;
    int64_t items = lm_row_count(run.step, op.row_set) * width;
    const uint8_t* inputs = run.inputs + op.input_offset; // (rows, width) of dtype
    with_dtype(op.dtype, [&](auto type) {
        LAUNCH(embed_kernel<decltype(type)>, block_count(items, BLOCK_THREADS), BLOCK_THREADS, 0, run.stream, out,
               inputs, width, items);
    });
}
