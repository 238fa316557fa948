/* weight.h: the rows of a weight as an op gets them, in any dtype, with their scales where they have some. */
#ifndef LAMINA_CUDA_WEIGHT_H
#define LAMINA_CUDA_WEIGHT_H

#include "dtype.h"
#include "kernels.h"

struct weight_matrix {
    const uint8_t* data;   // (rows, k) of dtype
    const uint8_t* scales; /* where those of the row of scales begin in which row 0 is number scale_row */
    int64_t stride;        /* bytes, like the next two */
    int64_t scale_stride;
    int64_t row_bytes;
    int32_t rows;
    int32_t k;
    int32_t scale_row;
    bool aligned; /* each row, as T::octet wants it */
};

struct stored_row {
    const uint8_t* data;   // (k) of dtype
    const uint8_t* scales; /* null where there are none */
};

template <class T>
weight_matrix weight_of(const run& run, const lm_op& op, int32_t k) {
    constexpr int alignment = T::block_bytes % 16 == 0 ? 16 : T::block_bytes & -T::block_bytes;
    const uint8_t* panel = (const uint8_t*)run.step->panel;
    bool in_blocks = op.dtype == LM_DTYPE_F8_E4M3; /* its scales are f32, and not in the panel */
    weight_matrix w = {};
    w.data = panel + op.weight_offset;
    w.stride = op.weight_stride;
    w.scales = in_blocks ? (const uint8_t*)op.scales : panel + op.scale_offset;
    w.scale_stride = in_blocks ? op.scale_stride * (int64_t)sizeof(float) : op.scale_stride;
    w.scale_row = in_blocks ? op.scale_row : 0;
    w.row_bytes = row_bytes<T>(k);
    w.rows = op.weight_rows;
    w.k = k;
    w.aligned = (uintptr_t)w.data % alignment == 0 && w.stride % alignment == 0;
    return w;
}

/* Row n; beyond the last one it is that one. */
template <class T>
__device__ __forceinline__ stored_row row_of(const weight_matrix& w, int64_t n) {
    n = n < w.rows ? n : w.rows - 1;
    stored_row row = {w.data + n * w.stride, nullptr};
    if constexpr (T::scale_rows != 0) {
        row.scales = w.scales + (w.scale_row + n) / T::scale_rows * w.scale_stride;
    }
    return row;
}

/* Block b of a row, zeros beyond its end; WHOLE: it is there, and aligned. */
template <class T, bool WHOLE>
__device__ __forceinline__ void load_block(float* out, const weight_matrix& w, const stored_row& row, int64_t b) {
    const uint8_t* from = row.data + b * T::block_bytes;
    alignas(16) uint8_t copy[T::block_bytes];
    if constexpr (!WHOLE) {
        load_bytes<T::block_bytes>(copy, from, w.row_bytes - b * T::block_bytes);
        from = copy;
    }
#pragma unroll
    for (int i = 0; i < T::block / OCTET; i++) {
        int64_t k = b * T::block + i * OCTET;
        T::octet(out + i * OCTET, from, i, T::scale(row.scales, WHOLE || k < w.k ? k : w.k - 1));
    }
    if constexpr (!WHOLE && T::scale_rows != 0) { /* no scale makes more than zero of what is not there */
#pragma unroll
        for (int i = 0; i < T::block; i++) {
            out[i] = b * T::block + i < w.k ? out[i] : 0.0f;
        }
    }
}

#endif
