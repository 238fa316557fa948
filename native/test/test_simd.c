/*
 * test_simd.c: the 16-lane vector and its exp, tanh, erf, softplus, built once for each instruction set: all 65536 values
 * of f16 and bf16, all of e4m3, e2m1 and e8m0, rounding to f16, accuracy in units in the last place, infinities, NaN, and
 * the order of the sum.
 */
#include "cpu/vmath.h"
#include "cpu/weight.h"

#include "test.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double f16_value(uint32_t h) {
    int exponent = h >> 10 & 31;
    double fraction = h & 1023;
    double magnitude = exponent == 31  ? (fraction == 0 ? INFINITY : NAN)
                       : exponent == 0 ? ldexp(fraction, -24)
                                       : ldexp(1024 + fraction, exponent - 25);
    return h & 0x8000 ? -magnitude : magnitude;
}

static void test_widening(void) {
    for (uint32_t first = 0; first < 65536; first += LM_LANES) {
        uint16_t h[LM_LANES];
        float f16[LM_LANES];
        float bf16[LM_LANES];
        for (uint32_t i = 0; i < LM_LANES; i++) {
            h[i] = (uint16_t)(first + i);
        }
        v_store(f16, v_load_f16(h));
        v_store(bf16, v_load_bf16(h));
        for (uint32_t i = 0; i < LM_LANES; i++) {
            double want = f16_value(first + i);
            CHECK(isnan(want) ? isnan(f16[i]) : bits_of(f16[i]) == bits_of((float)want), "f16 0x%04x gives %g",
                  first + i, f16[i]);
            CHECK(bits_of(bf16[i]) == (first + i) << 16 || isnan(bf16[i]), "bf16 0x%04x gives %g", first + i, bf16[i]);
            CHECK(isnan(bf16[i]) == (((first + i) & 0x7fff) > 0x7f80), "bf16 0x%04x gives %g", first + i, bf16[i]);
        }
        for (int32_t n = 1; n < LM_LANES; n++) { /* parts: zeros beyond them */
            float part[LM_LANES];
            v_store(part, v_load_f16_part(h, n));
            CHECK(memcmp(part, f16, (size_t)n * 4) == 0 && bits_of(part[n]) == 0, "part of %d f16", n);
            v_store(part, v_load_bf16_part(h, n));
            CHECK(memcmp(part, bf16, (size_t)n * 4) == 0 && bits_of(part[n]) == 0, "part of %d bf16", n);
        }
    }
}

