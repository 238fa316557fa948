/*
 * emulation.h: the part of CUDA that the backend uses, run by the CPU, so that its kernels are tested where there is no
 * GPU.
 *
 * Each CUDA thread is a fiber; the warps of a block take turns, and blocks run one after the other, the last one
 * first, of one grid at a time. A kernel that deadlocks or is undefined on a GPU (a barrier that only part of a block
 * reaches, a shuffle with a missing lane) ends with cudaErrorLaunchFailure, and cudaGetErrorString says why.
 *
 * An asynchronous copy to shared memory brings its bytes when its thread waits for them, and until then the place holds
 * ones: who does not wait, or still reads what was there, gets NaNs.
 *
 * A stream does its work as late as it may: when its end is waited for. So whoever does not wait for what he needs, or
 * overwrites what is still to be read, gets wrong results here, always, and not now and then.
 *
 * Tests can make calls fail, lose a device, or give it little memory: faults.h.
 */
#ifndef LAMINA_CUDA_EMULATION_H
#define LAMINA_CUDA_EMULATION_H

#include "cufile_api.h"
#include "faults.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <math.h>

#include <new>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static /* one block runs at a time */

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {
    }
};

struct alignas(8) uint2 {
    unsigned x, y;
};

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

struct alignas(16) float4 {
    float x, y, z, w;
};

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;

void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);

/* A lane's part in a shuffle: what lane `from` gave. */
uint32_t emulated_shuffle(unsigned mask, uint32_t value, unsigned from);
unsigned emulated_lane();

template <class T>
T emulated_shuffle_of(unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) == sizeof(uint32_t), "shuffles of 32 bits alone");
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = emulated_shuffle(mask, bits, from);
    memcpy(&value, &bits, sizeof bits);
    return value;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
    return emulated_shuffle_of(mask, value, (unsigned)lane % 32);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
    return emulated_shuffle_of(mask, value, emulated_lane() ^ (unsigned)distance);
}

/* A lane whose source lies beyond the warp keeps its own value. */
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance) {
    unsigned lane = emulated_lane();
    return emulated_shuffle_of(mask, value, lane + distance < 32 ? lane + distance : lane);
}

/*
 * What all lanes of a warp compute together: once all have come with the same function, it is called once, with what
 * each lane gave, by lane.
 */
void emulated_together(void (*function)(void* const* lanes), void* mine);

/* Copies 16 bytes, of which those from valid on are zeros; the last commits that were made may stay under way. */
void emulated_copy(void* to, const void* from, int32_t valid);
void emulated_copy_commit();
void emulated_copy_wait(unsigned commits);

inline unsigned atomicAdd(unsigned* to, unsigned value) {
    unsigned before = *to;
    *to += value;
    return before;
}

inline void __threadfence() {
}

inline float __ldcg(const float* from) {
    return *from;
}

/* -- streams ----------------------------------------------------------------------------------------------------- */

typedef struct emulated_stream* cudaStream_t;
typedef struct emulated_event* cudaEvent_t;

/* Work of a stream: run once, then freed with free. */
struct emulated_task {
    emulated_task* next;
    void (*run)(emulated_task* self);
};

/* Runs it when somebody waits for it; at once where stream is null. Where task is null there was no memory. */
void emulated_enqueue(cudaStream_t stream, emulated_task* task);
bool emulated_grid_fits(dim3 grid, dim3 block, size_t shared_bytes, const void* kernel);
void emulated_grid(dim3 grid, dim3 block, size_t shared_bytes, void (*thread)(const void*), const void* context);
void* emulated_dynamic_shared();

template <class... P>
struct emulated_kernel {
    emulated_task task;
    dim3 grid;
    dim3 block;
    size_t shared_bytes;
    void (*kernel)(P...);
    std::tuple<P...> arguments;
};

template <class... P, class... A>
void emulated_launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, void (*kernel)(P...),
                     A... arguments) {
    typedef emulated_kernel<P...> launched;
    if (!emulated_grid_fits(grid, block, shared_bytes, (const void*)kernel)) {
        return;
    }
    void* memory = malloc(sizeof(launched));
    if (memory != nullptr) {
        auto run = [](emulated_task* self) {
            const launched* l = (const launched*)self;
            emulated_grid(
                l->grid, l->block, l->shared_bytes,
                [](const void* context) {
                    const launched* of = (const launched*)context;
                    std::apply(of->kernel, of->arguments);
                },
                l);
        };
        new (memory) launched{{nullptr, run}, grid, block, shared_bytes, kernel, std::tuple<P...>(arguments...)};
    }
    emulated_enqueue(stream, (emulated_task*)memory);
}

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                         \
    emulated_launch((grid), (block), (shared_bytes), (stream), kernel, ##__VA_ARGS__)

#define DYNAMIC_SHARED(type, name) type* name = (type*)emulated_dynamic_shared()

/* -- the runtime's functions ------------------------------------------------------------------------------------- */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorDevicesUnavailable = 46,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchFailure = 719,
};

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

struct cudaFuncAttributes {
    int ptxVersion; /* as if the kernels had been compiled for the current device */
};

#define cudaStreamNonBlocking 1u
#define cudaEventBlockingSync 1u
#define cudaEventDisableTiming 2u
#define cudaHostRegisterPortable 1u
#define cudaHostAllocPortable 1u
#define cudaHostAllocMapped 2u
#define CUDART_VERSION 13000

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    int major;
    int minor;
    int multiProcessorCount;
};

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device);
cudaError_t emulated_set_attribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t emulated_get_attributes(cudaFuncAttributes* out);
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes);
cudaError_t cudaMalloc(void** out, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaHostRegister(void* memory, size_t bytes, unsigned flags);
cudaError_t cudaHostUnregister(void* memory);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);

/*
 * cuFile, as strict as it may be: memory is given by the start of its allocation, on the current device, files were
 * opened for direct reads, and nothing is asked for behind their end. A large read brings a part of what was asked for.
 * As with the real one, CUFILE_FORCE_COMPAT_MODE=true leaves no way past host memory, CUFILE_ALLOW_COMPAT_MODE=false
 * forbids that way, and both are looked at when the driver is opened.
 */
extern const cufile_functions emulated_cufile;

template <class K>
cudaError_t cudaFuncSetAttribute(K* kernel, cudaFuncAttribute attribute, int value) {
    return emulated_set_attribute((const void*)kernel, attribute, value);
}

template <class K>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* out, K*) {
    return emulated_get_attributes(out);
}

#endif
