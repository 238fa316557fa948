/*
 * vmath.h: exp, tanh, erf and softplus of 16 lanes, within 2 units in the last place, with the same bits for every
 * instruction set (the C library's differ from system to system). Coefficients: minimax fits of our own in exact
 * rationals of float32, highest power first. Infinities and NaN give what the functions have there. Then what ops make
 * of them.
 */
#ifndef LAMINA_VMATH_H
#define LAMINA_VMATH_H

#include "simd.h"

/* x to the nearest whole number, |x| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction. */
LM_INLINE v v_round(v x) {
    v magic = v_set(12582912.0f);
    return v_sub(v_add(x, magic), magic);
}

/* exp(x) = 2^n * exp(r), r = x - n ln 2 in two pieces of ln 2, exp(r) = 1 + r + r^2 q(r) on |r| <= ln 2 / 2. */
LM_INLINE v v_exp(v x) {
    x = v_min(v_set(89.0f), v_max(v_set(-105.0f), x)); /* beyond these the result is infinity or 0 */
    v n = v_round(v_mul(x, v_set(0x1.715476p+0f)));
    v r = v_fma(n, v_set(-0x1.62e43p-1f), x);
    r = v_fma(n, v_set(1.9046542e-9f), r);
    v p = v_set(0x1.6a2354p-10f);
    p = v_fma(p, r, v_set(0x1.123a6cp-7f));
    p = v_fma(p, r, v_set(0x1.5558f4p-5f));
    p = v_fma(p, r, v_set(0x1.555490p-3f));
    p = v_fma(p, r, v_set(0x1.fffffcp-2f));
    p = v_fma(p, r, v_set(1.0f));
    p = v_fma(p, r, v_set(1.0f));
    v half = v_round(v_mul(n, v_set(0.5f))); /* 2^n in two factors: it can be subnormal or above the largest float */
    return v_mul(v_mul(p, v_pow2(half)), v_pow2(v_sub(n, half)));
}

/* tanh(x) = x + x^3 q(x^2) for |x| < 0.625, 1 - 2 / (exp(2 |x|) + 1) otherwise, with the sign of x. */
LM_INLINE v v_tanh(v x) {
    v magnitude = v_abs(x);
    v z = v_mul(x, x);
    v p = v_set(-0x1.6e41ecp-8f);
    p = v_fma(p, z, v_set(0x1.507918p-6f));
    p = v_fma(p, z, v_set(-0x1.b7fbf0p-5f));
    p = v_fma(p, z, v_set(0x1.110546p-3f));
    p = v_fma(p, z, v_set(-0x1.55552ap-2f));
    v small = v_fma(v_mul(p, z), x, x);
    v e = v_exp(v_add(magnitude, magnitude));
    v large = v_sub(v_set(1.0f), v_div(v_set(2.0f), v_add(e, v_set(1.0f))));
    return v_copysign(v_select_less(magnitude, v_set(0.625f), small, large), x); /* tanh(-0) too */
}

/* erf(x) = x + x q(x^2) for |x| < 0.9375, 1 - exp(-(t + t q(t))), t = |x|, otherwise, with the sign of x. */
LM_INLINE v v_erf(v x) {
    v magnitude = v_abs(x);
    v z = v_mul(x, x);
    v p = v_set(0x1.5a1282p-14f);
    p = v_fma(p, z, v_set(-0x1.a968ecp-11f));
    p = v_fma(p, z, v_set(0x1.54afbcp-8f));
    p = v_fma(p, z, v_set(-0x1.b80c10p-6f));
    p = v_fma(p, z, v_set(0x1.ce2decp-4f));
    p = v_fma(p, z, v_set(-0x1.812742p-2f));
    p = v_fma(p, z, v_set(0x1.06eba8p-3f));
    v small = v_fma(p, x, x);
    v t = v_min(v_set(4.0f), magnitude); /* erf(4) is 1 in float32 */
    v q = v_set(0x1.8ece3cp-17f);
    q = v_fma(q, t, v_set(-0x1.594df4p-12f));
    q = v_fma(q, t, v_set(0x1.e0ddcep-9f));
    q = v_fma(q, t, v_set(-0x1.863884p-6f));
    q = v_fma(q, t, v_set(0x1.b36802p-4f));
    q = v_fma(q, t, v_set(0x1.452d90p-1f));
    q = v_fma(q, t, v_set(0x1.077dbcp-3f));
    v large = v_sub(v_set(1.0f), v_exp(v_sub(v_zero(), v_fma(q, t, t))));
    return v_copysign(v_select_less(magnitude, v_set(0.9375f), small, large), x);
}

/*
 * log(1 + exp(x)) = max(x, 0) + log(1 + y), y = exp(-|x|), which is 2 (z + z^3 / 3 + z^5 / 5 + ...) with z = y / (y + 2),
 * at most 1 / 3: nine terms are enough. 2 z is y - y z, where the error of z hardly counts.
 */
LM_INLINE v v_softplus(v x) {
    v y = v_exp(v_sub(v_zero(), v_abs(x)));
    v z = v_div(y, v_add(y, v_set(2.0f)));
    v square = v_mul(z, z);
    v p = v_set(1.0f / 17);
    p = v_fma(p, square, v_set(1.0f / 15));
    p = v_fma(p, square, v_set(1.0f / 13));
    p = v_fma(p, square, v_set(1.0f / 11));
    p = v_fma(p, square, v_set(1.0f / 9));
    p = v_fma(p, square, v_set(1.0f / 7));
    p = v_fma(p, square, v_set(1.0f / 5));
    p = v_fma(p, square, v_set(1.0f / 3));
    v twice = v_fma(v_sub(v_zero(), y), z, y);
    v series = v_fma(v_mul(p, square), v_add(z, z), twice);
    return v_add(v_max(v_zero(), x), series);
}

/* x / (1 + exp(-factor * x)); SiLU with a factor of 1. */
LM_INLINE v v_swish(v x, float factor) {
    return v_div(x, v_add(v_set(1.0f), v_exp(v_mul(x, v_set(-factor)))));
}

#endif
