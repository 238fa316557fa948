/*
 * bench_cuda.c: what the CUDA backend reaches on the first GPU, beside what GPU and bus give in the same rounds.
 *
 *     bench_cuda [--short] [--json FILE] [--driver TEXT] [--commit TEXT] [LIBRARY]
 *
 * Figures are wall clock from the first of many submissions to the end of lm_wait. A round takes each of them once, by
 * turns with its yardstick; printed are medians of the rounds, and ratios are medians of each round's own. What was
 * computed is compared, and the exit status is 1 if the bits of a row depend on anything. The emulated build runs all
 * of it, small, so that this program is tested too; its figures mean nothing.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "device_copy.h"
#include "ops.h"

#include <ctype.h>
#include <math.h>

#if defined(EMULATED)
enum { BACKEND = LM_BACKEND_CUDA_EMULATED };
#else
enum { BACKEND = LM_BACKEND_CUDA };
#define LIBRARY NULL
#endif

enum { PLACES = 3, MOST_ROUNDS = 9, ROW_COUNTS = 4, LAYOUTS = 2, MODES = 2, KINDS = 2 };

static const double STREAMING_BAR = 0.92;

typedef struct sizes {
    int64_t host_bytes;  /* page-locked memory that is streamed from */
    int64_t piece_bytes; /* of a plain copy */
    int64_t panel_bytes;
    int64_t copy_bytes; /* of a copy within the device's memory */
    int32_t weight_rows;
    int32_t k;
    int32_t rows[ROW_COUNTS];
    int32_t rounds;
    double seconds; /* that a figure takes in a round, at least */
} sizes;

#if defined(EMULATED)
static sizes size = {24 << 10, 9 << 10, 2 << 10, 64 << 10, 72, 64, {1, 3, 8, 20}, 2, 0};
#else
static sizes size = {INT64_C(2) << 30, 256 << 20, 8 << 20, 512 << 20, 28672, 8192, {1, 8, 64, 512}, 7, 0.02};
#endif

/* To add a type: a line here. */
static const struct type {
    const char* name;
    int32_t dtype;
    int32_t bits;   /* of an element */
    int32_t tensor; /* 1: the peaks below are those of its products */
} types[] = {
    {"f32", LM_DTYPE_F32, 32, 0},
    {"f16", LM_DTYPE_F16, 16, 1},
    {"bf16", LM_DTYPE_BF16, 16, 1},
};

enum { TYPES = sizeof types / sizeof types[0] };

/* TFLOP/s of dense products of 16-bit types on tensor cores, sums in f32: NVIDIA's data sheets. First match. */
static const struct {
    const char* name;
    double tflops;
} peaks[] = {
    {"H100 PCIe", 756}, {"H100 NVL", 835}, {"H200 NVL", 835}, {"H100", 989}, {"H200", 989}, {"B200", 2250},
    {"A100", 312},      {"L40S", 362},     {"L40", 181},      {"L4", 121},   {"A10", 125},  {"RTX 4090", 165},
    {"RTX 3090", 71},
};

static const char* const mode_names[MODES] = {"exact", "fast"};

/* -- what was measured --------------------------------------------------------------------------------------------- */

/* Something that was done once a round. */
typedef struct pass {
    double bytes; /* each time */
    double seconds[MOST_ROUNDS];
} pass;

typedef struct range {
    double median;
    double least;
    double most;
} range;

/* A linear of one mode and type. */
typedef struct product {
    int32_t mode;
    const struct type* type;
    int32_t rows;
    int32_t panel_rows; /* of the weight, in one submission */
    int32_t repeats;
    int64_t generation;
    pass pass;
} product;

static struct {
    char name[128];
    device_facts facts;
    pass plain;     /* host to device, in large pieces */
    pass panels;    /* in panels, into the ring */
    pass streaming; /* the same, while the computation queue reads them */
    product products[TYPES][MODES][ROW_COUNTS][LAYOUTS];
    pass copies[TYPES]; /* within the device, in the rounds of each type */
    int64_t memory_bytes;
    int64_t free_before; /* with the device open, and nothing asked for */
    int64_t free_at_peak;
    int64_t free_after;
    int64_t asked; /* for at the peak */
} found;

