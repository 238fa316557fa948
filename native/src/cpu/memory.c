/* memory.c: pages from the system: aligned for direct reads, on huge pages where that costs nothing. */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#include "cpu.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE (INT64_C(2) << 20)

static int64_t whole_pages(int64_t bytes) {
    int64_t page = sysconf(_SC_PAGESIZE);
    return bytes > INT64_MAX - page ? INT64_MAX : (bytes + page - 1) / page * page;
}

int32_t lm_memory_alloc(int64_t bytes, void** out) {
    int64_t length = whole_pages(bytes);
    int64_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    char* memory = MAP_FAILED;
    if (length < INT64_MAX / 2 && (uint64_t)length + HUGE_PAGE <= SIZE_MAX) {
        memory = mmap(NULL, (size_t)(length + align), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (memory == MAP_FAILED) {
        return lm_fail(LM_ERROR_OUT_OF_MEMORY, "%lld bytes of memory could not be had: lower --memory, or end other programs", (long long)bytes);
    }
    if (align != 0) { /* give back what lies before and behind the aligned part */
        int64_t before = (align - (int64_t)((uintptr_t)memory % (uintptr_t)align)) % align;
        if (before > 0) {
            munmap(memory, (size_t)before);
        }
        if (align - before > 0) {
            munmap(memory + before + length, (size_t)(align - before));
        }
        memory += before;
#if defined(MADV_HUGEPAGE)
        /* Not for the ragged tail: a huge page there would be more than was asked for. */
        (void)madvise(memory, (size_t)(length / HUGE_PAGE * HUGE_PAGE), MADV_HUGEPAGE);
#endif
    }
    *out = memory;
    return LM_OK;
}

void lm_memory_free(void* memory, int64_t bytes) {
    munmap(memory, (size_t)whole_pages(bytes));
}
