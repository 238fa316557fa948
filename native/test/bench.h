/* bench.h: what the benchmarks share: the clock, and the order of figures. */
#ifndef LAMINA_BENCH_H
#define LAMINA_BENCH_H

#include <time.h>

static inline double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* For qsort of doubles. */
static inline int ascending(const void* a, const void* b) {
    double x = *(const double*)a;
    double y = *(const double*)b;
    return (x > y) - (x < y);
}

#endif
