/* simd_neon.h: 16 lanes in four registers (AArch64). */

#include <arm_neon.h>

typedef struct v {
    float32x4_t q[4]; /* lanes 4 i .. 4 i + 3 */
} v;

#define LM_EACH_QUAD LM_UNROLL for (int i = 0; i < 4; i++)

/* Register tiles of linear.c: 3 x 2 sums of four registers each, of 32 registers; in blocks 4 x 5 of one register. */
#define LM_TILE_ROWS 3
#define LM_TILE_WEIGHTS 2
#define LM_TILE_WEIGHTS_1 4
#define LM_FEW_ROWS 8 /* up to here without blocks */
#define LM_BLOCK_TILE_ROWS 4
#define LM_BLOCK_TILE_WEIGHTS 5
#define LM_BLOCK_GROUP 10 /* weight rows that meet all rows of a block in turn */
#define LM_TILE_SUMS 4    /* of attention.c: heads x positions, heads x vectors of values */

/* Tiles of linear_transposed.c, rows x vectors: 24 registers of sums, 4 of weights and an activation. */
#define LM_COLUMN_TILE_ROWS 6
#define LM_COLUMN_TILE_VECTORS 1

LM_INLINE v v_set(float x) {
    v r;
    LM_EACH_QUAD
        r.q[i] = vdupq_n_f32(x);
    return r;
}

LM_INLINE v v_zero(void) {
    return v_set(0);
}

LM_INLINE v v_load(const void* from) {
    v r;
    LM_EACH_QUAD
        r.q[i] = vreinterpretq_f32_u8(vld1q_u8((const uint8_t*)from + 16 * i));
    return r;
}

LM_INLINE void v_store(void* to, v a) {
    LM_EACH_QUAD
        vst1q_u8((uint8_t*)to + 16 * i, vreinterpretq_u8_f32(a.q[i]));
}

LM_INLINE v v_load_f16(const void* from) {
    v r;
    LM_EACH_QUAD
        r.q[i] = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t*)from + 8 * i)));
    return r;
}

LM_INLINE v v_load_bf16(const void* from) {
    v r;
    LM_EACH_QUAD
        r.q[i] = vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8((const uint8_t*)from + 8 * i)), 16));
    return r;
}

/* Shifted to the exponent of f16, a code counts 2^-8 of its value, subnormals too. */
LM_INLINE v v_load_e4m3(const void* from) {
    v r;
    LM_UNROLL
    for (int half = 0; half < 2; half++) {
        int16x8_t signed_codes = vmovl_s8(vld1_s8((const int8_t*)from + 8 * half));
        uint16x8_t wide = vreinterpretq_u16_s16(vshlq_n_s16(signed_codes, 7)); /* the sign twice */
        uint16x8_t nans = vceqq_u16(vorrq_u16(wide, vdupq_n_u16(0xc07f)), vdupq_n_u16(0xffff));
        float16x8_t halves = vreinterpretq_f16_u16(vorrq_u16(vandq_u16(wide, vdupq_n_u16(0xbfff)), nans));
        r.q[2 * half] = vmulq_n_f32(vcvt_f32_f16(vget_low_f16(halves)), 256);
        r.q[2 * half + 1] = vmulq_n_f32(vcvt_f32_f16(vget_high_f16(halves)), 256);
    }
    return r;
}

LM_INLINE v v_load_e2m1(const void* from) {
    static const uint8_t high_bytes[16] = {/* of the values as f16, whose low bytes are 0 */
                                           0x00, 0x38, 0x3c, 0x3e, 0x40, 0x42, 0x44, 0x46,
                                           0x80, 0xb8, 0xbc, 0xbe, 0xc0, 0xc2, 0xc4, 0xc6};
    uint8x8_t codes = vld1_u8((const uint8_t*)from);
    uint8x8x2_t pairs = vzip_u8(vand_u8(codes, vdup_n_u8(15)), vshr_n_u8(codes, 4));
    v r;
    LM_UNROLL
    for (int half = 0; half < 2; half++) {
        uint16x8_t bits = vshll_n_u8(vqtbl1_u8(vld1q_u8(high_bytes), pairs.val[half]), 8);
        float16x8_t halves = vreinterpretq_f16_u16(bits);
        r.q[2 * half] = vcvt_f32_f16(vget_low_f16(halves));
        r.q[2 * half + 1] = vcvt_f32_f16(vget_high_f16(halves));
    }
    return r;
}

LM_INLINE void v_store_f16(void* to, v a) {
    LM_EACH_QUAD
        vst1_u8((uint8_t*)to + 8 * i, vreinterpret_u8_f16(vcvt_f16_f32(a.q[i])));
}