/* Every code of the types with scales, as the OCP specifications of FP8 and of microscaling formats have them. */
static void test_small_types(void) {
    float x[LM_LANES];
    for (uint32_t first = 0; first < 256; first += LM_LANES) {
        uint8_t codes[LM_LANES];
        for (uint32_t i = 0; i < LM_LANES; i++) {
            codes[i] = (uint8_t)(first + i);
        }
        v_store(x, v_load_e4m3(codes));
        for (uint32_t i = 0; i < LM_LANES; i++) {
            int exponent = codes[i] >> 3 & 15;
            int fraction = codes[i] & 7;
            float want = exponent == 0 ? ldexpf((float)fraction, -9) : ldexpf((float)(8 + fraction), exponent - 10);
            want = codes[i] & 0x80 ? -want : want;
            int nan = exponent == 15 && fraction == 7;
            CHECK(nan ? isnan(x[i]) : bits_of(x[i]) == bits_of(want), "e4m3 0x%02x gives %g", codes[i], x[i]);
        }
        for (int32_t n = 1; n < LM_LANES; n++) {
            float part[LM_LANES];
            v_store(part, v_load_e4m3_part(codes, n));
            CHECK(memcmp(part, x, (size_t)n * 4) == 0 && bits_of(part[n]) == 0, "part of %d e4m3", n);
        }
    }
    static const float e2m1[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    for (uint32_t seed = 0; seed < 256; seed++) {
        uint8_t codes[LM_LANES / 2];
        for (uint32_t i = 0; i < LM_LANES / 2; i++) {
            codes[i] = (uint8_t)(seed + 37 * i);
        }
        v_store(x, v_load_e2m1(codes));
        for (uint32_t i = 0; i < LM_LANES; i++) {
            float want = e2m1[i % 2 == 0 ? codes[i / 2] & 15 : codes[i / 2] >> 4];
            CHECK(bits_of(x[i]) == bits_of(want), "e2m1 element %u of 0x%02x gives %g", i % 2, codes[i / 2], x[i]);
        }
    }
    for (int code = 0; code < 255; code++) {
        CHECK(e8m0_to_f32((uint8_t)code) == ldexpf(1, code - 127), "e8m0 %d", code);
    }
    CHECK(isnan(e8m0_to_f32(255)), "e8m0 255");
}

static uint16_t to_f16(float x) {
    uint16_t h[LM_LANES];
    v_store_f16(h, v_set(x));
    return h[LM_LANES - 1];
}

/* Each f16, the middle between it and the next one, and the floats beside that middle. */
static void test_rounding_to_f16(void) {
    for (uint32_t h = 0; h < 0x7c00; h++) {
        for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000) {
            float x = (float)f16_value(h | sign);
            double above = h == 0x7bff ? 65536 : f16_value(h + 1);
            float middle = (float)((f16_value(h) + above) / 2);
            middle = sign ? -middle : middle;
            CHECK(to_f16(x) == (h | sign), "%.9g gives 0x%04x", x, to_f16(x));
            CHECK(to_f16(middle) == ((h + (h & 1)) | sign), "%.9g gives 0x%04x", middle, to_f16(middle));
            float below = of_bits(bits_of(middle) - 1);
            float beyond = of_bits(bits_of(middle) + 1);
            CHECK(to_f16(below) == (h | sign), "%.9g gives 0x%04x", below, to_f16(below));
            CHECK(to_f16(beyond) == ((h + 1) | sign), "%.9g gives 0x%04x", beyond, to_f16(beyond));
        }
    }
    CHECK(to_f16(INFINITY) == 0x7c00 && to_f16(-INFINITY) == 0xfc00 && to_f16(1e30f) == 0x7c00, "infinity");
    CHECK((to_f16(NAN) & 0x7fff) > 0x7c00, "NaN gives 0x%04x", to_f16(NAN));
    CHECK(to_f16(1e-30f) == 0 && to_f16(-1e-30f) == 0x8000, "underflow");
}

static float one_exp(float x) {
    float y[LM_LANES];
    v_store(y, v_exp(v_set(x)));
    return y[0];
}

static float one_tanh(float x) {
    float y[LM_LANES];
    v_store(y, v_tanh(v_set(x)));
    return y[0];
}

static float one_erf(float x) {
    float y[LM_LANES];
    v_store(y, v_erf(v_set(x)));
    return y[0];
}

static float one_softplus(float x) {
    float y[LM_LANES];
    v_store(y, v_softplus(v_set(x)));
    return y[0];
}