static int64_t asked; /* bytes of device memory at the moment */

static range range_of(const double* values) {
    double sorted[MOST_ROUNDS];
    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, (size_t)size.rounds, sizeof *sorted, ascending);
    double median = (sorted[(size.rounds - 1) / 2] + sorted[size.rounds / 2]) / 2;
    return (range){median, sorted[0], sorted[size.rounds - 1]};
}

static double rate(const pass* p) {
    return p->bytes / range_of(p->seconds).median;
}

/* The rate of p as a share of that of its yardstick in the same round. */
static range ratio(const pass* p, const pass* yardstick) {
    double ratios[MOST_ROUNDS];
    for (int32_t i = 0; i < size.rounds; i++) {
        ratios[i] = p->bytes / p->seconds[i] / (yardstick->bytes / yardstick->seconds[i]);
    }
    return range_of(ratios);
}

static double flops(const product* p) {
    return 2.0 * p->rows * size.weight_rows * size.k / range_of(p->pass.seconds).median;
}

/*
 * Whether the name is that of a whole product in the driver's name of a GPU. What may follow is a form or a size
 * ("-SXM4-80GB", " 80GB HBM3"); " Laptop GPU", " Ti" or " D" make it another product, and a MIG slice is a part of one.
 */
static int is_product(const char* gpu, const char* name) {
    for (const char* at = gpu; (at = strstr(at, name)) != NULL; at++) {
        const char* rest = at + strlen(name);
        int ends = *rest == 0 || (*rest == '-' && isalpha((unsigned char)rest[1])) ||
                   (*rest == ' ' && isdigit((unsigned char)rest[1]));
        if ((at == gpu || at[-1] == ' ') && ends && strstr(rest, " MIG") == NULL) {
            return 1;
        }
    }
    return 0;
}

/* In FLOP/s; 0: unknown */
static double peak_of(const char* gpu) {
    for (int i = 0; i < (int)(sizeof peaks / sizeof peaks[0]); i++) {
        if (is_product(gpu, peaks[i].name)) {
            return peaks[i].tflops * 1e12;
        }
    }
    return 0;
}

static double peak(void) {
    return peak_of(found.name);
}

static void check_peaks(void) {
    static const struct {
        const char* gpu;
        double tflops;
    } expected[] = {
        {"NVIDIA H100 80GB HBM3", 989},
        {"NVIDIA H100 PCIe", 756},
        {"NVIDIA H100 NVL", 835},
        {"NVIDIA H200", 989},
        {"NVIDIA A100-SXM4-80GB", 312},
        {"NVIDIA A100 80GB PCIe", 312},
        {"NVIDIA L40S", 362},
        {"NVIDIA L4", 121},
        {"NVIDIA A10", 125},
        {"NVIDIA GeForce RTX 4090", 165},
        {"NVIDIA RTX A1000 Laptop GPU", 0},
        {"NVIDIA A10G", 0},
        {"NVIDIA GeForce RTX 4090 Laptop GPU", 0},
        {"NVIDIA GeForce RTX 4090 D", 0},
        {"NVIDIA GeForce RTX 3090 Ti", 0},
        {"NVIDIA GB200", 0},
        {"NVIDIA GH200 480GB", 0},
        {"NVIDIA H100 80GB HBM3 MIG 1g.10gb", 0},
    };
    for (int i = 0; i < (int)(sizeof expected / sizeof expected[0]); i++) {
        double tflops = peak_of(expected[i].gpu) * 1e-12;
        CHECK(fabs(tflops - expected[i].tflops) < 0.5, "%s has a peak of %g TFLOP/s, not %g", expected[i].gpu, tflops,
              expected[i].tflops);
    }
}

/* -- memory -------------------------------------------------------------------------------------------------------- */

static int64_t free_bytes(const machine* m) {
    lm_device_info info;
    MUST(lm_device_get_info(m->device, &info));
    return info.free_bytes;
}

static void* take(const machine* m, int64_t bytes) {
    void* memory;
    MUST(lm_device_alloc(m->device, bytes, &memory));
    asked += bytes;
    if (asked > found.asked) {
        found.asked = asked;
        found.free_at_peak = free_bytes(m);
    }
    return memory;
}