LM_INLINE v v_add(v a, v b) {
    LM_EACH_QUAD
        a.q[i] = vaddq_f32(a.q[i], b.q[i]);
    return a;
}

LM_INLINE v v_sub(v a, v b) {
    LM_EACH_QUAD
        a.q[i] = vsubq_f32(a.q[i], b.q[i]);
    return a;
}

LM_INLINE v v_mul(v a, v b) {
    LM_EACH_QUAD
        a.q[i] = vmulq_f32(a.q[i], b.q[i]);
    return a;
}

LM_INLINE v v_div(v a, v b) {
    LM_EACH_QUAD
        a.q[i] = vdivq_f32(a.q[i], b.q[i]);
    return a;
}

LM_INLINE v v_fma(v a, v b, v c) {
    LM_EACH_QUAD
        c.q[i] = vfmaq_f32(c.q[i], a.q[i], b.q[i]);
    return c;
}

/* Not vminq and vmaxq: those treat NaN and the sign of zero in another way. */
LM_INLINE v v_min(v a, v b) {
    LM_EACH_QUAD
        a.q[i] = vbslq_f32(vcltq_f32(a.q[i], b.q[i]), a.q[i], b.q[i]);
    return a;
}

LM_INLINE v v_max(v a, v b) {
    LM_EACH_QUAD
        a.q[i] = vbslq_f32(vcgtq_f32(a.q[i], b.q[i]), a.q[i], b.q[i]);
    return a;
}

LM_INLINE v v_select_less(v a, v b, v x, v y) {
    LM_EACH_QUAD
        x.q[i] = vbslq_f32(vcltq_f32(a.q[i], b.q[i]), x.q[i], y.q[i]);
    return x;
}

LM_INLINE v v_abs(v a) {
    LM_EACH_QUAD
        a.q[i] = vabsq_f32(a.q[i]);
    return a;
}

LM_INLINE v v_copysign(v magnitude, v sign) {
    LM_EACH_QUAD
        magnitude.q[i] = vbslq_f32(vdupq_n_u32(0x80000000), sign.q[i], magnitude.q[i]);
    return magnitude;
}

LM_INLINE v v_pow2(v n) {
    v t = v_add(n, v_set(12583039.0f)); /* as in simd_plain.h */
    LM_EACH_QUAD
        t.q[i] = vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(t.q[i]), 23));
    return t;
}

typedef float32x4_t vp;
#define LM_PART_LANES 4

LM_INLINE vp p_zero(void) {
    return vdupq_n_f32(0);
}

LM_INLINE vp p_load(const float* from) {
    return vld1q_f32(from);
}

LM_INLINE void p_store(float* to, vp a) {
    vst1q_f32(to, a);
}

LM_INLINE vp p_fma(vp a, vp b, vp c) {
    return vfmaq_f32(c, a, b);
}

LM_INLINE float v_sum(v a) {
    float32x4_t x4 = vaddq_f32(vaddq_f32(a.q[0], a.q[2]), vaddq_f32(a.q[1], a.q[3]));
    float32x2_t x2 = vadd_f32(vget_low_f32(x4), vget_high_f32(x4));
    return vget_lane_f32(x2, 0) + vget_lane_f32(x2, 1);
}

LM_INLINE float32x4_t v_fold_neon(v a) {
    return vaddq_f32(vaddq_f32(a.q[0], a.q[2]), vaddq_f32(a.q[1], a.q[3]));
}

LM_INLINE float32x4_t v_fold_2_neon(float32x4_t a, float32x4_t b) {
    return vaddq_f32(vcombine_f32(vget_low_f32(a), vget_low_f32(b)), vcombine_f32(vget_high_f32(a), vget_high_f32(b)));
}

LM_INLINE void v_sum_4(float* out, v a, v b, v c, v d) {
    float32x4_t ab = v_fold_2_neon(v_fold_neon(a), v_fold_neon(b)); /* a a b b */
    float32x4_t cd = v_fold_2_neon(v_fold_neon(c), v_fold_neon(d));
    vst1q_f32(out, vaddq_f32(vuzp1q_f32(ab, cd), vuzp2q_f32(ab, cd)));
}

LM_INLINE float v_reduce_max(v a) {
    v b = {{a.q[2], a.q[3], a.q[2], a.q[3]}};
    v x8 = v_max(a, b);
    float32x4_t x4 = vbslq_f32(vcgtq_f32(x8.q[0], x8.q[1]), x8.q[0], x8.q[1]);
    float32x2_t low = vget_low_f32(x4);
    float32x2_t high = vget_high_f32(x4);
    float32x2_t x2 = vbsl_f32(vcgt_f32(low, high), low, high);
    float first = vget_lane_f32(x2, 0);
    float second = vget_lane_f32(x2, 1);
    return first > second ? first : second;
}
