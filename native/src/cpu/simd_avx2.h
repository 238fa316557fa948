/* simd_avx2.h: 16 lanes in two registers, with FMA and F16C. */

#include <immintrin.h>

typedef struct v {
    __m256 lo; /* lanes 0 .. 7 */
    __m256 hi;
} v;

/* Register tiles of linear.c: 3 x 2 sums of two registers each, of 16 registers; in blocks 4 x 3 of one register. */
#define LM_TILE_ROWS 3
#define LM_TILE_WEIGHTS 2
#define LM_TILE_WEIGHTS_1 4
#define LM_FEW_ROWS 8 /* up to here without blocks */
#define LM_BLOCK_TILE_ROWS 4
#define LM_BLOCK_TILE_WEIGHTS 3
#define LM_BLOCK_GROUP 6 /* weight rows that meet all rows of a block in turn */
#define LM_TILE_SUMS 4   /* of attention.c: heads x positions, heads x vectors of values */

/* Tiles of linear_transposed.c, rows x vectors: 12 registers of sums, 2 of weights and an activation. */
#define LM_COLUMN_TILE_ROWS 6
#define LM_COLUMN_TILE_VECTORS 1

LM_INLINE v v_set(float x) {
    return (v){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

LM_INLINE v v_zero(void) {
    return (v){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

LM_INLINE v v_load(const void* from) {
    return (v){_mm256_loadu_ps((const float*)from), _mm256_loadu_ps((const float*)from + 8)};
}

LM_INLINE void v_store(void* to, v a) {
    _mm256_storeu_ps((float*)to, a.lo);
    _mm256_storeu_ps((float*)to + 8, a.hi);
}

LM_INLINE v v_load_f16(const void* from) {
    const __m128i* h = (const __m128i*)from;
    return (v){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}

LM_INLINE __m256 v_widen_bf16(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

LM_INLINE v v_load_bf16(const void* from) {
    const __m128i* h = (const __m128i*)from;
    return (v){v_widen_bf16(_mm_loadu_si128(h)), v_widen_bf16(_mm_loadu_si128(h + 1))};
}

/* Shifted to the exponent of f16, a code counts 2^-8 of its value, subnormals too. */
LM_INLINE v v_load_e4m3(const void* from) {
    __m128i codes = _mm_loadu_si128((const __m128i*)from);
    __m256i wide = _mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7); /* the sign twice */
    __m256i ones = _mm256_set1_epi16(-1);
    __m256i nans = _mm256_cmpeq_epi16(_mm256_or_si256(wide, _mm256_set1_epi16((int16_t)0xc07f)), ones);
    __m256i halves = _mm256_or_si256(_mm256_and_si256(wide, _mm256_set1_epi16((int16_t)0xbfff)), nans);
    __m256 unit = _mm256_set1_ps(256);
    return (v){_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), unit),
               _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)), unit)};
}

/* Eight elements of four bytes; the permutation looks at the low three bits of an index alone. */
LM_INLINE __m256 v_widen_e2m1(const uint8_t* from) {
    int32_t codes;
    memcpy(&codes, from, sizeof codes);
    __m256i x = _mm256_srlv_epi32(_mm256_set1_epi32(codes), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    __m256 magnitudes = _mm256_permutevar8x32_ps(_mm256_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6), x);
    __m256 signs = _mm256_castsi256_ps(_mm256_slli_epi32(x, 28));
    return _mm256_or_ps(magnitudes, _mm256_and_ps(signs, _mm256_set1_ps(-0.0f)));
}

LM_INLINE v v_load_e2m1(const void* from) {
    return (v){v_widen_e2m1((const uint8_t*)from), v_widen_e2m1((const uint8_t*)from + 4)};
}

LM_INLINE void v_store_f16(void* to, v a) {
    __m128i* h = (__m128i*)to;
    _mm_storeu_si128(h, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}

LM_INLINE v v_add(v a, v b) {
    return (v){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

LM_INLINE v v_sub(v a, v b) {
    return (v){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

LM_INLINE v v_mul(v a, v b) {
    return (v){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

LM_INLINE v v_div(v a, v b) {
    return (v){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

LM_INLINE v v_fma(v a, v b, v c) {
    return (v){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

LM_INLINE v v_min(v a, v b) {
    return (v){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}

LM_INLINE v v_max(v a, v b) {
    return (v){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

LM_INLINE v v_select_less(v a, v b, v x, v y) {
    return (v){_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
               _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}

LM_INLINE v v_abs(v a) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}

LM_INLINE v v_copysign(v magnitude, v sign) {
    __m256 bit = _mm256_set1_ps(-0.0f);
    v m = v_abs(magnitude);
    return (v){_mm256_or_ps(m.lo, _mm256_and_ps(bit, sign.lo)), _mm256_or_ps(m.hi, _mm256_and_ps(bit, sign.hi))};
}

LM_INLINE v v_pow2(v n) {
    v t = v_add(n, v_set(12583039.0f)); /* as in simd_plain.h */
    return (v){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t.lo), 23)),
               _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t.hi), 23))};
}

typedef __m256 vp;
#define LM_PART_LANES 8

LM_INLINE vp p_zero(void) {
    return _mm256_setzero_ps();
}

LM_INLINE vp p_load(const float* from) {
    return _mm256_loadu_ps(from);
}

LM_INLINE void p_store(float* to, vp a) {
    _mm256_storeu_ps(to, a);
}

LM_INLINE vp p_fma(vp a, vp b, vp c) {
    return _mm256_fmadd_ps(a, b, c);
}

LM_INLINE float v_sum(v a) {
    __m256 x8 = _mm256_add_ps(a.lo, a.hi);
    __m128 x4 = _mm_add_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
    __m128 x2 = _mm_add_ps(x4, _mm_movehl_ps(x4, x4));
    return _mm_cvtss_f32(_mm_add_ss(x2, _mm_shuffle_ps(x2, x2, 1)));
}

LM_INLINE void v_sum_4(float* out, v a, v b, v c, v d) {
    __m256 a8 = _mm256_add_ps(a.lo, a.hi);
    __m256 b8 = _mm256_add_ps(b.lo, b.hi);
    __m256 c8 = _mm256_add_ps(c.lo, c.hi);
    __m256 d8 = _mm256_add_ps(d.lo, d.hi);
    __m256 ab = _mm256_add_ps(_mm256_permute2f128_ps(a8, b8, 0x20), _mm256_permute2f128_ps(a8, b8, 0x31));
    __m256 cd = _mm256_add_ps(_mm256_permute2f128_ps(c8, d8, 0x20), _mm256_permute2f128_ps(c8, d8, 0x31));
    __m256 x2 = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee)); /* a a c c, b b d d */
    __m256 x1 = _mm256_add_ps(x2, _mm256_permute_ps(x2, 0xb1));
    __m128 ac = _mm256_castps256_ps128(x1);
    __m128 bd = _mm256_extractf128_ps(x1, 1);
    _mm_storeu_ps(out, _mm_blend_ps(ac, bd, 0xa)); /* a b c d */
}

LM_INLINE float v_reduce_max(v a) {
    __m256 x8 = _mm256_max_ps(a.lo, a.hi);
    __m128 x4 = _mm_max_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
    __m128 x2 = _mm_max_ps(x4, _mm_movehl_ps(x4, x4));
    return _mm_cvtss_f32(_mm_max_ss(x2, _mm_shuffle_ps(x2, x2, 1)));
}
