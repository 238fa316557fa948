/* device.c: the CPU as a device: its instruction sets, its threads, and the ops of a submission one after the other. */
#define _GNU_SOURCE
#include "../io/io.h"
#include "cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#define MOST_THREADS 1024

typedef struct cpu_device {
    lm_device base;
    const lm_kernels* kernels;
    lm_pool* pool;
    pthread_mutex_t running; /* one submission at a time: it has the pool and the scratch memory */
    float* scratch;
    int64_t scratch_floats;
} cpu_device;

/* -- what this machine is ---------------------------------------------------------------------------------------- */

static const char* const simd_names[] = {
    [LM_SIMD_AUTO] = "auto",     [LM_SIMD_PLAIN] = "plain", [LM_SIMD_AVX2] = "avx2",
    [LM_SIMD_AVX512] = "avx512", [LM_SIMD_NEON] = "neon",
};

/* A bit for each instruction set that processor and operating system have. */
static int32_t simd_supported(void) {
    int32_t supported = 1 << LM_SIMD_PLAIN;
#if defined(__x86_64__)
    unsigned a, b, c = 0, d;
    int f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
    __builtin_cpu_init(); /* asks xgetbv too whether the registers are saved */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c) {
        supported |= 1 << LM_SIMD_AVX2;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
            supported |= 1 << LM_SIMD_AVX512;
        }
    }
#elif defined(__aarch64__)
    supported |= 1 << LM_SIMD_NEON; /* part of every AArch64 */
#endif
    return supported;
}

static const lm_kernels* kernels_for(int32_t simd) {
    switch (simd) {
#if defined(__x86_64__)
    case LM_SIMD_AVX2:
        return &lm_kernels_avx2;
    case LM_SIMD_AVX512:
        return &lm_kernels_avx512;
#elif defined(__aarch64__)
    case LM_SIMD_NEON:
        return &lm_kernels_neon;
#endif
    default:
        return &lm_kernels_plain;
    }
}

/* Turns what was asked for into an instruction set that can run here. */
static int32_t choose_simd(int32_t asked, int32_t supported, int32_t* out) {
    const char* by = "lm_device_open";
    if (asked < LM_SIMD_AUTO || asked > LM_SIMD_NEON) {
        return lm_fail(LM_ERROR_UNSUPPORTED, "lm_device_open: unknown instruction set %d", asked);
    }
    const char* name = getenv("LAMINA_SIMD");
    if (asked == LM_SIMD_AUTO && name != NULL && name[0] != 0) {
        by = "LAMINA_SIMD";
        for (asked = LM_SIMD_NEON; asked > LM_SIMD_AUTO && strcmp(name, simd_names[asked]) != 0;) {
            asked--;
        }
        if (asked == LM_SIMD_AUTO) {
            return lm_fail(LM_ERROR_UNSUPPORTED,
                           "LAMINA_SIMD=%s is no instruction set; use plain, avx2, avx512 or neon", name);
        }
    }
    if (asked == LM_SIMD_AUTO) {
        for (asked = LM_SIMD_NEON;
             (supported & 1 << asked) == 0;) { /* the codes ascend with width on each architecture */
            asked--;
        }
    }
    if ((supported & 1 << asked) == 0) {
        return lm_fail(LM_ERROR_UNSUPPORTED, "%s asks for the instruction set %s, which this processor or system lacks",
                       by, simd_names[asked]);
    }
    *out = asked;
    return LM_OK;
}

static int32_t usable_cores(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) {
        return CPU_COUNT(&set);
    }
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online < 1 ? 1 : online > MOST_THREADS ? MOST_THREADS : (int32_t)online;
}

static void processor_name(char* out, size_t capacity) {
#if defined(__x86_64__)
    unsigned brand[13] = {0}; /* 48 characters and a zero */
    if ((unsigned)__get_cpuid_max(0x80000000, NULL) >= 0x80000004u) {
        for (unsigned i = 0; i < 3; i++) {
            unsigned* r = brand + 4 * i;
            __get_cpuid(0x80000002 + i, &r[0], &r[1], &r[2], &r[3]);
        }
    }
    const char* name = (const char*)brand;
    name += strspn(name, " ");
    size_t length = strlen(name);
    while (length > 0 && name[length - 1] == ' ') {
        length--;
    }
    snprintf(out, capacity, "%.*s", (int)length, name);
    if (length == 0) {
        snprintf(out, capacity, "x86-64 processor");
    }
#else
    snprintf(out, capacity, "AArch64 processor");
#if defined(__APPLE__)
    size_t length = capacity;
    sysctlbyname("machdep.cpu.brand_string", out, &length, NULL, 0);
#endif
#endif
}

/* -- the backend's functions ------------------------------------------------------------------------------------- */

static void cpu_close(lm_device* device) {
    cpu_device* cpu = (cpu_device*)device;
    lm_pool_close(cpu->pool);
    free(cpu->scratch);
    pthread_mutex_destroy(&cpu->running);
    pthread_mutex_destroy(&cpu->base.lock);
    free(cpu);
}

