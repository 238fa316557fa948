/*
 * file.cu: files that are read into device memory by cuFile, which is looked for when the first one is opened: a
 * machine without it loses nothing.
 *
 * cuFile's compatibility mode, in which it reads into host memory and copies, is as its configuration has it (allowed,
 * unless cufile.json or CUFILE_ALLOW_COMPAT_MODE says otherwise): it reads the right bytes, and `direct` tells. Memory
 * is not registered with cuFile: that takes the GPU's scarce BAR space, and saves no more than a copy within the GPU.
 */
#include "file.h"

#include "cufile_api.h"
#include "intrinsics.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__CUDACC__)
#include <dlfcn.h>
#endif

struct cuda_file {
    lm_device_file base;
    int descriptor;
    void* handle; /* cuFile's */
};

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static bool loaded;
static cufile_functions cufile; /* written once, before there is a file */
static int64_t open_files;      /* of all devices: the driver is open while there are any */
static bool driver_is_ours;     /* to close */
static int32_t driver_direct;

static const char* meaning(int code) {
    switch (code) {
    case CUFILE_DRIVER_NOT_INITIALIZED:
        return "the nvidia-fs driver is not loaded, and cuFile's compatibility mode is switched off";
    case CUFILE_DRIVER_VERSION_MISMATCH:
        return "the nvidia-fs driver has another version than cuFile";
    case CUFILE_PLATFORM_NOT_SUPPORTED:
        return "this platform has no GPUDirect Storage";
    case CUFILE_IO_NOT_SUPPORTED:
        return "the file system has no GPUDirect Storage, and cuFile's compatibility mode is switched off";
    case CUFILE_DEVICE_NOT_SUPPORTED:
        return "the GPU has no GPUDirect Storage";
    case CUFILE_NVFS_DRIVER_ERROR:
        return "the nvidia-fs driver failed";
    case CUFILE_CUDA_DRIVER_ERROR:
        return "the CUDA driver failed";
    case CUFILE_CUDA_POINTER_RANGE_ERROR:
        return "the memory is not that of one allocation of the GPU";
    case CUFILE_CUDA_CONTEXT_MISMATCH:
        return "the memory is of another GPU";
    case CUFILE_PERMISSION_DENIED:
        return "access was denied";
    case CUFILE_NVFS_SETUP_ERROR:
        return "cuFile could not be set up";
    case CUFILE_IO_DISABLED:
        return "cuFile's configuration forbids it for this file";
    default:
        return "see cufile.log";
    }
}

static int32_t refuse(const lm_host* host, const char* what, cufile_error error) {
    if (error.code == CUFILE_CUDA_DRIVER_ERROR) {
        return host->fail(LM_ERROR_UNSUPPORTED, "cuFile %s: error %d of the CUDA driver", what, error.cuda);
    }
    return host->fail(LM_ERROR_UNSUPPORTED, "cuFile %s: %s (error %d)", what, meaning(error.code), error.code);
}

/* -- the library and its driver ----------------------------------------------------------------------------------- */

#if defined(__CUDACC__)
/* As POSIX has it: C++ knows no cast from an object's address to a function's. */
template <class F>
static bool find(void* library, const char* name, F** out) {
    void* symbol = dlsym(library, name);
    memcpy(out, &symbol, sizeof symbol);
    return symbol != nullptr;
}

