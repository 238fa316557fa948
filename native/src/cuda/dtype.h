/*
 * dtype.h: element types of weights, embeddings and KV caches. A dtype is a struct with the type of its bits and their
 * value as f32; one more of them is one more struct, and its line in with_dtype, or in with_weight_dtype if weights
 * alone have it.
 *
 * As the type of a weight it also says how a row is stored: as blocks, each of `block` elements (a multiple of 8) in
 * block_bytes bytes, and `octet` gives eight elements of a block, times the scale that they have. What it gets is
 * aligned to 16 bytes, or to the largest power of two that divides block_bytes. A weight with scales has a row of them
 * for scale_rows rows, and `scale` finds there that of element k and of all others of its octet. `operand` is the type
 * that tensor cores take such weights and their activations in, void where they do not: then the product is an exact
 * one. More than that neither kind of product needs to know.
 */
#ifndef LAMINA_CUDA_DTYPE_H
#define LAMINA_CUDA_DTYPE_H

#include "../backend.h"
#include "intrinsics.h"

#include <string.h>

#include <type_traits>

enum { OCTET = 8 };

/* Eight elements that lie one after the other, aligned to 16 bytes. */
template <class T>
__device__ __forceinline__ void plain_octet(float* out, const uint8_t* from) {
    typedef typename T::bits bits;
    constexpr int words = OCTET * sizeof(bits) / 16;
    uint4 raw[words];
#pragma unroll
    for (int i = 0; i < words; i++) {
        raw[i] = ((const uint4*)from)[i];
    }
    bits x[OCTET];
    memcpy(x, raw, sizeof x);
#pragma unroll
    for (int i = 0; i < OCTET; i++) {
        out[i] = T::decode(x[i]);
    }
}

/* Of types whose weights have no scales. */
struct unscaled {
    enum { scale_rows = 0 };
    static __device__ __forceinline__ float scale(const uint8_t*, int64_t) {
        return 1.0f;
    }
};

struct f32 : unscaled {
    typedef uint32_t bits;
    static __device__ __forceinline__ float decode(bits x) {
        return bits_to_f32(x);
    }

    enum { block = 8, block_bytes = 32 };
    typedef void operand;
    static __device__ __forceinline__ void octet(float* out, const uint8_t* of_block, int, float) {
        plain_octet<f32>(out, of_block);
    }
};

struct f16 : unscaled {
    typedef uint16_t bits;
    static __device__ __forceinline__ float decode(bits x) {
        return f16_to_f32(x);
    }

    enum { block = 8, block_bytes = 16 };
    typedef f16 operand;
    static __device__ __forceinline__ void octet(float* out, const uint8_t* of_block, int, float) {
        plain_octet<f16>(out, of_block);
    }

    /* As an operand of tensor cores. */
    enum { capability = 75 }; /* major * 10 + minor of the oldest GPU that has them for it */
    static __device__ __forceinline__ bits round(float x) {
        constexpr float most = 65504.0f; /* what is larger does not become infinite */
        return f32_to_f16(x > most ? most : x < -most ? -most : x);
    }
    static __device__ __forceinline__ void mma(float* sums, const uint32_t* a, const uint32_t* b) {
        mma_f16_k16(sums, a, b);
    }
};

struct bf16 : unscaled {
    typedef uint16_t bits;
    static __device__ __forceinline__ float decode(bits x) {
        return bits_to_f32((uint32_t)x << 16);
    }

    enum { block = 8, block_bytes = 16 };
    typedef bf16 operand;
    static __device__ __forceinline__ void octet(float* out, const uint8_t* of_block, int, float) {
        plain_octet<bf16>(out, of_block);
    }

    enum { capability = 80 };
    static __device__ __forceinline__ bits round(float x) {
        return f32_to_bf16(x);
    }
    static __device__ __forceinline__ void mma(float* sums, const uint32_t* a, const uint32_t* b) {
        mma_bf16_k16(sums, a, b);
    }
};

/* LM_DTYPE_F8_E4M3. A scale is any f32, and what it makes of an element is in no type that tensor cores take. */
struct f8 {
    typedef uint8_t bits;
    static __device__ __forceinline__ float decode(bits x) {
        /* The exponent's bias is 7, not 127; this is right for subnormals too. */
        float magnitude = bits_to_f32((uint32_t)(x & 0x7f) << 20) * 0x1p120f;
        magnitude = (x & 0x7f) == 0x7f ? NAN : magnitude;
        return x & 0x80 ? -magnitude : magnitude;
    }

    enum { block = 8, block_bytes = 8, scale_rows = 128 };
    typedef void operand;
    static __device__ __forceinline__ float scale(const uint8_t* of_row, int64_t k) {
        return ((const float*)of_row)[k / 128];
    }
    static __device__ __forceinline__ void octet(float* out, const uint8_t* of_block, int, float scale) {
        uint2 raw = *(const uint2*)of_block;
#pragma unroll
        for (int i = 0; i < OCTET; i++) {
            out[i] = decode((bits)((i < 4 ? raw.x : raw.y) >> i % 4 * 8)) * scale;
        }
    }
};

