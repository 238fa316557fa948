/*
 * io.h: reading files, for whoever decides what is read, when and into which memory.
 *
 *     file.c   one read after the other: open, pread, forget
 *     ring.c   many reads of one thread under way together: io_uring
 */
#ifndef LAMINA_IO_H
#define LAMINA_IO_H

#include "../check.h"

#define LM_LARGEST_READ (INT64_C(1) << 30)

struct lm_file {
    int descriptor;
    int32_t direct;
};

/* LM_OK if these bytes of a file may be read to that memory. */
static inline int32_t lm_check_read(const char* call, const lm_file* file, const void* to, int64_t bytes,
                                    int64_t offset) {
    REQUIRE(file != NULL && (to != NULL || bytes == 0), "%s: %s is null", call, file == NULL ? "file" : "to");
    REQUIRE(bytes >= 0 && bytes <= LM_LARGEST_READ, "%s: %lld bytes, it must be 0 to %lld", call, LL(bytes),
            LL(LM_LARGEST_READ));
    REQUIRE(offset >= 0 && offset <= INT64_MAX - bytes, "%s: offset %lld", call, LL(offset));
    return LM_OK;
}

#endif