static int32_t cpu_count(int32_t* out) {
    *out = 1;
    return LM_OK;
}

static int32_t cpu_open(const lm_device_options* options, lm_device** out) {
    if (options->ordinal != 0) {
        return lm_fail(LM_ERROR_INVALID_ARGUMENT, "lm_device_open: the CPU is device 0, there is no device %d",
                       options->ordinal);
    }
    if (options->threads < 0 || options->threads > MOST_THREADS) {
        return lm_fail(LM_ERROR_INVALID_ARGUMENT, "lm_device_open: %d threads, it must be 0 (one a core) to %d",
                       options->threads, MOST_THREADS);
    }
    int32_t supported = simd_supported();
    int32_t simd = LM_SIMD_PLAIN;
    int32_t status = choose_simd(options->simd, supported, &simd);
    if (status != LM_OK) {
        return status;
    }
    cpu_device* cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL) {
        return lm_fail(LM_ERROR_OUT_OF_MEMORY, "lm_device_open: no memory");
    }
    int32_t threads = options->threads > 0 ? options->threads : usable_cores();
    cpu->base.backend = &lm_cpu_backend;
    cpu->base.info = (lm_device_info){
        .backend = LM_BACKEND_CPU,
        .threads = threads,
        .simd = simd,
        .simd_supported = supported,
        .unified = 1,
        .mode = options->mode,
    };
    processor_name(cpu->base.info.name, sizeof cpu->base.info.name);
    cpu->kernels = kernels_for(simd);
    status = lm_pool_open(threads, &cpu->pool);
    if (status != LM_OK) {
        free(cpu);
        return status;
    }
    pthread_mutex_init(&cpu->base.lock, NULL);
    pthread_mutex_init(&cpu->running, NULL);
    *out = &cpu->base;
    return LM_OK;
}

static int32_t cpu_free_bytes(const lm_device* device, int64_t* out) {
    (void)device;
    *out = 0; /* it has no memory of its own */
    return LM_OK;
}

static int32_t cpu_alloc(lm_device* device, int32_t use, int64_t bytes, void** out) {
    (void)device;
    (void)use; /* large pages for a KV cache too: it is read as often as weights, and the budget counts all of it */
    return lm_memory_alloc(bytes, out);
}

static void cpu_free(lm_device* device, int32_t use, void* memory, int64_t bytes) {
    (void)device;
    (void)use;
    lm_memory_free(memory, bytes);
}

/* Grows the scratch memory to what the ops need. */
static int32_t make_scratch(cpu_device* cpu, const lm_op* ops, int32_t count, const lm_step* step) {
    int64_t floats = 0;
    for (int32_t i = 0; i < count; i++) {
        int64_t needed = 0;
        if (ops[i].code == LM_OP_LINEAR) {
            needed = cpu->kernels->linear_scratch(step, &ops[i], cpu->base.info.threads);
        } else if (ops[i].code == LM_OP_ATTENTION) {
            needed = cpu->kernels->attention_scratch(step, &ops[i], cpu->base.info.threads);
        } else if (ops[i].code == LM_OP_LINEAR_TRANSPOSED) {
            needed = cpu->kernels->linear_transposed_scratch(step, &ops[i], cpu->base.info.threads);
        } else if (ops[i].code == LM_OP_CONVOLUTION) {
            needed = cpu->kernels->convolution_scratch(step, &ops[i], cpu->base.info.threads);
        } else if (ops[i].code == LM_OP_DELTA_RULE) {
            needed = cpu->kernels->delta_rule_scratch(step, &ops[i], cpu->base.info.threads);
        }
        floats = needed > floats ? needed : floats;
    }
    if (floats <= cpu->scratch_floats) {
        return LM_OK;
    }
    void* scratch;
    if (posix_memalign(&scratch, 64, (size_t)floats * sizeof(float)) != 0) {
        return lm_fail(LM_ERROR_OUT_OF_MEMORY, "lm_submit: %lld bytes to compute in could not be had",
                       (long long)floats * 4);
    }
    free(cpu->scratch);
    cpu->scratch = scratch;
    cpu->scratch_floats = floats;
    return LM_OK;
}

static int32_t cpu_queue_create(lm_device* device, lm_queue** out) {
    (void)device;
    *out = calloc(1, sizeof(lm_queue));
    return *out == NULL ? lm_fail(LM_ERROR_OUT_OF_MEMORY, "lm_queue_create: no memory") : LM_OK;
}

static void cpu_queue_destroy(lm_queue* queue) {
    free(queue);
}

static void cpu_queue_trim(lm_queue* queue) {
    (void)queue; /* what threads work in is the device's, and small */
}

