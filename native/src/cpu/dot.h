/* dot.h: canonical sums (simd.h) of a tile of vectors with another, the heart of linear and attention. */
#ifndef LAMINA_DOT_H
#define LAMINA_DOT_H

#include "simd.h"

#include "../backend.h"

#define LM_TILE_MOST 8 /* the most rows of either side of a tile */

/*
 * sums[m * nr + n] += a row m * w row n, lane by lane over k elements: mr rows of a, a_stride floats apart, and nr rows
 * of w, w_stride bytes apart, in dtype. mr, nr and dtype are constants, so that the sums stay in registers. w comes
 * from memory where ahead > 0: bytes to prefetch ahead, going over from the end of these rows to the nr rows that
 * follow.
 */
LM_INLINE void dot_tile(v* sums, int mr, int nr, const float* a, int64_t a_stride, const uint8_t* w, int64_t w_stride,
                        int32_t k, int32_t dtype, int64_t ahead) {
    int64_t element = lm_dtype_bytes(dtype);
    int32_t i = 0;
    for (; i + LM_LANES <= k; i += LM_LANES) {
        v weights[LM_TILE_MOST];
        if (ahead > 0) {
            int64_t next = i * element + ahead;
            next = next < k * element ? next : next - k * element + nr * w_stride;
            LM_UNROLL
            for (int n = 0; n < nr; n++) {
                LM_PREFETCH((uintptr_t)w + (uintptr_t)(n * w_stride + next));
            }
        }
        LM_UNROLL
        for (int n = 0; n < nr; n++) {
            weights[n] = v_load_dtype(w + n * w_stride + i * element, LM_LANES, dtype);
        }
        LM_UNROLL
        for (int m = 0; m < mr; m++) {
            v x = v_load(a + m * a_stride + i);
            LM_UNROLL
            for (int n = 0; n < nr; n++) {
                sums[m * nr + n] = v_fma(x, weights[n], sums[m * nr + n]);
            }
        }
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
