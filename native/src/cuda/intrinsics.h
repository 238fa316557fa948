/* intrinsics.h: CUDA or its emulation, and whatever is an instruction of a GPU, with a body for the emulation. */
#ifndef LAMINA_CUDA_INTRINSICS_H
#define LAMINA_CUDA_INTRINSICS_H

#include <stdint.h>

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                         \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)

#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]

constexpr int64_t MOST_BLOCKS = 1 << 20;   /* of a grid: enough to fill any GPU */
constexpr int64_t MOST_PARTIALS = 4 << 20; /* floats that blocks leave for one another: 16 MiB stay in the cache */

__device__ __forceinline__ float f16_to_f32(uint16_t bits) {
    return __half2float(__ushort_as_half(bits));
}

/* To the nearest, ties to even. */
__device__ __forceinline__ uint16_t f32_to_f16(float x) {
    return __half_as_ushort(__float2half_rn(x));
}

__device__ __forceinline__ uint16_t f32_to_bf16(float x) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

__device__ __forceinline__ float bits_to_f32(uint32_t bits) {
    return __uint_as_float(bits);
}

/*
 * sums (16, 8) += a (16, 8) b (8, 8), in the registers of a warp. With group = lane / 4 and t = lane % 4, a lane has of
 * a rows group and group + 8, columns 2 t and 2 t + 1 (the first one in the low half); of b rows 2 t and 2 t + 1,
 * column group; of sums rows group (first two) and group + 8, columns 2 t and 2 t + 1.
 */
__device__ __forceinline__ void mma_f16_k8(float* sums, const uint32_t* a, const uint32_t* b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

/*
 * sums (16, 8) += a (16, 16) b (16, 8): after the registers of the columns of a and rows of b before 8 come those of
 * the others. Before compute capability 8.0: f16 by two of k8, bf16 not at all (dtype.h says so).
 */
__device__ __forceinline__ void mma_f16_k16(float* sums, const uint32_t* a, const uint32_t* b) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_f16_k8(sums, a, b);
    mma_f16_k8(sums, a + 2, b + 1);
#endif
}

__device__ __forceinline__ void mma_bf16_k16(float* sums, const uint32_t* a, const uint32_t* b) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    (void)sums, (void)a, (void)b;
    __trap();
#endif
}

/*
 * Copies 16 bytes to shared memory, both aligned to 16, behind the thread's back; those from valid on are not read and
 * become zeros. They are there for the thread after copy_async_wait<n>() if n commits at most came after the one that
 * followed the copy, and for others after a barrier. Before compute capability 8.0 they are there at once.
 */
__device__ __forceinline__ void copy_async(void* to, const void* from, int32_t valid) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(valid)
                 : "memory");
#else
    uint4 x = {};
    if (valid == 16) {
        x = *(const uint4*)from;
    } else {
        for (int32_t i = 0; i < valid; i++) {
            unsigned byte = (unsigned)((const uint8_t*)from)[i] << (i % 4 * 8);
            x.x |= i / 4 == 0 ? byte : 0;
            x.y |= i / 4 == 1 ? byte : 0;
            x.z |= i / 4 == 2 ? byte : 0;
            x.w |= i / 4 == 3 ? byte : 0;
        }
    }
    *(uint4*)to = x;
#endif
}

__device__ __forceinline__ void copy_async_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int commits>
__device__ __forceinline__ void copy_async_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(commits) : "memory");
#endif
}

#else

#include "emulation.h"

constexpr int64_t MOST_BLOCKS = 7;         /* few, so that blocks have several items */
constexpr int64_t MOST_PARTIALS = 1 << 14; /* few, so that rows are computed some after the others */

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

static inline uint16_t f32_to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return x != x ? 0x7fff : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float bf16_to_f32(uint16_t bits) {
    return bits_to_f32((uint32_t)bits << 16);
}

struct emulated_mma_lane {
    float* sums;
    const uint32_t* a;
    const uint32_t* b;
};

/* The products, which are exact in f32, are added in order of k. A GPU's own order is not known. */
template <int K, float (*decode)(uint16_t)>
void emulated_mma_warp(void* const* lanes) {
    float a[16][K];
    float b[K][8];
    for (int lane = 0; lane < 32; lane++) {
        const emulated_mma_lane* l = (const emulated_mma_lane*)lanes[lane];
        for (int k = 0; k < K / 8; k++) {
            for (int half = 0; half < 2; half++) {
                int column = k * 8 + lane % 4 * 2 + half;
                a[lane / 4][column] = decode((uint16_t)(l->a[2 * k] >> 16 * half));
                a[lane / 4 + 8][column] = decode((uint16_t)(l->a[2 * k + 1] >> 16 * half));
                b[column][lane / 4] = decode((uint16_t)(l->b[k] >> 16 * half));
            }
        }
    }
    for (int row = 0; row < 16; row++) {
        float sums[8];
        for (int column = 0; column < 8; column++) {
            sums[column] = ((emulated_mma_lane*)lanes[row % 8 * 4 + column / 2])->sums[row / 8 * 2 + column % 2];
        }
        for (int k = 0; k < K; k++) {
            for (int column = 0; column < 8; column++) {
                sums[column] += a[row][k] * b[k][column];
            }
        }
        for (int column = 0; column < 8; column++) {
            ((emulated_mma_lane*)lanes[row % 8 * 4 + column / 2])->sums[row / 8 * 2 + column % 2] = sums[column];
        }
    }
}

static inline void mma_f16_k8(float* sums, const uint32_t* a, const uint32_t* b) {
    emulated_mma_lane lane = {sums, a, b};
    emulated_together(emulated_mma_warp<8, f16_to_f32>, &lane);
}

static inline void mma_f16_k16(float* sums, const uint32_t* a, const uint32_t* b) {
    emulated_mma_lane lane = {sums, a, b};
    emulated_together(emulated_mma_warp<16, f16_to_f32>, &lane);
}

static inline void mma_bf16_k16(float* sums, const uint32_t* a, const uint32_t* b) {
    emulated_mma_lane lane = {sums, a, b};
    emulated_together(emulated_mma_warp<16, bf16_to_f32>, &lane);
}

static inline void copy_async(void* to, const void* from, int32_t valid) {
    emulated_copy(to, from, valid);
}

static inline void copy_async_commit() {
    emulated_copy_commit();
}

template <int commits>
void copy_async_wait() {
    emulated_copy_wait(commits);
}

#endif

#endif
