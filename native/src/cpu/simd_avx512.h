/* simd_avx512.h: 16 lanes in one register. */

#include <immintrin.h>

typedef __m512 v;

/* Register tiles of linear.c: 25 sums, 5 weights and an activation in 32 registers; for one row, 8 weight rows. */
#define LM_TILE_ROWS 5
#define LM_TILE_WEIGHTS 5
#define LM_TILE_WEIGHTS_1 8
#define LM_FEW_ROWS 32 /* up to here without blocks */
#define LM_BLOCK_TILE_ROWS 5
#define LM_BLOCK_TILE_WEIGHTS 5
#define LM_BLOCK_GROUP 10 /* weight rows that meet all rows of a block in turn */
#define LM_TILE_SUMS 16   /* of attention.c: heads x positions, heads x vectors of values */

/* Tiles of linear_transposed.c, rows x vectors: 24 sums, 4 weights and an activation in 32 registers. */
#define LM_COLUMN_TILE_ROWS 6
#define LM_COLUMN_TILE_VECTORS 4

LM_INLINE v v_zero(void) {
    return _mm512_setzero_ps();
}

LM_INLINE v v_set(float x) {
    return _mm512_set1_ps(x);
}

LM_INLINE v v_load(const void* from) {
    return _mm512_loadu_ps(from);
}

LM_INLINE void v_store(void* to, v a) {
    _mm512_storeu_ps(to, a);
}

LM_INLINE v v_load_f16(const void* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
}

LM_INLINE v v_load_bf16(const void* from) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* Shifted to the exponent of f16, a code counts 2^-8 of its value, subnormals too. */
LM_INLINE v v_load_e4m3(const void* from) {
    __m128i codes = _mm_loadu_si128((const __m128i*)from);
    __mmask16 numbers = _mm_cmpneq_epi8_mask(_mm_or_si128(codes, _mm_set1_epi8(-128)), _mm_set1_epi8(-1));
    __m256i wide = _mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7); /* the sign twice */
    __m256i halves = _mm256_and_si256(wide, _mm256_set1_epi16((int16_t)0xbfff));
    v nan = _mm512_castsi512_ps(_mm512_set1_epi32((int32_t)0xffffe000));
    return _mm512_mask_mul_ps(nan, numbers, _mm512_cvtph_ps(halves), _mm512_set1_ps(256));
}

LM_INLINE v v_load_e2m1(const void* from) {
    __m512i codes = _mm512_castsi128_si512(_mm_loadl_epi64((const __m128i*)from));
    __m512i words = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    __m512i shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    v values = _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
    /* The permutation looks at the low four bits of an index alone. */
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_permutexvar_epi32(words, codes), shifts), values);
}

LM_INLINE void v_store_f16(void* to, v a) {
    _mm256_storeu_si256((__m256i*)to, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

LM_INLINE v v_add(v a, v b) {
    return _mm512_add_ps(a, b);
}

LM_INLINE v v_sub(v a, v b) {
    return _mm512_sub_ps(a, b);
}

LM_INLINE v v_mul(v a, v b) {
    return _mm512_mul_ps(a, b);
}

LM_INLINE v v_div(v a, v b) {
    return _mm512_div_ps(a, b);
}

LM_INLINE v v_fma(v a, v b, v c) {
    return _mm512_fmadd_ps(a, b, c);
}

LM_INLINE v v_min(v a, v b) {
    return _mm512_min_ps(a, b);
}

LM_INLINE v v_max(v a, v b) {
    return _mm512_max_ps(a, b);
}

LM_INLINE v v_select_less(v a, v b, v x, v y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

LM_INLINE v v_abs(v a) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)));
}

LM_INLINE v v_copysign(v magnitude, v sign) {
    __m512i mask = _mm512_set1_epi32(0x7fffffff);
    __m512i m = _mm512_and_si512(mask, _mm512_castps_si512(magnitude));
    return _mm512_castsi512_ps(_mm512_or_si512(m, _mm512_andnot_si512(mask, _mm512_castps_si512(sign))));
}

LM_INLINE v v_pow2(v n) {
    __m512i bits = _mm512_castps_si512(_mm512_add_ps(n, _mm512_set1_ps(12583039.0f))); /* as in simd_plain.h */
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 23));
}

LM_INLINE __m256 v_high(v a) {
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}

LM_INLINE float v_sum(v a) {
    __m256 x8 = _mm256_add_ps(_mm512_castps512_ps256(a), v_high(a));
    __m128 x4 = _mm_add_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
    __m128 x2 = _mm_add_ps(x4, _mm_movehl_ps(x4, x4));
    return _mm_cvtss_f32(_mm_add_ss(x2, _mm_shuffle_ps(x2, x2, 1)));
}

LM_INLINE void v_sum_4(float* out, v a, v b, v c, v d) {
    v ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee)); /* a a b b, 4 each */
    v cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    v x4 = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd)); /* a b c d */
    v x2 = _mm512_add_ps(x4, _mm512_permute_ps(x4, 0x4e));
    v x1 = _mm512_add_ps(x2, _mm512_permute_ps(x2, 0xb1));
    __m512i firsts = _mm512_castsi128_si512(_mm_setr_epi32(0, 4, 8, 12));
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, x1)));
}

LM_INLINE float v_reduce_max(v a) {
    __m256 x8 = _mm256_max_ps(_mm512_castps512_ps256(a), v_high(a));
    __m128 x4 = _mm_max_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
    __m128 x2 = _mm_max_ps(x4, _mm_movehl_ps(x4, x4));
    return _mm_cvtss_f32(_mm_max_ss(x2, _mm_shuffle_ps(x2, x2, 1)));
}
