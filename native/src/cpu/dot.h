/* dot.h: canonical sums (simd.h) of a tile of vectors with another, the heart of linear and attention. */
#ifndef LAMINA_DOT_H
#define LAMINA_DOT_H

#include "weight.h"

#define LM_TILE_MOST 8 /* the most rows of either side of a tile */
#define LM_LINE 64     /* bytes that memory is read in */

/*
 * One step of dot_tile: the 16 elements of each row that a and w point to, or fewer at the end of a row; scale (nr): of
 * each row of w, where dtype has scales.
 */
LM_INLINE void dot_step(v* sums, int mr, int nr, const float* a, int64_t a_stride, const uint8_t* w, int64_t w_stride,
                        const float* scale, int32_t count, int32_t dtype) {
    v weights[LM_TILE_MOST];
    LM_UNROLL
    for (int n = 0; n < nr; n++) {
        weights[n] = v_load_dtype(w + n * w_stride, count, dtype);
        if (lm_scale_block(dtype) != 0) {
            weights[n] = scaled_lanes(weights[n], scale[n], count);
        }
    }
    LM_UNROLL
    for (int m = 0; m < mr; m++) {
        v x = v_load_n(a + m * a_stride, count);
        LM_UNROLL
        for (int n = 0; n < nr; n++) {
            sums[m * nr + n] = v_fma(x, weights[n], sums[m * nr + n]);
        }
    }
}

/*
 * sums[m * nr + n] += a row m * w row n, lane by lane over k elements: mr rows of a, a_stride floats apart, and nr rows
 * of w, w_stride bytes apart, in dtype. mr, nr and dtype are constants, so that the sums stay in registers. w comes
 * from memory: ahead is the bytes to prefetch ahead, going over from the end of these rows to the nr rows that follow.
 */
LM_INLINE void dot_tile(v* sums, int mr, int nr, const float* a, int64_t a_stride, const uint8_t* w, int64_t w_stride,
                        int32_t k, int32_t dtype, int64_t ahead) {
    int64_t element = lm_dtype_bytes(dtype);
    const int32_t line = (int32_t)(LM_LINE / element); /* of the cache, in elements: one or two steps */
    int32_t i = 0;
    for (; i + line <= k; i += line) {
        int64_t next = i * element + ahead;
        next = next < k * element ? next : next - k * element + nr * w_stride;
        LM_UNROLL
        for (int n = 0; n < nr; n++) {
            LM_PREFETCH((uintptr_t)w + (uintptr_t)(n * w_stride + next));
        }
        LM_UNROLL
        for (int32_t j = 0; j < line; j += LM_LANES) {
            dot_step(sums, mr, nr, a + i + j, a_stride, w + (i + j) * element, w_stride, NULL, LM_LANES, dtype);
        }
    }
    for (; i + LM_LANES <= k; i += LM_LANES) {
        dot_step(sums, mr, nr, a + i, a_stride, w + i * element, w_stride, NULL, LM_LANES, dtype);
    }
    if (i < k) {
        dot_step(sums, mr, nr, a + i, a_stride, w + i * element, w_stride, NULL, k - i, dtype);
    }
}

/* dot_tile for weights of an op whose dtype has scales: those from row n on. */
LM_INLINE void dot_tile_scaled(v* sums, int mr, int nr, const float* a, int64_t a_stride, const uint8_t* w,
                               const lm_step* step, const lm_op* op, int32_t n, int32_t k, int32_t dtype,
                               int64_t ahead) {
    const int32_t block = lm_scale_block(dtype);
    const int32_t line = LM_LINE / (int32_t)lm_weight_bytes(dtype, LM_LANES) * LM_LANES; /* in elements */
    int64_t w_stride = op->weight_stride;
    int64_t row_bytes = lm_weight_bytes(dtype, k);
    for (int32_t span = 0; span < k; span += LM_SPAN) {
        int32_t span_end = k - span < LM_SPAN ? k : span + LM_SPAN;
        float room[LM_TILE_MOST][LM_SPAN_SCALES];
        const float* scales[LM_TILE_MOST];
        for (int j = 0; j < nr; j++) {
            scales[j] = weight_scales(room[j], step, op, (int64_t)n + j, span, span_end - span, dtype);
        }
        for (int32_t begin = span; begin < span_end; begin += block) {
            int32_t end = span_end - begin < block ? span_end : begin + block;
            float scale[LM_TILE_MOST];
            LM_UNROLL
            for (int j = 0; j < nr; j++) {
                scale[j] = scales[j][(begin - span) / block];
            }
            int32_t i = begin;
            for (; i + LM_LANES <= end; i += LM_LANES) {
                int64_t at = lm_weight_bytes(dtype, i);
                if (i % line == 0) {
                    int64_t next = at + ahead;
                    next = next < row_bytes ? next : next - row_bytes + nr * w_stride;
                    LM_UNROLL
                    for (int j = 0; j < nr; j++) {
                        LM_PREFETCH((uintptr_t)w + (uintptr_t)(j * w_stride + next));
                    }
                }
                dot_step(sums, mr, nr, a + i, a_stride, w + at, w_stride, scale, LM_LANES, dtype);
            }
            if (i < end) {
                int64_t at = lm_weight_bytes(dtype, i);
                dot_step(sums, mr, nr, a + i, a_stride, w + at, w_stride, scale, end - i, dtype);
            }
        }
    }
}

#endif
