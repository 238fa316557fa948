/* intrinsics.h: CUDA or its emulation, and whatever is an instruction of a GPU, with a body for the emulation. */
#ifndef LAMINA_CUDA_INTRINSICS_H
#define LAMINA_CUDA_INTRINSICS_H

#include <stdint.h>

#if defined(__CUDACC__)

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                         \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)

#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]

constexpr int64_t MOST_BLOCKS = 1 << 20; /* of a grid: enough to fill any GPU */

__device__ __forceinline__ float f16_to_f32(uint16_t bits) {
    return __half2float(__ushort_as_half(bits));
}

/* To the nearest, ties to even. */
__device__ __forceinline__ uint16_t f32_to_f16(float x) {
    return __half_as_ushort(__float2half_rn(x));
}

__device__ __forceinline__ float bits_to_f32(uint32_t bits) {
    return __uint_as_float(bits);
}

#else

#include "emulation.h"

constexpr int64_t MOST_BLOCKS = 7; /* few, so that blocks have several items */

static inline float bits_to_f32(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float f16_to_f32(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t magnitude = bits & 0x7fff;
    if (magnitude < 0x400) { /* zero and subnormals: whole multiples of 2^-24 */
        float x = (float)magnitude * 0x1p-24f;
        return sign ? -x : x;
    }
    uint32_t exponent = magnitude < 0x7c00 ? (uint32_t)(127 - 15) << 23 : (uint32_t)(255 - 31) << 23;
    return bits_to_f32(sign | ((magnitude << 13) + exponent));
}

static inline uint16_t f32_to_f16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return 0x7fff;
    }
    if (magnitude >= 0x477ff000) { /* 65520, halfway from the largest f16 to the next: rounds to infinity */
        return sign | 0x7c00;
    }
    if (magnitude < 0x38800000) { /* below 2^-14: adding 0.5 leaves multiples of 2^-24, rounded by the addition */
        float shifted = bits_to_f32(magnitude) + 0.5f;
        memcpy(&bits, &shifted, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1); /* half of the last place, less one where that is even */
    return (uint16_t)(sign | ((magnitude >> 13) - ((127 - 15) << 10)));
}

#endif

#endif
