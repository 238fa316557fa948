/*
 * test_fragments.cu: the instructions of a GPU that products on tensor cores are made of (intrinsics.h), each on known
 * data against a plain loop of the host: which lane has which element, and when an asynchronous copy is there.
 *
 * Compiled as C++ it tests their emulation; the target test_fragments_cuda tests them on a GPU.
 */
#include "cuda/dtype.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int failures;

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition) && failures++ < 20) {                                                                         \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                     \
            printf(__VA_ARGS__);                                                                                       \
            printf("\n");                                                                                              \
        }                                                                                                              \
    } while (0)

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        cudaError_t error_ = (call);                                                                                   \
        if (error_ != cudaSuccess) {                                                                                   \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(error_));                          \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static void to_device(void* to, const void* from, size_t bytes) {
    MUST(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, nullptr));
}

/* After the kernel that was launched; tells of its errors. */
static void to_host(void* to, const void* from, size_t bytes) {
    MUST(cudaGetLastError());
    MUST(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, nullptr));
    MUST(cudaStreamSynchronize(nullptr));
}

static uint32_t random_bits() {
    static uint64_t seed = 1;
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

static float random_float() {
    return (float)(int32_t)random_bits() * 0x1p-31f;
}

/* -- mma ----------------------------------------------------------------------------------------------------------- */

enum { ROWS = 16, COLUMNS = 8 };

/* One step of a (ROWS, K) b (K, COLUMNS) + sums for a warp; each lane takes its elements where intrinsics.h says. */
template <int K, class STEP>
__global__ void mma_kernel(float* sums, const uint16_t* a, const uint16_t* b) {
    int lane = (int)threadIdx.x % 32;
    int group = lane / 4;
    int t = lane % 4;
    uint32_t a_pairs[K / 4];
    uint32_t b_pairs[K / 8];
    for (int i = 0; i < K / 8; i++) {
        int k = i * 8 + 2 * t;
        a_pairs[2 * i] = a[group * K + k] | (uint32_t)a[group * K + k + 1] << 16;
        a_pairs[2 * i + 1] = a[(group + 8) * K + k] | (uint32_t)a[(group + 8) * K + k + 1] << 16;
        b_pairs[i] = b[k * COLUMNS + group] | (uint32_t)b[(k + 1) * COLUMNS + group] << 16;
    }
    float own[4];
    for (int i = 0; i < 4; i++) {
        own[i] = sums[(group + i / 2 * 8) * COLUMNS + 2 * t + i % 2];
    }
    STEP::add(own, a_pairs, b_pairs);
    for (int i = 0; i < 4; i++) {
        sums[(group + i / 2 * 8) * COLUMNS + 2 * t + i % 2] = own[i];
    }
}

struct f16_k8 {
    static __device__ void add(float* sums, const uint32_t* a, const uint32_t* b) {
        mma_f16_k8(sums, a, b);
    }
};

struct f16_k16 {
    static __device__ void add(float* sums, const uint32_t* a, const uint32_t* b) {
        mma_f16_k16(sums, a, b);
    }
};

struct bf16_k16 {
    static __device__ void add(float* sums, const uint32_t* a, const uint32_t* b) {
        mma_bf16_k16(sums, a, b);
    }
};

static uint16_t to_bf16(float x) { /* cut off: any bf16 will do */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static float from_bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

/* Sums of quarters, exact in f16: 11 digits. */
static uint16_t to_f16(float quarters) {
    int whole = (int)(fabsf(quarters) * 4);
    int exponent = 0;
    while (whole >> (exponent + 1) != 0) {
        exponent++;
    }
    uint32_t magnitude =
        whole == 0 ? 0 : (uint32_t)(exponent - 2 + 15) << 10 | ((uint32_t)whole << (10 - exponent) & 0x3ff);
    return (uint16_t)(magnitude | (quarters < 0 ? 0x8000 : 0));
}

template <int K, class STEP>
static void test_mma(const char* name, bool bf) {
    float* sums;
    uint16_t* a; // (ROWS, K)
    uint16_t* b; // (K, COLUMNS)
    MUST(cudaMalloc((void**)&sums, ROWS * COLUMNS * sizeof *sums));
    MUST(cudaMalloc((void**)&a, ROWS * K * sizeof *a));
    MUST(cudaMalloc((void**)&b, K * COLUMNS * sizeof *b));
    for (int turn = 0; turn < 20; turn++) {
        float x[ROWS * K];
        float y[K * COLUMNS];
        float z[ROWS * COLUMNS];
        uint16_t x_bits[ROWS * K];
        uint16_t y_bits[K * COLUMNS];
        for (int i = 0; i < ROWS * K; i++) {
            x[i] = (float)((int)(random_bits() % 2001) - 1000) * 0.25f;
            x_bits[i] = bf ? to_bf16(x[i]) : to_f16(x[i]);
            x[i] = bf ? from_bf16(x_bits[i]) : x[i];
        }
        for (int i = 0; i < K * COLUMNS; i++) {
            y[i] = (float)((int)(random_bits() % 2001) - 1000) * 0.25f;
            y_bits[i] = bf ? to_bf16(y[i]) : to_f16(y[i]);
            y[i] = bf ? from_bf16(y_bits[i]) : y[i];
        }
        for (int i = 0; i < ROWS * COLUMNS; i++) {
            z[i] = random_float() * 1000;
        }
        to_device(a, x_bits, sizeof x_bits);
        to_device(b, y_bits, sizeof y_bits);
        to_device(sums, z, sizeof z);
        LAUNCH((mma_kernel<K, STEP>), 1, 32, 0, nullptr, sums, (const uint16_t*)a, (const uint16_t*)b);
        float got[ROWS * COLUMNS];
        to_host(got, sums, sizeof got);
        for (int row = 0; row < ROWS; row++) {
            for (int column = 0; column < COLUMNS; column++) {
                double sum = z[row * COLUMNS + column];
                double size = fabs(sum);
                for (int k = 0; k < K; k++) {
                    double product = (double)x[row * K + k] * y[k * COLUMNS + column];
                    sum += product;
                    size += fabs(product);
                }
                float value = got[row * COLUMNS + column];
                CHECK(fabs(value - sum) <= 1e-6 * size, "%s: (%d, %d) is %.9g, not %.9g", name, row, column, value,
                      sum);
            }
        }
    }
    MUST(cudaFree(b));
    MUST(cudaFree(a));
    MUST(cudaFree(sums));
}

/* -- copies to shared memory --------------------------------------------------------------------------------------- */

enum { PIECES = 64, STEPS = 9, RING = 3 };

/*
 * A ring of RING stages of PIECES pieces of 16 bytes, each copied by another thread than the one that takes it out; of
 * piece i the first i mod 17 bytes are there. out gets all of them.
 */
__global__ void copy_kernel(uint8_t* out, const uint8_t* from) {
    DYNAMIC_SHARED(uint8_t, ring); // (RING, PIECES, 16)
    int thread = (int)threadIdx.x;
    for (int step = 0; step < STEPS + RING - 1; step++) {
        if (step < STEPS) {
            int piece = step * PIECES + thread;
            copy_async(ring + (step % RING * PIECES + thread) * 16, from + piece * 16, piece % 17);
        }
        copy_async_commit();
        int ready = step - (RING - 1);
        copy_async_wait<RING - 1>();
        __syncthreads();
        if (ready >= 0) {
            int other = (thread + 21) % PIECES;
            for (int i = 0; i < 16; i++) {
                out[(ready * PIECES + other) * 16 + i] = ring[(ready % RING * PIECES + other) * 16 + i];
            }
        }
        __syncthreads();
    }
}

static void test_copies() {
    enum { BYTES = STEPS * PIECES * 16 };
    uint8_t* from;
    uint8_t* out;
    uint8_t data[BYTES];
    uint8_t got[BYTES];
    for (int i = 0; i < BYTES; i++) {
        data[i] = (uint8_t)(random_bits() % 255 + 1);
    }
    MUST(cudaMalloc((void**)&from, BYTES));
    MUST(cudaMalloc((void**)&out, BYTES));
    to_device(from, data, BYTES);
    LAUNCH(copy_kernel, 1, PIECES, RING * PIECES * 16, nullptr, out, (const uint8_t*)from);
    to_host(got, out, BYTES);
    for (int i = 0; i < BYTES; i++) {
        uint8_t expected = i % 16 < i / 16 % 17 ? data[i] : 0;
        CHECK(got[i] == expected, "copies: byte %d of piece %d is %d, not %d", i % 16, i / 16, got[i], expected);
    }
    MUST(cudaFree(out));
    MUST(cudaFree(from));
}

/* -- operands ------------------------------------------------------------------------------------------------------ */

/* A weight that is stored in blocks of 16 bytes with a factor: as little as dtype.h asks of one. */
struct scaled {
    enum { block = 8, block_bytes = 16 };
    typedef f16 operand;
    static __device__ void octet(float* out, const uint8_t* of_block, int, float) {
        for (int i = 0; i < OCTET; i++) {
            out[i] = (float)(int8_t)of_block[i] * f16::decode(*(const uint16_t*)(of_block + 8));
        }
    }
};

template <class T>
__global__ void operand_kernel(uint32_t* out, const uint8_t* from, int blocks) {
    int i = (int)threadIdx.x;
    if (i < blocks) {
        load_operand<T>(out + i * 4, from + i * T::block_bytes, 0, 1.0f);
    }
}

/* Rounding of activations: to the nearest, ties to even; f16 stays finite; a NaN stays one. */
template <class OPERAND>
__global__ void round_kernel(uint32_t* out, const float* x, int octets) {
    int i = (int)threadIdx.x;
    if (i < octets) {
        round_octet<OPERAND>(out + i * 4, x + i * OCTET);
    }
}

template <class OPERAND>
static void check_rounded(const char* name, const float* x, const uint16_t* expected, uint16_t infinity) {
    float* from;
    uint32_t* out;
    uint16_t got[OCTET];
    MUST(cudaMalloc((void**)&from, OCTET * sizeof(float)));
    MUST(cudaMalloc((void**)&out, sizeof got));
    to_device(from, x, OCTET * sizeof(float));
    LAUNCH(round_kernel<OPERAND>, 1, 32, 0, nullptr, out, (const float*)from, 1);
    to_host(got, out, sizeof got);
    for (int i = 0; i < OCTET; i++) {
        bool same = isnan(x[i]) ? (got[i] & 0x7fff) > infinity : got[i] == expected[i];
        CHECK(same, "%s: %.9g becomes %04x, not %04x", name, x[i], got[i], expected[i]);
    }
    MUST(cudaFree(out));
    MUST(cudaFree(from));
}

static void test_operands() {
    enum { BLOCKS = 5 };
    alignas(16) uint8_t blocks[BLOCKS * 16] = {};
    for (int i = 0; i < BLOCKS * 16; i++) {
        blocks[i] = (uint8_t)random_bits();
    }
    for (int b = 0; b < BLOCKS; b++) {
        uint16_t half = 0x3800; /* 0.5: the values are exact in f16 */
        memcpy(blocks + b * 16 + 8, &half, sizeof half);
    }
    uint8_t* from;
    uint32_t* out;
    uint16_t got[BLOCKS * OCTET];
    MUST(cudaMalloc((void**)&from, sizeof blocks));
    MUST(cudaMalloc((void**)&out, sizeof got));
    to_device(from, blocks, sizeof blocks);
    LAUNCH(operand_kernel<scaled>, 1, 32, 0, nullptr, out, (const uint8_t*)from, (int)BLOCKS);
    to_host(got, out, sizeof got);
    for (int i = 0; i < BLOCKS * OCTET; i++) {
        uint16_t expected = to_f16((float)(int8_t)blocks[i / OCTET * 16 + i % OCTET] * 0.5f);
        CHECK(got[i] == expected, "a weight in blocks: element %d is %04x, not %04x", i, got[i], expected);
    }
    MUST(cudaFree(out));
    MUST(cudaFree(from));
    float x[OCTET] = {1.00048828125f, 1.00146484375f, 65519.0f, 1e9f, -INFINITY, NAN, -0x1p-24f, 0x1.8p-25f};
    uint16_t as_f16[OCTET] = {0x3c00, 0x3c02, 0x7bff, 0x7bff, 0xfbff, 0, 0x8001, 0x0001};
    check_rounded<f16>("f16", x, as_f16, 0x7c00);
    float y[OCTET] = {1.00390625f, 1.01171875f, 1e38f, 3.4e38f, -INFINITY, NAN, -0x1p-126f, 0.0f};
    uint16_t as_bf16[OCTET] = {0x3f80, 0x3f82, 0x7e96, 0x7f80, 0xff80, 0, 0x8080, 0};
    check_rounded<bf16>("bf16", y, as_bf16, 0x7f80);
}

int main() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        printf("test_fragments: there is no GPU\n");
        return 77;
    }
    cudaDeviceProp properties;
    MUST(cudaGetDeviceProperties(&properties, 0));
    test_mma<8, f16_k8>("mma f16 k8", false);
    test_mma<16, f16_k16>("mma f16 k16", false);
    if (properties.major >= 8) {
        test_mma<16, bf16_k16>("mma bf16 k16", true);
    } else {
        printf("test_fragments: compute capability %d.%d: no mma of bf16, that of f16 and k16 is two of k8, copies are "
               "there at once\n",
               properties.major, properties.minor);
    }
    test_copies();
    test_operands();
    printf("test_fragments: %d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