static double softplus(double x) {
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

/* Distance of got from want in the spacing of floats at want. */
static double ulps(float got, double want) {
    if (isinf((float)want) || isnan(want)) {
        return (float)want == got || (isnan(want) && isnan(got)) ? 0 : INFINITY;
    }
    int exponent;
    frexp(want, &exponent);
    return fabs(got - want) / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static void sweep(const char* name, float (*function)(float), double (*exact)(double), float from, float to,
                  double most) {
    double worst = 0;
    float where = 0;
    for (int i = 0; i <= 100000; i++) {
        float x = from + (to - from) * (float)i / 100000;
        double error = ulps(function(x), exact(x));
        if (error > worst) {
            worst = error;
            where = x;
        }
    }
    CHECK(worst <= most, "%s is off by %g units in the last place at %.9g", name, worst, where);
}

static void test_functions(void) {
    sweep("exp", one_exp, exp, -104, 90, 2);
    sweep("exp", one_exp, exp, -1, 1, 2);
    sweep("tanh", one_tanh, tanh, -10, 10, 2);
    sweep("tanh", one_tanh, tanh, -0.7f, 0.7f, 2);
    sweep("tanh", one_tanh, tanh, -1e-6f, 1e-6f, 2);
    sweep("erf", one_erf, erf, -5, 5, 2);
    sweep("erf", one_erf, erf, -1, 1, 2);
    sweep("erf", one_erf, erf, -1e-6f, 1e-6f, 2);
    sweep("softplus", one_softplus, softplus, -103, 100, 2);
    sweep("softplus", one_softplus, softplus, -1, 1, 2);
    CHECK(one_softplus(INFINITY) == INFINITY && one_softplus(-INFINITY) == 0 && one_softplus(1e30f) == 1e30f
              && isnan(one_softplus(NAN)),
          "softplus at its ends");
    CHECK(one_exp(INFINITY) == INFINITY && bits_of(one_exp(-INFINITY)) == 0 && one_exp(0) == 1, "exp at its ends");
    CHECK(one_exp(-104.5f) == 0 && one_exp(-200) == 0 && isinf(one_exp(88.73f)) && isinf(one_exp(1e30f)),
          "exp beyond floats");
    CHECK(one_tanh(INFINITY) == 1 && one_tanh(-INFINITY) == -1 && one_tanh(50) == 1 && one_tanh(-1e30f) == -1,
          "tanh at its ends");
    CHECK(one_erf(INFINITY) == 1 && one_erf(-INFINITY) == -1 && one_erf(1e30f) == 1 && one_erf(-6) == -1,
          "erf at its ends");
    CHECK(isnan(one_exp(NAN)) && isnan(one_tanh(NAN)) && isnan(one_erf(NAN)), "NaN");
    CHECK(bits_of(one_tanh(-0.0f)) == 0x80000000 && bits_of(one_erf(-0.0f)) == 0x80000000, "the sign of zero");
}

static void test_lanes(void) {
    float x[LM_LANES];
    uint64_t seed = 7;
    for (int i = 0; i < LM_LANES; i++) {
        x[i] = random_float(&seed);
    }
    float tree[LM_LANES];
    memcpy(tree, x, sizeof tree);
    for (int half = LM_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            volatile float sum = tree[i] + tree[i + half];
            tree[i] = sum;
        }
    }
    CHECK(bits_of(v_sum(v_load(x))) == bits_of(tree[0]), "v_sum gives %.9g, not %.9g", v_sum(v_load(x)), tree[0]);
    for (int at = 0; at < LM_LANES; at++) { /* the maximum in each lane */
        float y[LM_LANES];
        memcpy(y, x, sizeof y);
        y[at] = 3;
        CHECK(v_reduce_max(v_load(y)) == 3, "v_reduce_max misses lane %d", at);
    }
    float y[LM_LANES];
    v_store(y, v_max(v_set(NAN), v_set(1)));
    CHECK(y[0] == 1, "v_max(NaN, 1) is %g", y[0]);
    v_store(y, v_max(v_set(1), v_set(NAN)));
    CHECK(isnan(y[0]), "v_max(1, NaN) is %g", y[0]);
    v_store(y, v_min(v_set(0.0f), v_set(-0.0f)));
    CHECK(bits_of(y[3]) == 0x80000000, "v_min(0, -0) is %g", y[3]);
    v_store(y, v_fma(v_set(0x1.000002p0f), v_set(0x1.000002p0f), v_set(-0x1.000004p0f)));
    CHECK(y[5] == 0x1p-46f, "v_fma rounds its product: %g", y[5]);
    for (int n = -126; n <= 127; n++) {
        v_store(y, v_pow2(v_set((float)n)));
        CHECK(y[9] == ldexpf(1, n), "v_pow2(%d) is %g", n, y[9]);
    }
}

int main(void) {
    static const char* const names[] = {"auto", "plain", "avx2", "avx512", "neon"};
    int32_t simd = LM_SIMD_NEON;
    while (strcmp(names[simd], TEXT(LM_ISA)) != 0) {
        simd--;
    }
    if (!(supported_simd() & 1 << simd)) {
        printf("this machine has no %s\n", names[simd]);
        return 77; /* skipped */
    }
    test_widening();
    test_small_types();
    test_rounding_to_f16();
    test_functions();
    test_lanes();
    return finish_tests("test_simd");
}
