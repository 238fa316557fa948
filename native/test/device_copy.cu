/* device_copy.cu: the driver's copy within the memory of the first GPU, for bench_cuda.c. */
#include "device_copy.h"

#if !defined(__CUDACC__)
#include "../src/cuda/emulation.h"
#endif

static void* from;
static void* to;
static size_t size;
static cudaStream_t stream;

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        cudaError_t error_ = (call);                                                                                   \
        if (error_ != cudaSuccess) {                                                                                   \
            return cudaGetErrorString(error_);                                                                         \
        }                                                                                                              \
    } while (0)

const char* device_copy_open(int64_t bytes, device_facts* out) {
    cudaDeviceProp properties;
    int driver = 0;
    TRY(cudaSetDevice(0));
    TRY(cudaGetDeviceProperties(&properties, 0));
    TRY(cudaDriverGetVersion(&driver));
    out->major = properties.major;
    out->minor = properties.minor;
    out->driver = driver;
    out->runtime = CUDART_VERSION;
    size = (size_t)bytes;
    TRY(cudaMalloc(&from, size));
    TRY(cudaMalloc(&to, size));
    TRY(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    TRY(cudaMemsetAsync(from, 1, size, stream));
    TRY(cudaStreamSynchronize(stream));
    return nullptr;
}

const char* device_copy_run(int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        TRY(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, stream));
    }
    TRY(cudaStreamSynchronize(stream));
    return nullptr;
}

const char* device_copy_close(void) {
    TRY(cudaStreamDestroy(stream));
    TRY(cudaFree(to));
    TRY(cudaFree(from));
    return nullptr;
}