/* LM_DTYPE_MXFP4: a bf16 holds each of its values, scale included. */
struct mxfp4 {
    enum { block = 8, block_bytes = 4, scale_rows = 1 };
    typedef bf16 operand;
    static __device__ __forceinline__ float scale(const uint8_t* of_row, int64_t k) {
        uint32_t code = of_row[k / 32];
        uint32_t ends = code == 0 || code == 255 ? UINT32_C(1) << 22 : 0; /* 2^-127 is subnormal; the last one is NaN */
        return bits_to_f32(code << 23 | ends);
    }
    static __device__ __forceinline__ void octet(float* out, const uint8_t* of_block, int, float scale) {
        uint32_t raw = *(const uint32_t*)of_block;
#pragma unroll
        for (int i = 0; i < OCTET; i++) {
            uint32_t x = raw >> 4 * i; /* its exponent's bias is 1, not 127 */
            out[i] = bits_to_f32((x & 8) << 28 | (x & 7) << 22) * 0x1p126f * scale;
        }
    }
};

/* Bytes of a row of a weight. */
template <class T>
__host__ __device__ __forceinline__ int64_t row_bytes(int64_t elements) {
    return (elements * T::block_bytes + T::block - 1) / T::block;
}

/* Eight activations as an operand of tensor cores, the first one in the lowest bits. */
template <class OPERAND>
__device__ __forceinline__ void round_octet(uint32_t* out, const float* x) {
#pragma unroll
    for (int i = 0; i < OCTET / 2; i++) {
        out[i] = OPERAND::round(x[2 * i]) | (uint32_t)OPERAND::round(x[2 * i + 1]) << 16;
    }
}

/* Eight elements of a block of a weight as that; which of the block is counted in octets. */
template <class T>
__device__ __forceinline__ void load_operand(uint32_t* out, const uint8_t* of_block, int which, float scale) {
    if constexpr (std::is_same<T, typename T::operand>::value) {
        uint4 raw = *(const uint4*)of_block;
        memcpy(out, &raw, sizeof raw);
    } else {
        float x[OCTET];
        T::octet(x, of_block, which, scale);
        round_octet<typename T::operand>(out, x);
    }
}

/* Bytes at any address, of which those from valid on are not read, and zeros. */
template <int bytes>
__device__ __forceinline__ void load_bytes(uint8_t* out, const uint8_t* from, int64_t valid) {
    if (valid >= bytes && (uintptr_t)from % 2 == 0 && bytes % 2 == 0) {
#pragma unroll
        for (int i = 0; i < bytes; i += 2) {
            uint16_t x = *(const uint16_t*)(from + i);
            memcpy(out + i, &x, 2);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < bytes; i++) {
        out[i] = i < valid ? from[i] : 0;
    }
}

/* Calls f with an object of the dtype's struct. */
template <class F>
void with_dtype(int32_t dtype, const F& f) {
    switch (dtype) {
    case LM_DTYPE_F32:
        f(f32());
        break;
    case LM_DTYPE_F16:
        f(f16());
        break;
    default: /* api.c lets no other dtype through */
        f(bf16());
        break;
    }
}

/* The same for the dtype of a weight. */
template <class F>
void with_weight_dtype(int32_t dtype, const F& f) {
    switch (dtype) {
    case LM_DTYPE_F8_E4M3:
        f(f8());
        break;
    case LM_DTYPE_MXFP4:
        f(mxfp4());
        break;
    default:
        with_dtype(dtype, f);
        break;
    }
}

/* Elements in 16 bytes, the most that one load takes. */
template <class T>
struct chunk {
    enum { elements = 16 / sizeof(typename T::bits) };
};

/* One element at any address. */
template <class T>
__device__ __forceinline__ float load_element(const uint8_t* from) {
    typedef typename T::bits bits;
    if ((uintptr_t)from % sizeof(bits) == 0) {
        return T::decode(*(const bits*)from);
    }
    uint32_t x = 0;
    for (unsigned i = 0; i < sizeof(bits); i++) {
        x |= (uint32_t)from[i] << (8 * i);
    }
    return T::decode((bits)x);
}

/* The first count elements of a chunk, then zeros; aligned: to 16 bytes. */
template <class T>
__device__ __forceinline__ void load_chunk(float* out, const uint8_t* from, int32_t count, bool aligned) {
    typedef typename T::bits bits;
    constexpr int elements = chunk<T>::elements;
    if (aligned && count >= elements) {
        uint4 raw = *(const uint4*)from;
        bits x[elements];
        memcpy(x, &raw, sizeof x);
#pragma unroll
        for (int i = 0; i < elements; i++) {
            out[i] = T::decode(x[i]);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < elements; i++) {
        out[i] = i < count ? load_element<T>(from + i * sizeof(bits)) : 0.0f;
    }
}

/* The same of `elements` floats, a multiple of 4. */
template <int elements>
__device__ __forceinline__ void load_floats(float* out, const float* from, int32_t count, bool aligned) {
    if (aligned && count >= elements) {
#pragma unroll
        for (int i = 0; i < elements; i += 4) {
            float4 x = *(const float4*)(from + i);
            out[i] = x.x;
            out[i + 1] = x.y;
            out[i + 2] = x.z;
            out[i + 3] = x.w;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < elements; i++) {
        out[i] = i < count ? from[i] : 0.0f;
    }
}

#endif
