/* test_emulation.cpp: what a GPU's threads do together; kernels that would hang or be undefined there fail. */
#include "cuda/emulation.h"

#include <stdio.h>
#include <stdlib.h>

static int failures;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            failures++;                                                                                                \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                     \
        }                                                                                                              \
    } while (0)

/* The launch before ended with this message; the next one must not be harmed by it. */
#define FAILED(text)                                                                                                   \
    do {                                                                                                               \
        cudaError_t error_ = cudaGetLastError();                                                                       \
        const char* message_ = cudaGetErrorString(error_);                                                             \
        CHECK(error_ == cudaErrorLaunchFailure);                                                                       \
        if (strstr(message_, (text)) == NULL) {                                                                        \
            failures++;                                                                                                \
            printf("%s:%d: %s\n", __FILE__, __LINE__, message_);                                                       \
        }                                                                                                              \
    } while (0)

#define ALL 0xffffffffu

static unsigned linear_thread() {
    return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
}

/* Reverses what each block has, through memory of both kinds. */
__global__ static void reverse(int* out, const int* in, unsigned threads) {
    DYNAMIC_SHARED(int, dynamic);
    __shared__ int fixed[1024];
    unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned thread = linear_thread();
    dynamic[thread] = in[block * threads + thread];
    __syncthreads();
    fixed[thread] = dynamic[threads - 1 - thread];
    __syncthreads();
    out[block * threads + thread] = fixed[thread];
}

static void test_grids() {
    const dim3 grids[] = {dim3(1), dim3(3, 2, 2), dim3(5)};
    const dim3 blocks[] = {dim3(1), dim3(4, 5, 3), dim3(1024)};
    for (const dim3& grid : grids) {
        for (const dim3& block : blocks) {
            unsigned threads = block.x * block.y * block.z;
            unsigned count = grid.x * grid.y * grid.z * threads;
            int* in = (int*)malloc(count * sizeof(int));
            int* out = (int*)calloc(count, sizeof(int));
            for (unsigned i = 0; i < count; i++) {
                in[i] = (int)i;
            }
            LAUNCH(reverse, grid, block, threads * sizeof(int), nullptr, out, in, threads);
            CHECK(cudaGetLastError() == cudaSuccess);
            for (unsigned i = 0; i < count; i++) {
                CHECK(out[i] == (int)(i / threads * threads + threads - 1 - i % threads));
            }
            free(out);
            free(in);
        }
    }
}

__global__ static void shuffle(int* out) {
    int lane = (int)threadIdx.x % 32;
    int* mine = out + threadIdx.x * 5;
    mine[0] = __shfl_xor_sync(ALL, lane, 5);
    mine[1] = __shfl_down_sync(ALL, lane, 3);
    mine[2] = __shfl_sync(ALL, lane, 7);
    mine[3] = __shfl_sync(lane < 16 ? 0xffffu : 0xffff0000u, lane, lane < 16 ? 2 : 20); /* each half for itself */
    __syncwarp();
    float sum = 1.0f;
    for (int distance = 16; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(ALL, sum, distance);
    }
    mine[4] = (int)sum;
}

static void test_shuffles() {
    int out[96 * 5];
    LAUNCH(shuffle, 1, 96, 0, nullptr, out);
    CHECK(cudaGetLastError() == cudaSuccess);
    for (int i = 0; i < 96; i++) {
        int lane = i % 32;
        CHECK(out[i * 5] == (lane ^ 5));
        CHECK(out[i * 5 + 1] == (lane + 3 < 32 ? lane + 3 : lane));
        CHECK(out[i * 5 + 2] == 7);
        CHECK(out[i * 5 + 3] == (lane < 16 ? 2 : 20));
        CHECK(out[i * 5 + 4] == 32);
    }
}

/* Only the threads below `some` come to the barrier, then all to another. */
__global__ static void part_of_block(unsigned some, bool another) {
    if (threadIdx.x < some) {
        __syncthreads();
    }
    if (another) {
        __syncthreads();
    }
}

__global__ static void missing_lane(unsigned missing, int kind) {
    if (threadIdx.x == missing) {
        if (kind == 1) {
            __syncthreads();
        } else if (kind == 2) {
            __syncwarp();
        }
        return;
    }
    __shfl_xor_sync(ALL, 1, 1);
    if (kind == 1) {
        __syncthreads();
    }
}

__global__ static void missing_warp_barrier() {
    if (threadIdx.x != 4) {
        __syncwarp();
    }
}

/* A lane outside of the mask is asked for its value. */
__global__ static void foreign_lane() {
    if (threadIdx.x < 16) {
        __shfl_sync(0xffffu, 1, 16);
    }
}

__global__ static void shuffle_all() {
    __shfl_xor_sync(ALL, 1, 1);
}

/* Adds up what the lanes give. */
static void sum_lanes(void* const* lanes) {
    int sum = 0;
    for (int i = 0; i < 32; i++) {
        sum += *(int*)lanes[i];
    }
    for (int i = 0; i < 32; i++) {
        *(int*)lanes[i] += 1000 * sum;
    }
}

