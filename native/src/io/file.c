/* file.c: a file that is read one request at a time, by as many threads as like. */
#define _GNU_SOURCE
#define _DARWIN_C_SOURCE
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int32_t lm_file_open(const char* path, int32_t mode, lm_file** out) {
    REQUIRE_POINTER(path);
    REQUIRE_POINTER(out);
    *out = NULL;
    REQUIRE(mode == LM_FILE_BUFFERED || mode == LM_FILE_DIRECT, "lm_file_open: unknown mode %d", mode);
    int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK; /* opening a pipe must not wait for who writes to it */
#if defined(O_DIRECT)
    flags |= mode == LM_FILE_DIRECT ? O_DIRECT : 0;
#elif !defined(F_NOCACHE)
    if (mode == LM_FILE_DIRECT) {
        return lm_fail(LM_ERROR_UNSUPPORTED, "this system has no direct reads");
    }
#endif
    int descriptor;
    do {
        descriptor = open(path, flags);
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) {
        int error = errno;
        return lm_fail(error == EINVAL && mode == LM_FILE_DIRECT ? LM_ERROR_UNSUPPORTED : LM_ERROR_IO, "%s",
                       strerror(error));
    }
#if !defined(O_DIRECT) && defined(F_NOCACHE)
    if (mode == LM_FILE_DIRECT && fcntl(descriptor, F_NOCACHE, 1) != 0) {
        int error = errno;
        close(descriptor);
        return lm_fail(LM_ERROR_UNSUPPORTED, "%s", strerror(error));
    }
#endif
    lm_file* file = malloc(sizeof *file);
    if (file == NULL) {
        close(descriptor);
        return lm_fail(LM_ERROR_OUT_OF_MEMORY, "lm_file_open: no memory");
    }
    *file = (lm_file){.descriptor = descriptor, .direct = mode == LM_FILE_DIRECT};
    *out = file;
    return LM_OK;
}

int32_t lm_file_close(lm_file* file) {
    if (file != NULL) {
        close(file->descriptor);
        free(file);
    }
    return LM_OK;
}

int32_t lm_file_read(lm_file* file, void* to, int64_t bytes, int64_t offset, int64_t* read) {
    REQUIRE_POINTER(read);
    *read = 0;
    int32_t status = lm_check_read(__func__, file, to, bytes, offset);
    if (status != LM_OK) {
        return status;
    }
    ssize_t n;
    do {
        n = pread(file->descriptor, to, (size_t)bytes, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return lm_fail(LM_ERROR_IO, "%s", strerror(errno));
    }
    *read = n;
    return LM_OK;
}

int32_t lm_file_forget(lm_file* file, int64_t offset, int64_t bytes) {
    REQUIRE_POINTER(file);
    REQUIRE(bytes >= 0 && offset >= 0 && offset <= INT64_MAX - bytes, "lm_file_forget: %lld bytes at %lld", LL(bytes),
            LL(offset));
#if defined(POSIX_FADV_DONTNEED)
    int error = posix_fadvise(file->descriptor, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED);
    if (error != 0) {
        return lm_fail(LM_ERROR_IO, "%s", strerror(error));
    }
#endif
    return LM_OK;
}