static void give(const machine* m, void* memory, int64_t bytes) {
    MUST(lm_device_free(m->device, memory, bytes));
    asked -= bytes;
}

/* Bits that are numbers from 2^-9 to 2 in size in each type. */
static void put_weights(uint8_t* to, int64_t bytes) {
    uint64_t seed = 1;
    int64_t block = bytes < 16 << 20 ? bytes : 16 << 20;
    for (int64_t i = 0; i < block; i += 2) {
        uint64_t bits = random_bits(&seed);
        uint16_t h = (uint16_t)((bits & 0x807f) | (118 + bits / 65536 % 10) << 7);
        memcpy(to + i, &h, sizeof h);
    }
    for (int64_t i = block; i < bytes; i += block) {
        memcpy(to + i, to, (size_t)(bytes - i < block ? bytes - i : block));
    }
}

/*
 * Each row of activations is one of two. Which one follows no period (Thue-Morse: 0 1 1 0 1 0 0 1 ...), so that a row
 * that is computed from another one is seen, however far away that is.
 */
static int32_t kind_of(int32_t row) {
    int32_t kind = 0;
    for (; row != 0; row &= row - 1) {
        kind ^= 1;
    }
    return kind;
}

static void put_on_device(const machine* m, float* to, const float* values, int64_t count) {
    int64_t ticket;
    MUST(lm_copy_to_device(m->queue, to, values, count * 4, &ticket));
    MUST(lm_wait(m->queue, ticket));
}

/* Rows of k floats. */
static void put_activations(const machine* m, float* to, int32_t rows) {
    uint64_t seed = 2;
    float* kinds[KINDS];
    for (int32_t kind = 0; kind < KINDS; kind++) {
        kinds[kind] = random_floats(size.k, 1, &seed); // (k)
    }
    float* values = malloc((size_t)rows * (size_t)size.k * 4); // (rows, k)
    for (int32_t row = 0; row < rows; row++) {
        memcpy(values + (int64_t)row * size.k, kinds[kind_of(row)], (size_t)size.k * 4);
    }
    put_on_device(m, to, values, (int64_t)rows * size.k);
    free(values);
    for (int32_t kind = 0; kind < KINDS; kind++) {
        free(kinds[kind]);
    }
}

/* -- the bus ------------------------------------------------------------------------------------------------------- */

typedef struct stream {
    lm_queue* copies;
    const uint8_t* host; // (panels, panel_bytes), page-locked
    uint8_t* ring;       // (PLACES, panel_bytes) of the device
    float* activations;  // k floats, then (panels, panel_rows)
    int32_t panels;
    int32_t panel_rows;
} stream;

static void submit_panel(const machine* m, const stream* s, int32_t panel, const void* place, int64_t* ticket) {
    lm_op op = {.code = LM_OP_LINEAR,
                .out = {size.k + (int64_t)panel * s->panel_rows, s->panel_rows, s->panel_rows},
                .a = {0, size.k, size.k},
                .weight_stride = size.k * INT64_C(2),
                .weight_rows = s->panel_rows,
                .dtype = LM_DTYPE_BF16};
    lm_step step = {.rows = 1,
                    .generation = 1,
                    .activations = s->activations,
                    .activations_bytes = (size.k + (int64_t)s->panels * s->panel_rows) * 4,
                    .panel = place,
                    .panel_bytes = size.panel_bytes};
    MUST(lm_submit(m->queue, &op, 1, &step, ticket));
}

/*
 * All panels through the ring; nothing is waited for but the end. first: the queue whose end is waited for before the
 * other's: streams of the emulation work when they are waited for, so each order shows another wait that is missing.
 */
static double stream_panels(const machine* m, const stream* s, int compute, const lm_queue* first) {
    int64_t used_by[PLACES] = {0};
    int64_t put = 0;
    double start = seconds_now();
    for (int32_t i = 0; i < s->panels; i++) {
        int32_t at = i % PLACES;
        uint8_t* place = s->ring + at * size.panel_bytes;
        if (compute) {
            MUST(lm_queue_after(s->copies, m->queue, used_by[at]));
        }
        MUST(lm_copy_to_device(s->copies, place, s->host + i * size.panel_bytes, size.panel_bytes, &put));
        if (compute) {
            MUST(lm_queue_after(m->queue, s->copies, put));
            submit_panel(m, s, i, place, &used_by[at]);
        }
    }
    if (first == s->copies) {
        MUST(lm_wait(s->copies, put));
    }
    MUST(lm_wait(m->queue, used_by[(s->panels - 1) % PLACES]));
    MUST(lm_wait(s->copies, put));
    return seconds_now() - start;
}