static void leave_lanes(void* const*) {
}

__global__ static void together(int* out, unsigned missing, bool other) {
    int mine = (int)threadIdx.x;
    if (threadIdx.x != missing) {
        emulated_together(sum_lanes, &mine);
    } else if (other) {
        emulated_together(leave_lanes, &mine);
    }
    out[threadIdx.x] = mine;
}

static void test_together() {
    int out[64];
    LAUNCH(together, 1, 64, 0, nullptr, out, 64, false);
    CHECK(cudaGetLastError() == cudaSuccess);
    for (int i = 0; i < 64; i++) {
        CHECK(out[i] == i + 1000 * (i < 32 ? 496 : 496 + 32 * 32));
    }
    LAUNCH(together, 1, 64, 0, nullptr, out, 35, false);
    FAILED("a warp's instruction of the lanes ffffffff, lane 3 is at its end");
    LAUNCH(together, 1, 64, 0, nullptr, out, 35, true);
    FAILED("a warp's instruction");
    LAUNCH(together, 1, 48, 0, nullptr, out, 64, false);
    FAILED("a warp's instruction");
}

/* Two commits of a copy each; what the places hold after the waits for the first one and for both. */
__global__ static void copies(uint8_t* out, const uint8_t* from) {
    alignas(16) static uint8_t to[32];
    memset(to, 7, sizeof to);
    emulated_copy(to, from, 16);
    emulated_copy_commit();
    emulated_copy(to + 16, from + 16, 5);
    memcpy(out, to, 32);
    emulated_copy_wait(0); /* what is not committed is not waited for */
    emulated_copy_commit();
    memcpy(out + 32, to, 32);
    emulated_copy_wait(1);
    memcpy(out + 64, to, 32);
    emulated_copy_wait(0);
    memcpy(out + 96, to, 32);
}

__global__ static void wrong_copies(const uint8_t* from, int count, int shift) {
    alignas(16) static uint8_t to[32];
    for (int i = 0; i < count; i++) {
        emulated_copy(to, from + shift, 16);
    }
}

__global__ static void much_shared(int* out) {
    DYNAMIC_SHARED(int, dynamic);
    dynamic[(64 << 10) / 4 - 1] = 3;
    *out = dynamic[(64 << 10) / 4 - 1];
}

static void test_copies() {
    alignas(16) uint8_t from[48];
    uint8_t out[128];
    for (int i = 0; i < 48; i++) {
        from[i] = (uint8_t)(i + 1);
    }
    LAUNCH(copies, 1, 1, 0, nullptr, out, from);
    CHECK(cudaGetLastError() == cudaSuccess);
    for (int i = 0; i < 32; i++) {
        int last = i < 21 ? i + 1 : 0;
        CHECK(out[i] == 0xff);
        CHECK(out[32 + i] == (i < 16 ? last : 0xff));
        CHECK(out[64 + i] == (i < 16 ? last : 0xff));
        CHECK(out[96 + i] == last);
    }
    LAUNCH(wrong_copies, 1, 1, 0, nullptr, from, 1, 8);
    FAILED("all aligned to 16 bytes");
    LAUNCH(wrong_copies, 1, 1, 0, nullptr, from, 65, 0);
    FAILED("64 under way");
    int got = 0;
    LAUNCH(much_shared, 1, 1, 64 << 10, nullptr, &got);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    CHECK(cudaFuncSetAttribute(much_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, (64 << 10) + 1)
          == cudaErrorInvalidValue);
    CHECK(cudaFuncSetAttribute(much_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10) == cudaSuccess);
    LAUNCH(much_shared, 1, 1, 64 << 10, nullptr, &got);
    CHECK(cudaGetLastError() == cudaSuccess && got == 3);
}

static void test_failures() {
    LAUNCH(part_of_block, 1, 64, 0, nullptr, 40, false);
    FAILED("40 of 64 threads are at __syncthreads");
    LAUNCH(part_of_block, 3, 64, 0, nullptr, 32, true);
    FAILED("32 of 64 threads are at __syncthreads");
    for (int kind = 0; kind < 3; kind++) {
        LAUNCH(missing_lane, 2, 64, 0, nullptr, 37, kind);
        FAILED(kind == 0 ? "its end" : kind == 1 ? "__syncthreads" : "__syncwarp");
    }
    LAUNCH(missing_warp_barrier, 1, 32, 0, nullptr);
    FAILED("__syncwarp of the lanes ffffffff, lane 4 is at its end");
    LAUNCH(foreign_lane, 1, 32, 0, nullptr);
    FAILED("a shuffle");
    LAUNCH(shuffle_all, 1, 48, 0, nullptr); /* the second warp is half a warp */
    FAILED("a shuffle");
    LAUNCH(shuffle_all, 1, 1025, 0, nullptr);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
}

int main() {
    test_grids();
    test_shuffles();
    test_together();
    test_copies();
    test_failures();
    test_grids(); /* failed blocks leave nothing behind */
    test_shuffles();
    printf("test_emulation: %d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