static int32_t cpu_submit(lm_queue* queue, const lm_op* ops, int32_t count, const lm_step* step, int64_t ticket) {
    (void)ticket;
    cpu_device* cpu = (cpu_device*)queue->device;
    const lm_kernels* kernels = cpu->kernels;
    pthread_mutex_lock(&cpu->running);
    int32_t status = make_scratch(cpu, ops, count, step);
    if (status != LM_OK) {
        pthread_mutex_unlock(&cpu->running);
        return status;
    }
    lm_pool* pool = step->alone ? NULL : cpu->pool;
    lm_run run = {step, pool, cpu->base.info.threads, cpu->scratch};
    lm_pool_begin(pool);
    for (int32_t i = 0; i < count; i++) {
        const lm_op* op = &ops[i];
        switch (op->code) {
        case LM_OP_EMBED:
            kernels->embed(&run, op);
            break;
        case LM_OP_RMS_NORM:
        case LM_OP_LAYER_NORM:
            kernels->norm(&run, op);
            break;
        case LM_OP_LINEAR:
            kernels->linear(&run, op);
            break;
        case LM_OP_ROPE:
            kernels->rope(&run, op);
            break;
        case LM_OP_KV_STORE:
            kernels->kv_store(&run, op);
            break;
        case LM_OP_ATTENTION:
            kernels->attention(&run, op);
            break;
        case LM_OP_ACTIVATION:
            kernels->activation(&run, op);
            break;
        case LM_OP_ADD:
            kernels->add(&run, op);
            break;
        case LM_OP_LINEAR_TRANSPOSED:
            kernels->linear_transposed(&run, op);
            break;
        case LM_OP_WEIGHT_NORM:
            kernels->weight_norm(&run, op);
            break;
        case LM_OP_SCALE:
            kernels->scale(&run, op);
            break;
        case LM_OP_SCATTER_ADD:
            kernels->scatter_add(&run, op);
            break;
        case LM_OP_CONVOLUTION:
            kernels->convolution(&run, op);
            break;
        case LM_OP_DELTA_RULE:
            kernels->delta_rule(&run, op);
            break;
        default: /* LM_OP_GATHER_ROWS: api.c lets no other code through */
            kernels->gather_rows(&run, op);
            break;
        }
    }
    lm_pool_end(pool);
    pthread_mutex_unlock(&cpu->running);
    return LM_OK;
}

static int32_t cpu_copy(lm_queue* queue, int32_t to_device, void* to, const void* from, int64_t bytes, int64_t ticket) {
    (void)queue;
    (void)to_device;
    (void)ticket;
    memmove(to, from, (size_t)bytes);
    return LM_OK;
}

/* Work is done within lm_submit and lm_copy_*: nothing is ever waited for. */
static int32_t cpu_after(lm_queue* queue, lm_queue* other, int64_t ticket) {
    (void)queue;
    (void)other;
    (void)ticket;
    return LM_OK;
}

static int32_t cpu_wait(lm_queue* queue, int64_t ticket) {
    (void)queue;
    (void)ticket;
    return LM_OK;
}

typedef struct cpu_file {
    lm_device_file base;
    lm_file* file;
} cpu_file;

static int32_t cpu_file_open(lm_device* device, const char* path, lm_device_file** out) {
    (void)device;
    lm_file* file;
    int32_t status = lm_file_open(path, LM_FILE_BUFFERED, &file);
    if (status != LM_OK) {
        return status;
    }
    struct stat found;
    cpu_file* made = NULL;
    if (fstat(file->descriptor, &found) != 0 || !S_ISREG(found.st_mode)) {
        status = lm_fail(LM_ERROR_IO, "it is not a regular file");
    } else if ((made = malloc(sizeof *made)) == NULL) {
        status = lm_fail(LM_ERROR_OUT_OF_MEMORY, "lm_device_file_open: no memory");
    }
    if (status != LM_OK) {
        lm_file_close(file);
        return status;
    }
    *made = (cpu_file){.file = file};
    *out = &made->base;
    return LM_OK;
}

static void cpu_file_close(lm_device_file* base) {
    cpu_file* file = (cpu_file*)base;
    lm_file_close(file->file);
    free(file);
}

static int32_t cpu_file_read(lm_device_file* base, void* allocation, int64_t at, int64_t bytes, int64_t offset,
                             int64_t* read) {
    return lm_file_read(((cpu_file*)base)->file, (char*)allocation + at, bytes, offset, read);
}

const lm_backend lm_cpu_backend = {
    .count = cpu_count,
    .open = cpu_open,
    .close = cpu_close,
    .free_bytes = cpu_free_bytes,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .queue_create = cpu_queue_create,
    .queue_destroy = cpu_queue_destroy,
    .queue_trim = cpu_queue_trim,
    .submit = cpu_submit,
    .copy = cpu_copy,
    .after = cpu_after,
    .wait = cpu_wait,
    .file_open = cpu_file_open,
    .file_close = cpu_file_close,
    .file_read = cpu_file_read,
};