/* What streaming has to give: one panel after the other, and each wait in the host. */
static void stream_slowly(const machine* m, const stream* s) {
    int64_t ticket;
    for (int32_t i = 0; i < s->panels; i++) {
        MUST(lm_copy_to_device(m->queue, s->ring, s->host + i * size.panel_bytes, size.panel_bytes, &ticket));
        MUST(lm_wait(m->queue, ticket));
        submit_panel(m, s, i, s->ring, &ticket);
        MUST(lm_wait(m->queue, ticket));
    }
}

static double copy_plain(const machine* m, const uint8_t* host, uint8_t* target) {
    int64_t ticket = 0;
    double start = seconds_now();
    for (int64_t at = 0; at < size.host_bytes; at += size.piece_bytes) {
        int64_t left = size.host_bytes - at;
        MUST(lm_copy_to_device(m->queue, target, host + at, left < size.piece_bytes ? left : size.piece_bytes,
                               &ticket));
    }
    MUST(lm_wait(m->queue, ticket));
    return seconds_now() - start;
}

static void measure_bus(const machine* m, const uint8_t* host) {
    stream s = {.host = host,
                .panels = (int32_t)(size.host_bytes / size.panel_bytes),
                .panel_rows = (int32_t)(size.panel_bytes / (size.k * 2))};
    int64_t activation_bytes = (size.k + (int64_t)s.panels * s.panel_rows) * 4;
    MUST(lm_queue_create(m->device, &s.copies));
    uint8_t* target = take(m, size.piece_bytes);
    s.ring = take(m, PLACES * size.panel_bytes);
    s.activations = take(m, activation_bytes);
    put_activations(m, s.activations, 1);
    found.plain.bytes = found.panels.bytes = found.streaming.bytes = (double)size.host_bytes;
    int64_t count = (int64_t)s.panels * s.panel_rows;
    float* expected = malloc((size_t)count * 4); // (panels, panel_rows)
    float* results = malloc((size_t)count * 4);  // (panels, panel_rows)
    stream_slowly(m, &s);
    to_host(m, expected, s.activations + size.k, count * 4);
    for (int32_t round = -1; round < size.rounds; round++) { /* the first warms up, and is overwritten */
        int32_t at = round < 0 ? 0 : round;
        found.plain.seconds[at] = copy_plain(m, host, target);
        found.panels.seconds[at] = stream_panels(m, &s, 0, s.copies);
        memset(results, 0, (size_t)count * 4);
        put_on_device(m, s.activations + size.k, results, count);
        found.streaming.seconds[at] = stream_panels(m, &s, 1, round % 2 == 0 ? s.copies : m->queue);
        to_host(m, results, s.activations + size.k, count * 4);
        CHECK(memcmp(results, expected, (size_t)count * 4) == 0, "streamed panels give other bits, round %d", round);
    }
    free(results);
    free(expected);
    give(m, s.activations, activation_bytes);
    give(m, s.ring, PLACES * size.panel_bytes);
    give(m, target, size.piece_bytes);
    MUST(lm_queue_destroy(s.copies));
}

/* -- linear -------------------------------------------------------------------------------------------------------- */

typedef struct weight {
    uint8_t* memory; // (weight_rows, k) of the type, on the device
    int64_t stride;
    float* activations; // (rows, k), then (rows, weight_rows), of the most rows, two at least
    int64_t out;        /* where those begin, in floats */
    int64_t activation_bytes;
} weight;

