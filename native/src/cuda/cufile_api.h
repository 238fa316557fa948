/*
 * cufile_api.h: the part of cuFile, NVIDIA's library for GPUDirect Storage, that the backend uses: layouts, codes and
 * conventions are those of its interface for versions 1.0 and later. It is not needed to build: file.cu looks for the
 * library at run time, and the emulation brings one of its own.
 */
#ifndef LAMINA_CUDA_CUFILE_API_H
#define LAMINA_CUDA_CUFILE_API_H

#include <stddef.h>
#include <sys/types.h>

/* Codes of cufile_error; negative where cufile_functions.read returns them. */
enum {
    CUFILE_SUCCESS = 0,
    CUFILE_CODES = 5000, /* all codes but success are above */
    CUFILE_DRIVER_NOT_INITIALIZED = 5001,
    CUFILE_DRIVER_VERSION_MISMATCH = 5004,
    CUFILE_DRIVER_CLOSING = 5006,
    CUFILE_PLATFORM_NOT_SUPPORTED = 5007,
    CUFILE_IO_NOT_SUPPORTED = 5008,
    CUFILE_DEVICE_NOT_SUPPORTED = 5009,
    CUFILE_NVFS_DRIVER_ERROR = 5010,
    CUFILE_CUDA_DRIVER_ERROR = 5011,
    CUFILE_CUDA_POINTER_RANGE_ERROR = 5014,
    CUFILE_CUDA_CONTEXT_MISMATCH = 5015,
    CUFILE_DIO_NOT_SET = 5020,
    CUFILE_INVALID_VALUE = 5022,
    CUFILE_PERMISSION_DENIED = 5025,
    CUFILE_DRIVER_ALREADY_OPEN = 5026,
    CUFILE_INTERNAL_ERROR = 5030,
    CUFILE_NVFS_SETUP_ERROR = 5033,
    CUFILE_IO_DISABLED = 5034,
};

struct cufile_error {
    int code;
    int cuda; /* of the CUDA driver, where code is CUFILE_CUDA_DRIVER_ERROR */
};

enum { CUFILE_HANDLE_FD = 1 };

enum { CUFILE_POSIX_ALWAYS = 1 << 2 }; /* in cufile_properties.driver.control: all reads are the host's */

struct cufile_descriptor {
    int type; /* CUFILE_HANDLE_FD */
    union {
        int fd;
        void* handle;
    } of;
    const void* fs_ops; /* null: the kernel's file systems */
};

struct cufile_properties {
    struct {
        unsigned major_version;
        unsigned minor_version;
        size_t poll_thresh_size;
        size_t max_direct_io_size;
        unsigned status; /* a bit for each way from a kind of drive or file system straight to a GPU */
        unsigned control;
    } driver;
    unsigned features;
    unsigned max_device_cache_size;
    unsigned per_buffer_cache_size;
    unsigned max_device_pinned_mem_size;
    unsigned max_batch_io_size;
    unsigned max_batch_io_timeout_msecs;
};

struct cufile_functions {
    cufile_error (*driver_open)();
    cufile_error (*driver_close)();
    cufile_error (*driver_properties)(cufile_properties* out);
    cufile_error (*handle_register)(void** out, cufile_descriptor* descriptor);
    void (*handle_deregister)(void* handle);
    /* Bytes that were read; -1: errno says why not; another negative number: a code. The calling thread's CUDA context
       is that of the memory. */
    ssize_t (*read)(void* handle, void* memory, size_t bytes, off_t offset, off_t memory_offset);
};

#endif
