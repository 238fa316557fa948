/*
 * ring.c: io_uring of Linux, as far as reading files needs it, on the bare system calls.
 *
 * Two rings of memory are shared with the kernel: entries go in at the tail of the submission ring and results come out
 * at the head of the completion ring (io_uring(7)). One thread uses both ends on this side, so that only the kernel's
 * side needs ordered loads and stores.
 */
#define _GNU_SOURCE
#include "io.h"

#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/io_uring.h>)
#define LM_HAS_URING
#endif
#endif

#if defined(LM_HAS_URING)

#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_READS 4096

struct lm_ring {
    int descriptor;
    int32_t depth;
    int32_t under_way;
    void* rings; /* both of them, in one mapping */
    size_t rings_bytes;
    struct io_uring_sqe* entries;
    size_t entries_bytes;
    _Atomic uint32_t* submit_tail;
    uint32_t* submit_index;
    uint32_t submit_mask;
    _Atomic uint32_t* result_head;
    _Atomic uint32_t* result_tail;
    struct io_uring_cqe* results;
    uint32_t result_mask;
};

static int setup(uint32_t depth, struct io_uring_params* params) {
#if defined(IORING_SETUP_SINGLE_ISSUER) && defined(IORING_SETUP_DEFER_TASKRUN)
    /* Results are made when this thread asks for them, and interrupt nothing: since Linux 6.1. */
    *params = (struct io_uring_params){.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    int descriptor = (int)syscall(SYS_io_uring_setup, depth, params);
    if (descriptor >= 0 || errno != EINVAL) {
        return descriptor;
    }
#endif
    *params = (struct io_uring_params){0};
    return (int)syscall(SYS_io_uring_setup, depth, params);
}

static void unmap(lm_ring* ring) {
    if (ring->entries != MAP_FAILED) {
        munmap(ring->entries, ring->entries_bytes);
    }
    if (ring->rings != MAP_FAILED) {
        munmap(ring->rings, ring->rings_bytes);
    }
    close(ring->descriptor);
    free(ring);
}

int32_t lm_ring_open(int32_t depth, lm_ring** out) {
    REQUIRE_POINTER(out);
    *out = NULL;
    REQUIRE(depth > 0 && depth <= MOST_READS, "lm_ring_open: depth %d, it must be 1 to %d", depth, MOST_READS);
    lm_ring* ring = calloc(1, sizeof *ring);
    if (ring == NULL) {
        return lm_fail(LM_ERROR_OUT_OF_MEMORY, "lm_ring_open: no memory");
    }
    struct io_uring_params params;
    ring->depth = depth;
    ring->descriptor = setup((uint32_t)depth, &params);
    if (ring->descriptor < 0) {
        int error = errno;
        free(ring);
        return lm_fail(error == ENOMEM ? LM_ERROR_OUT_OF_MEMORY : LM_ERROR_UNSUPPORTED,
                       "this system gives no io_uring: %s", strerror(error));
    }
    size_t submit_bytes = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    size_t result_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    ring->rings_bytes = submit_bytes > result_bytes ? submit_bytes : result_bytes;
    ring->entries_bytes = params.sq_entries * sizeof(struct io_uring_sqe);
    int protection = PROT_READ | PROT_WRITE;
    int flags = MAP_SHARED | MAP_POPULATE;
    ring->entries = MAP_FAILED;
    ring->rings = mmap(NULL, ring->rings_bytes, protection, flags, ring->descriptor, IORING_OFF_SQ_RING);
    if (ring->rings != MAP_FAILED && (params.features & IORING_FEAT_SINGLE_MMAP) != 0) {
        ring->entries = mmap(NULL, ring->entries_bytes, protection, flags, ring->descriptor, IORING_OFF_SQES);
    }
    if (ring->entries == MAP_FAILED) { /* one mapping for both rings: since Linux 5.4 */
        unmap(ring);
        return lm_fail(LM_ERROR_UNSUPPORTED, "this system gives no memory for io_uring, or its Linux is older than 5.4");
    }
    char* base = ring->rings;
    ring->submit_tail = (_Atomic uint32_t*)(void*)(base + params.sq_off.tail);
    ring->submit_index = (uint32_t*)(void*)(base + params.sq_off.array);
    ring->submit_mask = *(uint32_t*)(void*)(base + params.sq_off.ring_mask);
    ring->result_head = (_Atomic uint32_t*)(void*)(base + params.cq_off.head);
    ring->result_tail = (_Atomic uint32_t*)(void*)(base + params.cq_off.tail);
    ring->results = (struct io_uring_cqe*)(void*)(base + params.cq_off.cqes);
    ring->result_mask = *(uint32_t*)(void*)(base + params.cq_off.ring_mask);
    *out = ring;
    return LM_OK;
}

/* Gives `submit` new entries to the kernel and waits for `results`; returns how many it took, or -errno. */
static int64_t enter(const lm_ring* ring, uint32_t submit, uint32_t results) {
    long n;
    do {
        n = syscall(SYS_io_uring_enter, ring->descriptor, submit, results, results > 0 ? IORING_ENTER_GETEVENTS : 0,
                    NULL, 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int32_t lm_ring_submit(lm_ring* ring, const lm_read* reads, int32_t count) {
    REQUIRE_POINTER(ring);
    REQUIRE(reads != NULL || count == 0, "lm_ring_submit: reads is null");
    REQUIRE(count >= 0 && count <= ring->depth - ring->under_way,
            "lm_ring_submit: %d reads, and %d are under way in a ring of depth %d", count, ring->under_way,
            ring->depth);
    for (int32_t i = 0; i < count; i++) {
        int32_t status = lm_check_read(__func__, reads[i].file, reads[i].to, reads[i].bytes, reads[i].offset);
        if (status != LM_OK) {
            return status;
        }
    }
    uint32_t tail = atomic_load_explicit(ring->submit_tail, memory_order_relaxed);
    for (int32_t i = 0; i < count; i++) {
        uint32_t slot = (tail + (uint32_t)i) & ring->submit_mask;
        ring->entries[slot] = (struct io_uring_sqe){
            .opcode = IORING_OP_READ,
            .fd = reads[i].file->descriptor,
            .addr = (uint64_t)(uintptr_t)reads[i].to,
            .len = (uint32_t)reads[i].bytes,
            .off = (uint64_t)reads[i].offset,
            .user_data = (uint64_t)reads[i].tag,
        };
        ring->submit_index[slot] = slot;
    }
    atomic_store_explicit(ring->submit_tail, tail + (uint32_t)count, memory_order_release);
    int32_t taken = 0;
    while (taken < count) {
        int64_t n = enter(ring, (uint32_t)(count - taken), 0);
        if (n <= 0) { /* take back what the kernel has not seen */
            atomic_store_explicit(ring->submit_tail, tail + (uint32_t)taken, memory_order_release);
            ring->under_way += taken;
            return lm_fail(LM_ERROR_IO, "io_uring took %d of %d reads: %s", taken, count, strerror((int)-n));
        }
        taken += (int32_t)n;
    }
    ring->under_way += count;
    return LM_OK;
}

int32_t lm_ring_wait(lm_ring* ring, lm_read_result* out, int32_t capacity, int32_t* count) {
    REQUIRE_POINTER(ring);
    REQUIRE_POINTER(out);
    REQUIRE_POINTER(count);
    *count = 0;
    REQUIRE(capacity > 0, "lm_ring_wait: capacity %d, it must be above 0", capacity);
    REQUIRE(ring->under_way > 0, "lm_ring_wait: no read is under way");
    uint32_t head = atomic_load_explicit(ring->result_head, memory_order_relaxed);
    while (atomic_load_explicit(ring->result_tail, memory_order_acquire) == head) {
        int64_t n = enter(ring, 0, 1);
        if (n < 0) {
            return lm_fail(LM_ERROR_IO, "io_uring cannot wait: %s", strerror((int)-n));
        }
    }
    uint32_t tail = atomic_load_explicit(ring->result_tail, memory_order_acquire);
    for (; head != tail && *count < capacity; head++) {
        const struct io_uring_cqe* result = &ring->results[head & ring->result_mask];
        out[(*count)++] = (lm_read_result){
            .tag = (int64_t)result->user_data,
            .bytes = result->res < 0 ? -1 : result->res,
        };
    }
    atomic_store_explicit(ring->result_head, head, memory_order_release);
    ring->under_way -= *count;
    return LM_OK;
}

int32_t lm_ring_close(lm_ring* ring) {
    if (ring == NULL) {
        return LM_OK;
    }
    int32_t status = LM_OK;
    while (status == LM_OK && ring->under_way > 0) { /* the kernel writes to their memory until they have ended */
        lm_read_result lost[64];
        int32_t count;
        status = lm_ring_wait(ring, lost, 64, &count);
    }
    unmap(ring);
    return status;
}

#else

int32_t lm_ring_open(int32_t depth, lm_ring** out) {
    (void)depth;
    REQUIRE_POINTER(out);
    *out = NULL;
    return lm_fail(LM_ERROR_UNSUPPORTED, "this system has no io_uring");
}

int32_t lm_ring_close(lm_ring* ring) {
    (void)ring;
    return LM_OK;
}

int32_t lm_ring_submit(lm_ring* ring, const lm_read* reads, int32_t count) {
    (void)reads;
    (void)count;
    REQUIRE_POINTER(ring);
    return lm_fail(LM_ERROR_UNSUPPORTED, "this system has no io_uring");
}

int32_t lm_ring_wait(lm_ring* ring, lm_read_result* out, int32_t capacity, int32_t* count) {
    (void)out;
    (void)capacity;
    (void)count;
    REQUIRE_POINTER(ring);
    return lm_fail(LM_ERROR_UNSUPPORTED, "this system has no io_uring");
}

#endif
