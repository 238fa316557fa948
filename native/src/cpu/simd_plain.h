/* simd_plain.h: 16 lanes in plain C: the reference of the other three. */

typedef struct v {
    float x[LM_LANES];
} v;

#define LM_EACH_LANE for (int i = 0; i < LM_LANES; i++)

/* Register tiles of linear.c: activation rows x weight rows. */
#define LM_TILE_ROWS 2
#define LM_TILE_WEIGHTS 2
#define LM_TILE_WEIGHTS_1 2
#define LM_FEW_ROWS 8 /* up to here without blocks */
#define LM_BLOCK_TILE_ROWS 2
#define LM_BLOCK_TILE_WEIGHTS 2
#define LM_BLOCK_GROUP 4 /* weight rows that meet all rows of a block in turn */
#define LM_TILE_SUMS 4   /* of attention.c: heads x positions, heads x vectors of values */

/* Tiles of linear_transposed.c: activation rows x vectors of columns. */
#define LM_COLUMN_TILE_ROWS 2
#define LM_COLUMN_TILE_VECTORS 1

LM_INLINE v v_set(float x) {
    v r;
    LM_EACH_LANE
        r.x[i] = x;
    return r;
}

LM_INLINE v v_zero(void) {
    return v_set(0);
}

LM_INLINE v v_load(const void* from) {
    v r;
    memcpy(r.x, from, sizeof r.x);
    return r;
}

LM_INLINE void v_store(void* to, v a) {
    memcpy(to, a.x, sizeof a.x);
}

LM_INLINE float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = h >> 10 & 0x1f;
    uint32_t fraction = h & 0x3ff;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact */
        return bits_float(sign | float_bits((float)fraction * 0x1p-24f));
    }
    if (exponent == 31) { /* infinity, or NaN made quiet */
        return bits_float(sign | 0x7f800000 | fraction << 13 | (fraction != 0 ? 0x400000u : 0));
    }
    return bits_float(sign | (exponent + 112) << 23 | fraction << 13);
}

LM_INLINE uint16_t f32_to_f16(float x) {
    uint32_t bits = float_bits(x);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    }
    if (magnitude >= 0x477ff000) { /* 65520 and above round to infinity */
        return sign | 0x7c00;
    }
    if (magnitude < 0x38800000) { /* below 2^-14: adding 0.5 rounds to a multiple of 2^-24, the unit of subnormals */
        return (uint16_t)(sign | (float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000));
    }
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((rounded >> 13) - (112 << 10)));
}

LM_INLINE v v_load_f16(const void* from) {
    uint16_t h[LM_LANES];
    memcpy(h, from, sizeof h);
    v r;
    LM_EACH_LANE
        r.x[i] = f16_to_f32(h[i]);
    return r;
}

LM_INLINE v v_load_bf16(const void* from) {
    uint16_t h[LM_LANES];
    memcpy(h, from, sizeof h);
    v r;
    LM_EACH_LANE
        r.x[i] = bits_float((uint32_t)h[i] << 16);
    return r;
}

LM_INLINE float e4m3_to_f32(uint8_t code) {
    uint32_t magnitude = code & 0x7f;
    uint32_t normal = (magnitude << 20) + (120u << 23);
    uint32_t bits = magnitude < 8 ? float_bits((float)magnitude * 0x1p-9f) : normal;
    return bits_float((uint32_t)(code & 0x80) << 24 | (magnitude == 0x7f ? 0xffffe000 : bits));
}

LM_INLINE v v_load_e4m3(const void* from) {
    uint8_t codes[LM_LANES];
    memcpy(codes, from, sizeof codes);
    v r;
    LM_EACH_LANE
        r.x[i] = e4m3_to_f32(codes[i]);
    return r;
}

LM_INLINE v v_load_e2m1(const void* from) {
    static const float values[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    uint8_t codes[LM_LANES / 2];
    memcpy(codes, from, sizeof codes);
    v r;
    LM_EACH_LANE
        r.x[i] = values[codes[i / 2] >> i % 2 * 4 & 15];
    return r;
}

LM_INLINE void v_store_f16(void* to, v a) {
    uint16_t h[LM_LANES];
    LM_EACH_LANE
        h[i] = f32_to_f16(a.x[i]);
    memcpy(to, h, sizeof h);
}

LM_INLINE v v_add(v a, v b) {
    LM_EACH_LANE
        a.x[i] = a.x[i] + b.x[i];
    return a;
}

LM_INLINE v v_sub(v a, v b) {
    LM_EACH_LANE
        a.x[i] = a.x[i] - b.x[i];
    return a;
}

LM_INLINE v v_mul(v a, v b) {
    LM_EACH_LANE
        a.x[i] = a.x[i] * b.x[i];
    return a;
}

LM_INLINE v v_div(v a, v b) {
    LM_EACH_LANE
        a.x[i] = a.x[i] / b.x[i];
    return a;
}

LM_INLINE v v_fma(v a, v b, v c) {
    LM_EACH_LANE
        c.x[i] = fmaf(a.x[i], b.x[i], c.x[i]);
    return c;
}

LM_INLINE v v_min(v a, v b) {
    LM_EACH_LANE
        a.x[i] = a.x[i] < b.x[i] ? a.x[i] : b.x[i];
    return a;
}

LM_INLINE v v_max(v a, v b) {
    LM_EACH_LANE
        a.x[i] = a.x[i] > b.x[i] ? a.x[i] : b.x[i];
    return a;
}

LM_INLINE v v_select_less(v a, v b, v x, v y) {
    LM_EACH_LANE
        x.x[i] = a.x[i] < b.x[i] ? x.x[i] : y.x[i];
    return x;
}

LM_INLINE v v_abs(v a) {
    LM_EACH_LANE
        a.x[i] = bits_float(float_bits(a.x[i]) & 0x7fffffff);
    return a;
}

LM_INLINE v v_copysign(v magnitude, v sign) {
    LM_EACH_LANE
        magnitude.x[i] = bits_float((float_bits(magnitude.x[i]) & 0x7fffffff) | (float_bits(sign.x[i]) & 0x80000000));
    return magnitude;
}

/* 1.5 * 2^23 + 127 + n has n + 127, the exponent field wanted, in its lowest bits. */
LM_INLINE v v_pow2(v n) {
    LM_EACH_LANE
        n.x[i] = bits_float(float_bits(n.x[i] + 12583039.0f) << 23);
    return n;
}

LM_INLINE float v_sum(v a) {
    for (int half = LM_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            a.x[i] = a.x[i] + a.x[i + half];
        }
    }
    return a.x[0];
}

LM_INLINE void v_sum_4(float* out, v a, v b, v c, v d) {
    out[0] = v_sum(a);
    out[1] = v_sum(b);
    out[2] = v_sum(c);
    out[3] = v_sum(d);
}

LM_INLINE float v_reduce_max(v a) {
    for (int half = LM_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            a.x[i] = a.x[i] > a.x[i + half] ? a.x[i] : a.x[i + half];
        }
    }
    return a.x[0];
}
