/* test.h: what the tests share: checks, random numbers, memory with guard pages, devices. */
#ifndef LAMINA_TEST_H
#define LAMINA_TEST_H

#include "lamina.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int failures;

/* Counts a failure and says where, but only for the first ones: a broken kernel fails everywhere. */
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition) && failures++ < 20) {                                                                         \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                     \
            printf(__VA_ARGS__);                                                                                       \
            printf("\n");                                                                                              \
        }                                                                                                              \
    } while (0)

static inline const char* last_error(void) {
    static char message[512];
    lm_last_error(message, sizeof message);
    return message;
}

/* For calls that must work for the test to go on. */
#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        int32_t status_ = (call);                                                                                      \
        if (status_ != LM_OK) {                                                                                        \
            printf("%s:%d: %s gave %d: %s\n", __FILE__, __LINE__, #call, status_, last_error());                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The call fails with this status, and the message contains the text. */
#define REFUSES(call, status, text)                                                                                    \
    do {                                                                                                               \
        int32_t got_ = (call);                                                                                         \
        CHECK(got_ == (status) && strstr(last_error(), (text)) != NULL, "gave %d: %s", got_, last_error());            \
    } while (0)

#define INVALID(call, text) REFUSES(call, LM_ERROR_INVALID_ARGUMENT, text)

static inline int finish_tests(const char* name) {
    printf("%s: %d failures\n", name, failures);
    return failures == 0 ? 0 : 1;
}

/* -- random numbers: the same on every platform (splitmix64) ------------------------------------------------------- */

static inline uint64_t random_bits(uint64_t* seed) {
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline int32_t random_int(uint64_t* seed, int32_t from, int32_t to) {
    return from + (int32_t)(random_bits(seed) % (uint64_t)(to - from + 1));
}

/* How many rounds of random shapes LAMINA_ROUNDS asks for. */
static inline int asked_rounds(void) {
    const char* rounds = getenv("LAMINA_ROUNDS");
    return rounds == NULL ? 0 : atoi(rounds);
}

/* -1 .. 1, most of them of size 2^-6 to 1. */
static inline float random_float(uint64_t* seed) {
    uint64_t bits = random_bits(seed);
    float x = (float)((int32_t)(bits >> 40) - (1 << 23)) * 0x1p-23f;
    return bits & 1 ? x : x * (1.0f / (float)(1 << (bits >> 1 & 7)));
}

/* -- memory that faults at the first byte before or behind it ----------------------------------------------------- */

typedef struct guarded {
    uint8_t* data; /* bytes of it, at its page's start or flush with its last page's end */
    void* map;
    size_t mapped;
} guarded;

static inline guarded guarded_alloc(size_t bytes, int at_end) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t inner = (bytes + page - 1) / page * page;
    guarded g = {.mapped = inner + 2 * page};
    g.map = mmap(NULL, g.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.map == MAP_FAILED || (inner > 0 && mprotect((uint8_t*)g.map + page, inner, PROT_READ | PROT_WRITE) != 0)) {
        perror("guarded_alloc");
        exit(1);
    }
    g.data = (uint8_t*)g.map + page + (at_end ? inner - bytes : 0);
    return g;
}

static inline void guarded_free(guarded g) {
    munmap(g.map, g.mapped);
}

/* -- devices ------------------------------------------------------------------------------------------------------ */

static inline int32_t supported_simd(void) {
    lm_device* device;
    lm_device_info info;
    MUST(lm_device_open(&(lm_device_options){.simd = LM_SIMD_PLAIN, .threads = 1}, &device));
    MUST(lm_device_get_info(device, &info));
    MUST(lm_device_close(device));
    return info.simd_supported;
}

#endif
