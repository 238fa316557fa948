/*
 * bench_linear.c: LM_OP_LINEAR and LM_OP_LINEAR_TRANSPOSED against what memory gives in the same run. Not a test.
 *
 *     bench_linear [threads] [plain|avx2|avx512|neon]
 *
 * Per op, dtype and number of rows: GB/s of weights read and GFLOP/s, best and median of many short passes over panels
 * of a weight that is larger than the caches; beside them a read-only pass (sum of 64-bit words, one thread) and memcpy.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "test.h"

enum { K = 4096, PASSES = 200, PANEL = 32 << 20 };

static const int64_t WEIGHT_BYTES = INT64_C(512) << 20;
static const double SECONDS = 1; /* a line takes at most */

static void report(const char* name, double* times, int passes, double bytes, double flops) {
    qsort(times, (size_t)passes, sizeof *times, ascending);
    printf("%-10s best %6.1f GB/s %6.1f GFLOP/s   median %6.1f GB/s %6.1f GFLOP/s   of %d\n", name,
           bytes / times[0] * 1e-9, flops / times[0] * 1e-9, bytes / times[passes / 2] * 1e-9,
           flops / times[passes / 2] * 1e-9, passes);
    fflush(stdout);
}

static volatile uint64_t sink;

static void read_all(const uint8_t* from) {
    uint64_t sums[32] = {0};
    for (int64_t i = 0; i < PANEL; i += sizeof sums) {
        uint64_t words[32];
        memcpy(words, from + i, sizeof words);
        for (int j = 0; j < 32; j++) {
            sums[j] += words[j];
        }
    }
    for (int j = 0; j < 32; j++) {
        sink += sums[j];
    }
}

static void bench_memory(const uint8_t* from, uint8_t* to) {
    double times[PASSES];
    for (int pass = 0; pass < PASSES; pass++) {
        double start = seconds_now();
        read_all(from + (int64_t)pass * PANEL % WEIGHT_BYTES);
        times[pass] = seconds_now() - start;
    }
    report("read", times, PASSES, PANEL, 0);
    for (int pass = 0; pass < PASSES; pass++) {
        double start = seconds_now();
        memcpy(to + (int64_t)pass * PANEL % WEIGHT_BYTES, from + (int64_t)pass * PANEL % WEIGHT_BYTES, PANEL);
        times[pass] = seconds_now() - start;
    }
    report("memcpy", times, PASSES, PANEL, 0);
}

static void bench_rows(lm_device* device, lm_queue* queue, const uint8_t* weights, int32_t transposed, int32_t dtype,
                       int32_t rows) {
    static const char* const names[] = {"f32", "f16", "bf16", "f8_e4m3", "mxfp4"};
    int64_t stride = dtype == LM_DTYPE_MXFP4 ? K / 2 : dtype == LM_DTYPE_F8_E4M3 ? K : dtype == LM_DTYPE_F32 ? K * 4 : K * 2;
    int64_t scales = dtype == LM_DTYPE_MXFP4 ? K / 32 : 0; /* bytes of a row, behind all elements */
    int64_t panel = rows >= 64 ? PANEL / 16 : PANEL; /* short passes: other processes disturb fewer of them */
    int32_t n = (int32_t)(panel / (stride + scales));
    int32_t blocks = dtype == LM_DTYPE_F8_E4M3 ? (n + 127) / 128 * (K / 128) : 0;
    int64_t bytes = ((int64_t)rows * (K + n) + blocks) * 4;
    void* activations;
    MUST(lm_device_alloc(device, bytes, &activations));
    lm_view wide = {0, K, K};
    lm_view narrow = {(int64_t)rows * K, n, n};
    lm_op op = {.code = transposed ? LM_OP_LINEAR_TRANSPOSED : LM_OP_LINEAR,
                .out = transposed ? wide : narrow,
                .a = transposed ? narrow : wide,
                .weight_stride = stride,
                .weight_rows = n,
                .dtype = dtype,
                .scales = blocks == 0 ? NULL : (float*)activations + (int64_t)rows * (K + n),
                .scales_length = blocks,
                .scale_offset = scales == 0 ? 0 : n * stride,
                .scale_stride = dtype == LM_DTYPE_MXFP4 ? scales : dtype == LM_DTYPE_F8_E4M3 ? K / 128 : 0};
    double times[PASSES];
    int passes = 0;
    for (double begin = seconds_now(); passes < PASSES && (passes < 3 || seconds_now() - begin < SECONDS); passes++) {
        double start = seconds_now();
        lm_step step = {.rows = rows,
                        .activations = activations,
                        .activations_bytes = bytes,
                        .panel = weights + passes * panel % WEIGHT_BYTES,
                        .panel_bytes = panel};
        MUST(lm_submit(queue, &op, 1, &step, NULL));
        times[passes] = seconds_now() - start;
    }
    char name[32];
    snprintf(name, sizeof name, "%s x %d", names[dtype], rows);
    report(name, times, passes, (double)panel, 2.0 * (double)n * K * rows);
    MUST(lm_device_free(device, activations, bytes));
}

int main(int argc, char** argv) {
    lm_device* device;
    lm_queue* queue;
    lm_device_info info;
    if (argc > 2) {
        setenv("LAMINA_SIMD", argv[2], 1);
    }
    MUST(lm_device_open(&(lm_device_options){.threads = argc > 1 ? atoi(argv[1]) : 1}, &device));
    MUST(lm_device_get_info(device, &info));
    MUST(lm_queue_create(device, &queue));
    printf("%s, simd %d, %d threads\n", info.name, info.simd, info.threads);
    uint8_t* weights;
    uint8_t* copy;
    MUST(lm_host_alloc(device, WEIGHT_BYTES, (void**)&weights));
    MUST(lm_host_alloc(device, WEIGHT_BYTES, (void**)&copy));
    for (int64_t i = 0; i < WEIGHT_BYTES; i += 4) { /* 0x3c003c00: harmless in every dtype */
        memcpy(weights + i, &(uint32_t){0x3c003c00}, 4);
    }
    memset(copy, 0, (size_t)WEIGHT_BYTES);
    bench_memory(weights, copy);
    static const int32_t rows[] = {1, 2, 3, 4, 8, 16, 64, 128, 512};
    for (int32_t transposed = 0; transposed < 2; transposed++) {
        printf(transposed ? "linear_transposed\n" : "linear\n");
        /* the header says that transposed MXFP4 is refused */
        for (int32_t dtype = LM_DTYPE_F32; dtype <= (transposed ? LM_DTYPE_F8_E4M3 : LM_DTYPE_MXFP4); dtype++) {
            for (int i = 0; i < (int)(sizeof rows / sizeof rows[0]); i++) {
                bench_rows(device, queue, weights, transposed, dtype, rows[i]);
            }
        }
    }
    MUST(lm_host_free(device, copy, WEIGHT_BYTES));
    MUST(lm_host_free(device, weights, WEIGHT_BYTES));
    MUST(lm_queue_destroy(queue));
    MUST(lm_device_close(device));
    return 0;
}
