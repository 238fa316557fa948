/*
 * dtype.h: element types of weights, embeddings and KV caches. A dtype is a struct with the type of its bits and their
 * value as f32; one more of them is one more struct, and its line in with_dtype.
 */
#ifndef LAMINA_CUDA_DTYPE_H
#define LAMINA_CUDA_DTYPE_H

#include "../backend.h"
#include "intrinsics.h"

#include <string.h>

struct f32 {
    typedef uint32_t bits;
    static __device__ __forceinline__ float decode(bits x) {
        return bits_to_f32(x);
    }
};

struct f16 {
    typedef uint16_t bits;
    static __device__ __forceinline__ float decode(bits x) {
        return f16_to_f32(x);
    }
};

struct bf16 {
    typedef uint16_t bits;
    static __device__ __forceinline__ float decode(bits x) {
        return bits_to_f32((uint32_t)x << 16);
    }
};

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
