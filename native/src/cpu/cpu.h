/*
 * cpu.h: the CPU backend.
 *
 *     device.c   opens a device, chooses the instruction set, runs the ops of a submission one after the other
 *     pool.c     its threads          memory.c   its memory
 *     simd*.h    the 16-lane vector   vmath.h    exp, tanh, erf
 *     kernels.c  the table of the ops below for one instruction set
 *     one file an op, each compiled once for each instruction set
 */
#ifndef LAMINA_CPU_H
#define LAMINA_CPU_H

#include "../backend.h"
#include "pool.h"

/* What an op gets: the step, the threads, and memory to work in that grows before the first op runs. */
typedef struct lm_run {
    const lm_step* step;
    lm_pool* pool; /* null: the submitting thread is alone */
    int32_t threads;
    float* scratch; /* 64-byte aligned, as many floats as lm_kernels.scratch asked for */
} lm_run;

/* The ops for one instruction set. */
typedef struct lm_kernels {
    void (*embed)(const lm_run* run, const lm_op* op);
    void (*norm)(const lm_run* run, const lm_op* op);
    void (*linear)(const lm_run* run, const lm_op* op);
    void (*rope)(const lm_run* run, const lm_op* op);
    void (*kv_store)(const lm_run* run, const lm_op* op);
    void (*attention)(const lm_run* run, const lm_op* op);
    void (*activation)(const lm_run* run, const lm_op* op);
    void (*add)(const lm_run* run, const lm_op* op);
    void (*gather_rows)(const lm_run* run, const lm_op* op);
    void (*linear_transposed)(const lm_run* run, const lm_op* op);
    void (*weight_norm)(const lm_run* run, const lm_op* op);
    void (*scale)(const lm_run* run, const lm_op* op);
    void (*scatter_add)(const lm_run* run, const lm_op* op);
    void (*convolution)(const lm_run* run, const lm_op* op);
    void (*delta_rule)(const lm_run* run, const lm_op* op);
    int64_t (*linear_scratch)(const lm_step* step, const lm_op* op, int32_t threads); /* floats */
    int64_t (*attention_scratch)(const lm_step* step, const lm_op* op, int32_t threads);
    int64_t (*linear_transposed_scratch)(const lm_step* step, const lm_op* op, int32_t threads);
    int64_t (*convolution_scratch)(const lm_step* step, const lm_op* op, int32_t threads);
    int64_t (*delta_rule_scratch)(const lm_step* step, const lm_op* op, int32_t threads);
} lm_kernels;

extern const lm_kernels lm_kernels_plain;
#if defined(__x86_64__)
extern const lm_kernels lm_kernels_avx2;
extern const lm_kernels lm_kernels_avx512;
#elif defined(__aarch64__)
extern const lm_kernels lm_kernels_neon;
#endif

/* Row r of a view. */
static inline float* lm_row(const lm_step* step, const lm_view* view, int64_t r) {
    return (float*)step->activations + view->offset + r * view->stride; /* (width) */
}

/*
 * Chunks for work of `items` equal parts: about as many floats in each as are worth a thread's while, and no more
 * chunks than let the threads even out. Part i of n is items lm_part(items, i, n) to lm_part(items, i + 1, n).
 */
static inline int32_t lm_chunks(int64_t items, int64_t floats_per_item, int32_t threads) {
    int64_t worth = items * floats_per_item / 16384;
    int64_t most = (int64_t)threads * 4;
    int64_t chunks = worth < most ? worth : most;
    chunks = chunks < items ? chunks : items;
    return chunks < 1 ? 1 : (int32_t)chunks;
}

static inline int64_t lm_part(int64_t items, int32_t part, int32_t parts) {
    return items * part / parts;
}

#endif