/* first_row: of the activations; results begin with the first row of theirs. */
static void submit_product(const machine* m, const product* p, const weight* w, int32_t first_row, int64_t* ticket) {
    for (int32_t first = 0; first < size.weight_rows; first += p->panel_rows) {
        int32_t left = size.weight_rows - first;
        int32_t n = left < p->panel_rows ? left : p->panel_rows;
        lm_op op = {.code = LM_OP_LINEAR,
                    .out = {w->out + first, size.weight_rows, n},
                    .a = {(int64_t)first_row * size.k, size.k, size.k},
                    .weight_stride = w->stride,
                    .weight_rows = n,
                    .dtype = p->type->dtype};
        lm_step step = {.rows = p->rows,
                        .generation = p->generation,
                        .activations = w->activations,
                        .activations_bytes = w->activation_bytes,
                        .panel = w->memory + first * w->stride,
                        .panel_bytes = n * w->stride};
        MUST(lm_submit(m->queue, &op, 1, &step, ticket));
    }
}

static double time_product(const machine* m, const product* p, const weight* w) {
    int64_t ticket = 0;
    double start = seconds_now();
    for (int32_t i = 0; i < p->repeats; i++) {
        submit_product(m, p, w, 0, &ticket);
    }
    MUST(lm_wait(m->queue, ticket));
    return (seconds_now() - start) / p->repeats;
}

/* What each kind of row gives alone, with the weight as one panel. */
static void compute_alone(const machine* m, const product* like, const weight* w, float* alone) {
    product p = *like;
    p.rows = 1;
    p.panel_rows = size.weight_rows;
    for (int32_t kind = 0; kind < KINDS; kind++) {
        float* out = alone + (int64_t)kind * size.weight_rows;
        int64_t ticket = 0;
        p.generation = ++generation;
        submit_product(m, &p, w, kind, &ticket); /* row 0 is of kind 0, row 1 of kind 1 */
        MUST(lm_wait(m->queue, ticket));
        to_host(m, out, w->activations + w->out, size.weight_rows * INT64_C(4));
        double sum = 0;
        for (int32_t n = 0; n < size.weight_rows; n++) {
            sum += fabs(out[n]);
        }
        CHECK(isfinite(sum) && sum > 0, "%s, %s: a row alone adds up to %g", mode_names[p.mode], p.type->name, sum);
    }
    CHECK(memcmp(alone, alone + size.weight_rows, (size_t)size.weight_rows * 4) != 0,
          "%s, %s: two different rows give the same", mode_names[p.mode], p.type->name);
}

/* Compares each row with alone, warms up, and finds out how often a product has to run. */
static void prepare_product(const machine* m, product* p, const weight* w, const float* alone) {
    int64_t count = (int64_t)p->rows * size.weight_rows;
    size_t row_bytes = (size_t)size.weight_rows * 4;
    float* results = calloc((size_t)count, 4); // (rows, weight_rows)
    put_on_device(m, w->activations + w->out, results, count); /* nothing of an earlier product is left */
    p->repeats = 1;
    time_product(m, p, w);
    to_host(m, results, w->activations + w->out, count * 4);
    for (int32_t row = 0; row < p->rows; row++) {
        CHECK(memcmp(results + (int64_t)row * size.weight_rows, alone + (int64_t)kind_of(row) * size.weight_rows,
                     row_bytes) == 0,
              "%s, %s: row %d of %d has other bits than alone, in panels of %d rows", mode_names[p->mode],
              p->type->name, row, p->rows, p->panel_rows);
    }
    free(results);
    double seconds = time_product(m, p, w);
    p->repeats = size.seconds > seconds ? (int32_t)ceil(size.seconds / seconds) : 1;
}

static double time_copy(int32_t repeats) {
    double start = seconds_now();
    const char* message = device_copy_run(repeats);
    if (message != NULL) {
        printf("bench_cuda: a copy within the device: %s\n", message);
        exit(1);
    }
    return (seconds_now() - start) / repeats;
}

static weight make_weight(const machine* m, const struct type* type, const uint8_t* host) {
    int32_t most = size.rows[ROW_COUNTS - 1];
    weight w = {.stride = (int64_t)size.k * type->bits / 8,
                .out = (int64_t)most * size.k,
                .activation_bytes = (int64_t)most * (size.k + size.weight_rows) * 4};
    int64_t bytes = size.weight_rows * w.stride;
    w.memory = take(m, bytes);
    w.activations = take(m, w.activation_bytes);
    for (int64_t at = 0; at < bytes; at += size.host_bytes) {
        int64_t left = bytes - at;
        MUST(lm_copy_to_device(m->queue, w.memory + at, host, left < size.host_bytes ? left : size.host_bytes, NULL));
    }
    put_activations(m, w.activations, most);
    return w;
}

