/* dot.h: canonical sums (simd.h) of a tile of vectors with another, the heart of linear and attention. */
#ifndef LAMINA_DOT_H
#define LAMINA_DOT_H

#include "simd.h"

#include "../backend.h"

#define LM_TILE_MOST 8 /* the most rows of either side of a tile */
#define LM_LINE 64     /* bytes that memory is read in */

/* One step of dot_tile: the 16 elements of each row that a and w point to. */
LM_INLINE void dot_step(v* sums, int mr, int nr, const float* a, int64_t a_stride, const uint8_t* w, int64_t w_stride,
                        int32_t dtype) {
    v weights[LM_TILE_MOST];
    LM_UNROLL
    for (int n = 0; n < nr; n++) {
        weights[n] = v_load_dtype(w + n * w_stride, LM_LANES, dtype);
    }
    LM_UNROLL
    for (int m = 0; m < mr; m++) {
        v x = v_load(a + m * a_stride);
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
            dot_step(sums, mr, nr, a + i + j, a_stride, w + (i + j) * element, w_stride, dtype);
        }
    }
    for (; i + LM_LANES <= k; i += LM_LANES) {
        dot_step(sums, mr, nr, a + i, a_stride, w + i * element, w_stride, dtype);
    }
    if (i < k) {
        v weights[LM_TILE_MOST];
        LM_UNROLL
        for (int n = 0; n < nr; n++) {
            weights[n] = v_load_dtype(w + n * w_stride + i * element, k - i, dtype);
        }
        LM_UNROLL
        for (int m = 0; m < mr; m++) {
            v x = v_load_part(a + m * a_stride + i, k - i);
            LM_UNROLL
            for (int n = 0; n < nr; n++) {
                sums[m * nr + n] = v_fma(x, weights[n], sums[m * nr + n]);
            }
        }
    }
}

#endif
