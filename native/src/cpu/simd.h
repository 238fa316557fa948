/*
 * simd.h: the vector of 16 float lanes that every kernel is written in.
 *
 * Each op is compiled once for each instruction set, with LM_ISA naming it, and gives the same bits in all of them.
 * That holds because lanes are independent, each function below is one IEEE 754 operation a lane (or one fixed tree
 * over the lanes), and nothing contracts or reorders them (-ffp-contract=off, no -ffast-math).
 *
 * The canonical sum: element k of a long sum goes to lane k mod 16 by a fused multiply-add, in order of k; lanes beyond
 * the end of the last group of 16 take 0 * 0; v_sum adds lanes 8, 4, 2, 1 apart.
 */
#ifndef LAMINA_SIMD_H
#define LAMINA_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LM_LANES 16

#define LM_JOIN_(a, b) a##_##b
#define LM_JOIN(a, b) LM_JOIN_(a, b)
#define LM_KERNEL(name) LM_JOIN(name, LM_ISA) /* the name of a kernel of this instruction set */

#if defined(LM_SANITIZED) /* inlined vectors full of checks take minutes to compile */
#define LM_INLINE static __attribute__((noinline, unused))
#else
#define LM_INLINE static inline __attribute__((always_inline))
#endif

/* Unrolls the loop that follows completely: its arrays of vectors then live in registers. */
#if defined(__clang__)
#define LM_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LM_UNROLL _Pragma("GCC unroll 16")
#endif

/* Never faults; the address is a number, for it may lie beyond the memory that it was computed from. */
#define LM_PREFETCH(address) __builtin_prefetch((const void*)(address))

LM_INLINE uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

LM_INLINE float bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/*
 * A header provides, for vectors v (16 floats), memory of any alignment, and f16 / bf16 as their 16 bits:
 *     v_zero v_set v_load v_store                  v_load_f16 v_load_bf16 v_store_f16 (round to nearest even)
 *     v_load_e4m3                                  16 bytes, not scaled; 0x7f and 0xff are NaN
 *     v_load_e2m1                                  8 bytes, not scaled; the first element of each in its low bits
 *     v_add v_sub v_mul v_div v_fma(a, b, c) = a * b + c
 *     v_min v_max                                  a < b ? a : b and a > b ? a : b, so b where one is NaN
 *     v_select_less(a, b, x, y)                    a < b ? x : y
 *     v_abs v_copysign(magnitude, sign)
 *     v_pow2(n)                                    2^n for whole n in -126 .. 127
 *     v_sum v_reduce_max                           over the lanes, in the tree 8, 4, 2, 1
 *     v_sum_4(out, a, b, c, d)                     four v_sum at once, for fewer shuffles
 * and for parts vp of a vector, LM_PART_LANES of its lanes in one register: p_zero p_load p_store p_fma; by default a
 * part is the whole.
 */
#if defined(LM_ISA_AVX512)
#define LM_ISA avx512
#include "simd_avx512.h"
#elif defined(LM_ISA_AVX2)
#define LM_ISA avx2
#include "simd_avx2.h"
#elif defined(LM_ISA_NEON)
#define LM_ISA neon
#include "simd_neon.h"
#else
#define LM_ISA plain
#include "simd_plain.h"
#endif

#if !defined(LM_PART_LANES)
#define LM_PART_LANES LM_LANES
typedef v vp;

LM_INLINE vp p_zero(void) {
    return v_zero();
}

LM_INLINE vp p_load(const float* from) {
    return v_load(from);
}

LM_INLINE void p_store(float* to, vp a) {
    v_store(to, a);
}

LM_INLINE vp p_fma(vp a, vp b, vp c) {
    return v_fma(a, b, c);
}
#endif

/* The first n < 16 elements; zeros in the other lanes. Nothing beyond them is read. */
LM_INLINE v v_load_part(const void* from, int32_t n) {
    float t[LM_LANES] = {0};
    memcpy(t, from, (size_t)n * sizeof(float));
    return v_load(t);
}

LM_INLINE v v_load_f16_part(const void* from, int32_t n) {
    uint16_t t[LM_LANES] = {0};
    memcpy(t, from, (size_t)n * sizeof(uint16_t));
    return v_load_f16(t);
}

LM_INLINE v v_load_bf16_part(const void* from, int32_t n) {
    uint16_t t[LM_LANES] = {0};
    memcpy(t, from, (size_t)n * sizeof(uint16_t));
    return v_load_bf16(t);
}

LM_INLINE v v_load_e4m3_part(const void* from, int32_t n) {
    uint8_t t[LM_LANES] = {0};
    memcpy(t, from, (size_t)n);
    return v_load_e4m3(t);
}

LM_INLINE void v_store_part(void* to, v x, int32_t n) {
    float t[LM_LANES];
    v_store(t, x);
    memcpy(to, t, (size_t)n * sizeof(float));
}

LM_INLINE void v_store_f16_part(void* to, v x, int32_t n) {
    uint16_t t[LM_LANES];
    v_store_f16(t, x);
    memcpy(to, t, (size_t)n * sizeof(uint16_t));
}

/* Up to 16 elements of a dtype, converted to f32, not scaled; n >= 16 loads all lanes, and e2m1 has no fewer. */
LM_INLINE v v_load_dtype(const void* from, int32_t n, int32_t dtype) {
    switch (dtype) {
    case 0: /* LM_DTYPE_F32 */
        return n >= LM_LANES ? v_load(from) : v_load_part(from, n);
    case 1: /* LM_DTYPE_F16 */
        return n >= LM_LANES ? v_load_f16(from) : v_load_f16_part(from, n);
    case 2: /* LM_DTYPE_BF16 */
        return n >= LM_LANES ? v_load_bf16(from) : v_load_bf16_part(from, n);
    case 3: /* LM_DTYPE_F8_E4M3 */
        return n >= LM_LANES ? v_load_e4m3(from) : v_load_e4m3_part(from, n);
    default: /* LM_DTYPE_MXFP4 */
        return v_load_e2m1(from);
    }
}

/* Loads and stores of elementwise loops, which meet a tail only at their end. */
LM_INLINE v v_load_n(const float* from, int32_t n) {
    return n >= LM_LANES ? v_load(from) : v_load_part(from, n);
}

LM_INLINE void v_store_n(float* to, v x, int32_t n) {
    if (n >= LM_LANES) {
        v_store(to, x);
    } else {
        v_store_part(to, x, n);
    }
}

#endif