static void measure_linear(const machine machines[MODES], int32_t t, const uint8_t* host) {
    const struct type* type = &types[t];
    weight weights[MODES]; /* each opened device has memory of its own */
    for (int32_t mode = 0; mode < MODES; mode++) {
        weights[mode] = make_weight(&machines[mode], type, host);
    }
    int64_t stride = weights[0].stride;
    int64_t bytes = size.weight_rows * stride;
    float* alone = malloc(KINDS * (size_t)size.weight_rows * 4); // (KINDS, weight_rows)
    for (int32_t mode = 0; mode < MODES; mode++) {
        for (int32_t i = 0; i < ROW_COUNTS; i++) {
            for (int32_t layout = 0; layout < LAYOUTS; layout++) {
                product* p = &found.products[t][mode][i][layout];
                int32_t panel_rows = (int32_t)(size.panel_bytes / stride);
                *p = (product){.mode = mode,
                               .type = type,
                               .rows = size.rows[i],
                               .panel_rows = layout == 0 ? size.weight_rows : panel_rows,
                               .generation = ++generation,
                               .pass = {.bytes = (double)bytes}};
                if (i == 0 && layout == 0) {
                    compute_alone(&machines[mode], p, &weights[mode], alone);
                }
                prepare_product(&machines[mode], p, &weights[mode], alone);
            }
        }
    }
    free(alone);
    found.copies[t].bytes = 2.0 * (double)size.copy_bytes; /* read and written */
    double once = time_copy(1);
    int32_t repeats = size.seconds > once ? (int32_t)ceil(size.seconds / once) : 1;
    for (int32_t round = 0; round < size.rounds; round++) {
        found.copies[t].seconds[round] = time_copy(repeats);
        for (int32_t i = 0; i < MODES * ROW_COUNTS * LAYOUTS; i++) {
            product* p = &found.products[t][0][0][0] + i;
            p->pass.seconds[round] = time_product(&machines[p->mode], p, &weights[p->mode]);
        }
    }
    for (int32_t mode = 0; mode < MODES; mode++) {
        give(&machines[mode], weights[mode].activations, weights[mode].activation_bytes);
        give(&machines[mode], weights[mode].memory, bytes);
    }
}

/* -- the report ---------------------------------------------------------------------------------------------------- */

static void print_share(double of, double whole) {
    if (whole > 0) {
        printf(" %6.3f", of / whole);
    } else {
        printf("      -");
    }
}

static void print_report(void) {
    double plain = rate(&found.plain);
    range ring = ratio(&found.panels, &found.plain);
    range streaming = ratio(&found.streaming, &found.plain);
    printf("%s, compute capability %d.%d; medians of %d rounds\n", found.name, found.facts.major, found.facts.minor,
           size.rounds);
    printf("\nhost to device, from page-locked memory     GB/s  of the plain copy\n");
    printf("plain copy in pieces of %4lld KiB        %9.3f\n", (long long)(size.piece_bytes >> 10), plain * 1e-9);
    printf("panels of %4lld KiB                      %9.3f  %.3f (%.3f-%.3f)\n", (long long)(size.panel_bytes >> 10),
           rate(&found.panels) * 1e-9, ring.median, ring.least, ring.most);
    printf("panels, while a linear reads each       %9.3f  %.3f (%.3f-%.3f), the bar: %.2f\n",
           rate(&found.streaming) * 1e-9, streaming.median, streaming.least, streaming.most, STREAMING_BAR);
    printf("\nlinear of a %d x %d weight: GB/s of the weight and its share of what a copy within the device reads and\n"
           "writes; TFLOP/s and their share of the data sheet's dense peak",
           size.weight_rows, size.k);
    printf(peak() > 0 ? " (%.0f TFLOP/s)\n" : ", which is not known\n", peak() * 1e-12);
    printf("%47s %31s\n", "-------- as one panel --------", "---- in panels as above ----");
    printf("mode  dtype rows      GB/s   copy TFLOP/s   peak      GB/s   copy TFLOP/s   peak\n");
    for (int32_t t = 0; t < TYPES; t++) {
        for (int32_t i = 0; i < MODES * ROW_COUNTS; i++) {
            const product* row = found.products[t][0][0] + i * LAYOUTS;
            printf("%-5s %-4s %5d", mode_names[row->mode], types[t].name, row->rows);
            for (int32_t layout = 0; layout < LAYOUTS; layout++) {
                const product* p = row + layout;
                printf(" %9.3f %6.3f %7.2f", rate(&p->pass) * 1e-9, ratio(&p->pass, &found.copies[t]).median,
                       flops(p) * 1e-12);
                print_share(flops(p), types[t].tensor ? peak() : 0);
            }
            printf("\n");
        }
        printf("copy within the device: %.3f GB/s\n", rate(&found.copies[t]) * 1e-9);
    }
    printf("\ndevice memory: %lld of %lld MiB free before, %lld at the peak of %lld MiB asked for, %lld in the end\n",
           (long long)(found.free_before >> 20), (long long)(found.memory_bytes >> 20),
           (long long)(found.free_at_peak >> 20), (long long)(found.asked >> 20), (long long)(found.free_after >> 20));
}

