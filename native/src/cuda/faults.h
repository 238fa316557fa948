/*
 * faults.h: what tests make go wrong with the emulated GPUs, and what they find out about them.
 *
 * liblamina_cuda_emulated exports these functions, the runtime never calls them, and nothing is different until a test
 * does. All of them may be called from any thread. They hold for the whole process until emulated_reset.
 */
#ifndef LAMINA_CUDA_FAULTS_H
#define LAMINA_CUDA_FAULTS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EMULATED_API __attribute__((visibility("default")))

/* Calls that can be made to fail. */
#define EMULATED_ALLOC 0   /* device memory */
#define EMULATED_PIN 1     /* page-locked host memory, new or registered */
#define EMULATED_COPY 2    /* between host and device */
#define EMULATED_LAUNCH 3  /* a kernel */
#define EMULATED_WAIT 4    /* for an event or a stream */
#define EMULATED_CREATE 5  /* a stream or an event */
#define EMULATED_RECORD 6  /* an event */
#define EMULATED_ZERO 7    /* device memory is zeroed */
#define EMULATED_PREPARE 8 /* a kernel is asked about, or given more shared memory than is usual */
#define EMULATED_CALLS 9

/*
 * Errors, by CUDA's numbers. The last three are those after which a device is lost: every later call on it fails with
 * the same error, its work is not done, and calls that free memory or destroy a stream fail too, though what they were
 * given counts as given back. Kernels and copies that lose a device are found out by whoever waits for them, as on a
 * GPU.
 */
#define EMULATED_INVALID_VALUE 1
#define EMULATED_OUT_OF_MEMORY 2
#define EMULATED_UNAVAILABLE 46      /* fell off the bus: it cannot even be made current */
#define EMULATED_ILLEGAL_ADDRESS 700
#define EMULATED_LAUNCH_FAILURE 719

/* The calls of a kind fail, on the device that they are for, once `after` more of them have worked; one fails. */
EMULATED_API void emulated_fail(int32_t call, int64_t after, int32_t error);

/* The memory of a device in bytes; 0: as much as the machine has. */
EMULATED_API void emulated_memory(int32_t device, int64_t bytes);

/* The alignment of device memory, a power of two: CUDA promises 256, 4096 is given unless a test wants less. */
EMULATED_API void emulated_alignment(int32_t bytes);

/* The driver: for CUDA version (1000 * major + 10 * minor), 0 for none; and how many GPUs it finds, at most 2. */
EMULATED_API void emulated_driver(int32_t version, int32_t device_count);

EMULATED_API int64_t emulated_used(int32_t device);   /* bytes of its memory that are taken */
EMULATED_API int64_t emulated_peak(int32_t device);   /* the most bytes that were, since the last reset */
EMULATED_API int64_t emulated_pinned(void);           /* bytes of host memory that are page-locked */
EMULATED_API int64_t emulated_handles(void);          /* streams and events not yet destroyed */
EMULATED_API int64_t emulated_calls(int32_t call);    /* calls of a kind since the last reset */

/* Nothing goes wrong any more, lost devices are back. What is taken stays taken. */
EMULATED_API void emulated_reset(void);

#ifdef __cplusplus
}
#endif

#endif