static int32_t load(const lm_host* host) {
    void* library = dlopen("libcufile.so.0", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        library = dlopen("libcufile.so", RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr) {
        return host->fail(LM_ERROR_UNSUPPORTED,
                          "cuFile is not there: %s; install libcufile of the CUDA toolkit, or add its folder to "
                          "LD_LIBRARY_PATH",
                          dlerror());
    }
    bool complete = find(library, "cuFileDriverOpen", &cufile.driver_open)
                    && (find(library, "cuFileDriverClose_v2", &cufile.driver_close)
                        || find(library, "cuFileDriverClose", &cufile.driver_close))
                    && find(library, "cuFileDriverGetProperties", &cufile.driver_properties)
                    && find(library, "cuFileHandleRegister", &cufile.handle_register)
                    && find(library, "cuFileHandleDeregister", &cufile.handle_deregister)
                    && find(library, "cuFileRead", &cufile.read);
    if (!complete) {
        dlclose(library);
        return host->fail(LM_ERROR_UNSUPPORTED, "libcufile.so.0 lacks a function: it is too old, or not cuFile");
    }
    return LM_OK;
}
#else
static int32_t load(const lm_host*) {
    cufile = emulated_cufile;
    return LM_OK;
}
#endif

static int32_t open_driver(const lm_host* host) {
    if (!loaded) {
        int32_t status = load(host);
        if (status != LM_OK) {
            return status;
        }
        loaded = true;
    }
    cufile_error error = cufile.driver_open();
    if (error.code != CUFILE_SUCCESS && error.code != CUFILE_DRIVER_ALREADY_OPEN) {
        return refuse(host, "cannot be used", error);
    }
    driver_is_ours = error.code == CUFILE_SUCCESS;
    cufile_properties properties = {};
    driver_direct = cufile.driver_properties(&properties).code == CUFILE_SUCCESS && properties.driver.status != 0
                    && (properties.driver.control & CUFILE_POSIX_ALWAYS) == 0;
    return LM_OK;
}

static int32_t take_driver(const lm_host* host, int32_t* direct) {
    pthread_mutex_lock(&opening);
    int32_t status = open_files > 0 ? LM_OK : open_driver(host);
    if (status == LM_OK) {
        open_files++;
        *direct = driver_direct;
    }
    pthread_mutex_unlock(&opening);
    return status;
}

static void release_driver() {
    pthread_mutex_lock(&opening);
    if (--open_files == 0 && driver_is_ours) {
        cufile.driver_close();
    }
    pthread_mutex_unlock(&opening);
}

/* -- files -------------------------------------------------------------------------------------------------------- */

static int32_t open_descriptor(const lm_host* host, const char* path, int* out) {
    int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK; /* opening a pipe must not wait for who writes to it */
#if defined(O_DIRECT)
    flags |= O_DIRECT;
#endif
    int descriptor;
    do {
        descriptor = open(path, flags);
    } while (descriptor < 0 && errno == EINTR);
    int error = errno;
    struct stat found;
    int known = descriptor < 0 ? stat(path, &found) : fstat(descriptor, &found);
    if (known == 0 && !S_ISREG(found.st_mode)) { /* direct reads of a folder are refused like those of a file system */
        if (descriptor >= 0) {
            close(descriptor);
        }
        return host->fail(LM_ERROR_IO, "it is not a regular file");
    }
    if (descriptor < 0) {
        return error == EINVAL
                   ? host->fail(LM_ERROR_UNSUPPORTED, "the file system has no direct reads, which cuFile needs")
                   : host->fail(LM_ERROR_IO, "%s", strerror(error));
    }
    *out = descriptor;
    return LM_OK;
}

int32_t file_open(const lm_host* host, const char* path, lm_device_file** out) {
    cuda_file* file = (cuda_file*)calloc(1, sizeof *file);
    if (file == nullptr) {
        return host->fail(LM_ERROR_OUT_OF_MEMORY, "lm_device_file_open: no memory");
    }
    int32_t status = open_descriptor(host, path, &file->descriptor);
    if (status != LM_OK) {
        free(file);
        return status;
    }
    status = take_driver(host, &file->base.direct);
    if (status == LM_OK) {
        cufile_descriptor descriptor = {};
        descriptor.type = CUFILE_HANDLE_FD;
        descriptor.of.fd = file->descriptor;
        cufile_error error = cufile.handle_register(&file->handle, &descriptor);
        if (error.code == CUFILE_SUCCESS) {
            *out = &file->base;
            return LM_OK;
        }
        release_driver();
        status = refuse(host, "cannot read this file", error);
    }
    close(file->descriptor);
    free(file);
    return status;
}

void file_close(lm_device_file* base) {
    cuda_file* file = (cuda_file*)base;
    cufile.handle_deregister(file->handle);
    close(file->descriptor);
    release_driver();
    free(file);
}

int32_t file_read(const lm_host* host, lm_device_file* base, void* memory, int64_t at, int64_t bytes, int64_t offset,
                  int64_t* read) {
    cuda_file* file = (cuda_file*)base;
    struct stat now;
    if (fstat(file->descriptor, &now) != 0) {
        return host->fail(LM_ERROR_IO, "%s", strerror(errno));
    }
    if (offset >= now.st_size) {
        return LM_OK;
    }
    /* What cuFile does behind the end of a file is not documented. */
    int64_t there = now.st_size - offset < bytes ? now.st_size - offset : bytes;
    ssize_t n;
    do {
        errno = 0;
        n = cufile.read(file->handle, memory, (size_t)there, (off_t)offset, (off_t)at);
    } while (n == -1 && errno == EINTR);
    if (n >= 0) {
        *read = n;
        return LM_OK;
    }
    if (n < -CUFILE_CODES) {
        return host->fail(LM_ERROR_DEVICE, "cuFile cannot read: %s (error %d)", meaning((int)-n), (int)-n);
    }
    int error = n == -1 ? errno : (int)-n;
    return host->fail(LM_ERROR_IO, "cuFile cannot read: %s", error == 0 ? "see cufile.log" : strerror(error));
}
