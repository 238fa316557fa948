/* reduce.h: sums and maxima over a warp and over a block, each in one fixed order, the same in every thread. */
#ifndef LAMINA_CUDA_REDUCE_H
#define LAMINA_CUDA_REDUCE_H

#include "intrinsics.h"

enum { WARP_LANES = 32 };

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int distance = WARP_LANES / 2; distance > 0; distance /= 2) {
        x += __shfl_xor_sync(0xffffffffu, x, distance);
    }
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int distance = WARP_LANES / 2; distance > 0; distance /= 2) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
    }
    return x;
}

/* For blocks of whole warps; all threads of the block take part. */
__device__ __forceinline__ float block_sum(float x) {
    __shared__ float of_warp[WARP_LANES];
    x = warp_sum(x);
    if (threadIdx.x % WARP_LANES == 0) {
        of_warp[threadIdx.x / WARP_LANES] = x;
    }
    __syncthreads();
    float sum = of_warp[0];
    for (unsigned i = 1; i < blockDim.x / WARP_LANES; i++) {
        sum += of_warp[i];
    }
    __syncthreads(); /* the next one may use the same memory */
    return sum;
}

__device__ __forceinline__ float block_max(float x) {
    __shared__ float of_warp[WARP_LANES];
    x = warp_max(x);
    if (threadIdx.x % WARP_LANES == 0) {
        of_warp[threadIdx.x / WARP_LANES] = x;
    }
    __syncthreads();
    float most = of_warp[0];
    for (unsigned i = 1; i < blockDim.x / WARP_LANES; i++) {
        most = fmaxf(most, of_warp[i]);
    }
    __syncthreads();
    return most;
}

#endif