static void put_text(FILE* out, const char* name, const char* text) {
    fprintf(out, "  \"%s\": \"", name);
    for (; *text != 0; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        }
        if ((unsigned char)*text >= ' ') {
            fputc(*text, out);
        }
    }
    fprintf(out, "\",\n");
}

static void put_range(FILE* out, const char* name, range r) {
    fprintf(out, "\"%s\": {\"median\": %.6g, \"least\": %.6g, \"most\": %.6g}", name, r.median, r.least, r.most);
}

static void put_json(FILE* out, const char* driver, const char* commit) {
    char text[64];
    time_t now = time(NULL);
    struct tm utc;
    fprintf(out, "{\n");
    put_text(out, "program", "bench_cuda");
    put_text(out, "gpu", found.name);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    put_text(out, "date", text);
    put_text(out, "commit", commit);
    put_text(out, "driver", driver);
    fprintf(out, "  \"failures\": %d,\n", failures);
    fprintf(out, "  \"emulated\": %s,\n", BACKEND == LM_BACKEND_CUDA ? "false" : "true");
    fprintf(out, "  \"computeCapability\": \"%d.%d\",\n", found.facts.major, found.facts.minor);
    fprintf(out, "  \"driverCuda\": \"%d.%d\",\n", found.facts.driver / 1000, found.facts.driver % 1000 / 10);
    fprintf(out, "  \"runtimeCuda\": \"%d.%d\",\n", found.facts.runtime / 1000, found.facts.runtime % 1000 / 10);
    fprintf(out, "  \"rounds\": %d,\n", size.rounds);
    fprintf(out, "  \"bus\": {\"bytes\": %lld, \"panelBytes\": %lld, \"plainGBs\": %.6g, \"panelsGBs\": %.6g, "
            "\"streamingGBs\": %.6g,\n    ", (long long)size.host_bytes, (long long)size.panel_bytes,
            rate(&found.plain) * 1e-9, rate(&found.panels) * 1e-9, rate(&found.streaming) * 1e-9);
    put_range(out, "panelsOfPlain", ratio(&found.panels, &found.plain));
    fprintf(out, ", ");
    put_range(out, "streamingOfPlain", ratio(&found.streaming, &found.plain));
    fprintf(out, ", \"bar\": %.2f},\n", STREAMING_BAR);
    fprintf(out, "  \"deviceMemory\": {\"bytes\": %lld, \"freeBefore\": %lld, \"freeAtPeak\": %lld, "
            "\"askedAtPeak\": %lld, \"freeAfter\": %lld},\n", (long long)found.memory_bytes,
            (long long)found.free_before, (long long)found.free_at_peak, (long long)found.asked,
            (long long)found.free_after);
    if (peak() > 0) {
        fprintf(out, "  \"peakTflops\": %.6g,\n  \"peakSource\": \"data sheet, dense, 16-bit types\",\n",
                peak() * 1e-12);
    }
    fprintf(out, "  \"weight\": {\"rows\": %d, \"columns\": %d},\n  \"linear\": [", size.weight_rows, size.k);
    for (int32_t i = 0; i < TYPES * MODES * ROW_COUNTS * LAYOUTS; i++) {
        const product* p = &found.products[0][0][0][0] + i;
        const pass* copy = &found.copies[p->type - types];
        fprintf(out, "%s\n    {\"mode\": \"%s\", \"dtype\": \"%s\", \"rows\": %d, \"panelRows\": %d, "
                "\"seconds\": %.6g, \"GBs\": %.6g, \"tflops\": %.6g, \"copyGBs\": %.6g, ",
                i == 0 ? "" : ",", mode_names[p->mode], p->type->name, p->rows, p->panel_rows,
                range_of(p->pass.seconds).median, rate(&p->pass) * 1e-9, flops(p) * 1e-12, rate(copy) * 1e-9);
        put_range(out, "ofCopy", ratio(&p->pass, copy));
        if (p->type->tensor && peak() > 0) {
            fprintf(out, ", \"ofPeak\": %.6g", flops(p) / peak());
        }
        fprintf(out, "}");
    }
    fprintf(out, "\n  ]\n}\n");
}

