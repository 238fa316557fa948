/* weight.h: elements of a weight, with their scales where its dtype has any. */
#ifndef LAMINA_WEIGHT_H
#define LAMINA_WEIGHT_H

#include "simd.h"

#include "../backend.h"

#define LM_SPAN 512                   /* elements of a row whose scales are looked up at once */
#define LM_SPAN_SCALES (LM_SPAN / 32) /* floats for those of any dtype */

/* 2^(code - 127); 255 is NaN. */
LM_INLINE float e8m0_to_f32(uint8_t code) {
    uint32_t ends = (uint8_t)(code + 1) < 2 ? 0x400000 : 0; /* 2^-127 is subnormal, and infinity with this bit is NaN */
    return bits_float((uint32_t)code << 23 | ends);
}

/*
 * The scales of elements k .. k + count - 1 of weight row n, one for each lm_scale_block(dtype) of them; k is a
 * multiple of LM_SPAN and count at most LM_SPAN. They may be put into room (LM_SPAN_SCALES). Null where dtype has no scales.
 */
LM_INLINE const float* weight_scales(float* room, const lm_step* step, const lm_op* op, int64_t n, int32_t k,
                                     int32_t count, int32_t dtype) {
    if (dtype == LM_DTYPE_F8_E4M3) {
        return op->scales + (op->scale_row + n) / 128 * op->scale_stride + k / 128;
    }
    if (dtype == LM_DTYPE_MXFP4) {
        const uint8_t* codes = (const uint8_t*)step->panel + op->scale_offset + n * op->scale_stride + k / 32;
        for (int32_t i = 0; i < count / 32; i++) {
            room[i] = e8m0_to_f32(codes[i]);
        }
        return room;
    }
    return NULL;
}

/* x times scale in the first n of 16 lanes; no scale makes more than zero of what is not there. */
LM_INLINE v scaled_lanes(v x, float scale, int32_t n) {
    x = v_mul(x, v_set(scale));
    if (n < 16) {
        float lanes[16];
        v_store(lanes, x);
        x = v_load_n(lanes, n);
    }
    return x;
}

/* Up to 16 elements, as v_load_dtype has them, that share this scale. */
LM_INLINE v weight_load(const void* from, int32_t n, const float* scale, int32_t dtype) {
    v x = v_load_dtype(from, n, dtype);
    return lm_scale_block(dtype) == 0 ? x : scaled_lanes(x, *scale, n);
}

#endif