static int write_json(const char* path, const char* driver, const char* commit) {
    FILE* out = fopen(path, "w");
    if (out == NULL) {
        perror(path);
        return 1;
    }
    put_json(out, driver, commit);
    int failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        printf("%s could not be written\n", path);
        return 1;
    }
    return 0;
}

int main(int argc, char** argv) {
    const char* library = LIBRARY;
    const char* json = NULL;
    const char* driver = "";
    const char* commit = "";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--short") == 0) {
            size.rounds = 3;
            size.seconds /= 4;
        } else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
            json = argv[++i];
        } else if (strcmp(argv[i], "--driver") == 0 && i + 1 < argc) {
            driver = argv[++i];
        } else if (strcmp(argv[i], "--commit") == 0 && i + 1 < argc) {
            commit = argv[++i];
        } else {
            library = argv[i];
        }
    }
    if (library == NULL) {
        printf("bench_cuda [--short] [--json FILE] [--driver TEXT] [--commit TEXT] LIBRARY\n");
        return 2;
    }
    check_peaks();
    machine machines[MODES];
    MUST(lm_backend_load(BACKEND, library));
    for (int32_t mode = 0; mode < MODES; mode++) {
        MUST(lm_device_open(&(lm_device_options){.backend = BACKEND, .mode = mode}, &machines[mode].device));
        MUST(lm_queue_create(machines[mode].device, &machines[mode].queue));
    }
    lm_device_info info;
    MUST(lm_device_get_info(machines[0].device, &info));
    snprintf(found.name, sizeof found.name, "%s", info.name);
    found.memory_bytes = info.memory_bytes;
    found.free_before = info.free_bytes;
    uint8_t* host;
    MUST(lm_host_alloc(machines[0].device, size.host_bytes, (void**)&host));
    put_weights(host, size.host_bytes);
    measure_bus(&machines[0], host);
    const char* message = device_copy_open(size.copy_bytes, &found.facts);
    if (message != NULL) {
        printf("bench_cuda: memory for copies within the device: %s\n", message);
        return 1;
    }
    asked += BACKEND == LM_BACKEND_CUDA ? 2 * size.copy_bytes : 0; /* the emulation that copies is another one */
    for (int32_t t = 0; t < TYPES; t++) {
        measure_linear(machines, t, host);
    }
    device_copy_close();
    MUST(lm_host_free(machines[0].device, host, size.host_bytes));
    for (int32_t mode = 0; mode < MODES; mode++) {
        MUST(lm_queue_destroy(machines[mode].queue));
    }
    found.free_after = free_bytes(&machines[0]);
    for (int32_t mode = 0; mode < MODES; mode++) {
        MUST(lm_device_close(machines[mode].device));
    }
    print_report();
    int failed = json == NULL ? 0 : write_json(json, driver, commit);
    return finish_tests("bench_cuda") + failed > 0;
}
