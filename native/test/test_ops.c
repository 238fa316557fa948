/*
 * test_ops.c: every op of every instruction set that this machine has, against a naive reference in double precision,
 * and bit for bit against each other: instruction sets, thread counts, rows alone or together, cuts into panels,
 * addresses.
 *
 * Digests of results must be the same on every platform: see DIGEST and those beside it.
 */
#define _GNU_SOURCE
#include "ops.h"

/* FNV-1a over the bits of results below. A change means that results changed for every user of every platform. */
#define DIGEST UINT64_C(0xc8ab73a2dc392ff)
#define FURTHER_ROW_OPS_DIGEST UINT64_C(0x142cc5120af5057a)
#define STATE_DIGEST UINT64_C(0x503b61a4ef55e18)
#define WEIGHT_DIGEST UINT64_C(0x103ecb933fa32c48)
#define LISTS_DIGEST UINT64_C(0xb9d081b13addadb6)
#define FURTHER_ATTENTIONS_DIGEST UINT64_C(0xe4cf1762d08875fa)

#define MAX_OPS 2

#define NO_RESULTS UINT64_C(0xcbf29ce484222325)

static uint64_t digest = NO_RESULTS;

static void digest_floats(const float* x, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        for (int b = 0; b < 4; b++) {
            digest = (digest ^ (bits >> (8 * b) & 0xff)) * UINT64_C(0x100000001b3);
        }
    }
}

/* Compares the digest with what it must be, and begins the next one. */
static void check_digest(uint64_t expected, const char* what) {
    CHECK(digest == expected, "the digest of the %s is 0x%llx", what, (unsigned long long)digest);
    digest = NO_RESULTS;
}

/* -- machines under test ------------------------------------------------------------------------------------------ */

/* The first is the reference of the bits: plain, one thread. */
static machine machines[16];
static int machine_count;

static void open_machines(void) {
#ifdef LM_SANITIZED
    static const int32_t threads[] = {2}; /* the others are minutes more, and find nothing more */
#else
    static const int32_t threads[] = {1, 2, 5};
#endif
    int32_t supported = supported_simd();
    for (int32_t simd = LM_SIMD_PLAIN; simd <= LM_SIMD_NEON; simd++) {
        if (!(supported & 1 << simd)) {
            continue;
        }
        for (int t = 0; t < (int)(sizeof threads / sizeof *threads); t++) {
            machine* m = &machines[machine_count++];
            *m = (machine){.simd = simd, .threads = threads[t]};
            MUST(lm_device_open(&(lm_device_options){.simd = simd, .threads = threads[t]}, &m->device));
            MUST(lm_queue_create(m->device, &m->queue));
        }
    }
}

static void close_machines(void) {
    for (int i = 0; i < machine_count; i++) {
        MUST(lm_queue_destroy(machines[i].queue));
        MUST(lm_device_close(machines[i].device));
    }
}

/* -- 16-bit floats, written down naively --------------------------------------------------------------------------- */

static double f16_value(uint16_t h) {
    int exponent = h >> 10 & 31;
    double fraction = h & 1023;
    double magnitude = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return h & 0x8000 ? -magnitude : magnitude;
}

static double bf16_value(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The f16 nearest to x (ties to even), found by looking at both neighbours. */
static double f16_nearest(double x) {
    uint16_t best = 0;
    uint16_t low = 0;
    uint16_t high = 0x7bff;
    while (low < high) { /* the largest f16 not above |x| */
        uint16_t middle = (uint16_t)((low + high + 1) / 2);
        if (f16_value(middle) <= fabs(x)) {
            low = middle;
        } else {
            high = (uint16_t)(middle - 1);
        }
    }
    double below = fabs(x) - f16_value(low);
    double above = f16_value((uint16_t)(low + 1)) - fabs(x);
    best = below < above || (below == above && (low & 1) == 0) ? low : (uint16_t)(low + 1);
    return x < 0 ? -f16_value(best) : f16_value(best);
}

/* Writes a random element at any address and returns its value. */
static double put_random(uint8_t* to, int32_t dtype, uint64_t* seed) {
    if (dtype == LM_DTYPE_F32) {
        float x = random_float(seed);
        memcpy(to, &x, sizeof x);
        return x;
    }
    uint16_t h = (uint16_t)random_bits(seed);
    if (dtype == LM_DTYPE_F16) {
        h = (h & 0x83ff) | (uint16_t)(random_int(seed, 0, 15) << 10); /* subnormals too, all below 2 */
    } else {
        h = (h & 0x807f) | (uint16_t)(random_int(seed, 118, 127) << 7);
    }
    memcpy(to, &h, sizeof h);
    return dtype == LM_DTYPE_F16 ? f16_value(h) : bf16_value(h);
}

/* -- running a problem --------------------------------------------------------------------------------------------- */

/* Ops over a step; activations are an image that is copied to the device before each run. */
typedef struct problem {
    const char* name;
    lm_op ops[MAX_OPS];
    int32_t count;
    lm_step step;
    float* image; // (floats)
    int64_t floats;
} problem;

/* Runs on one machine and gives all of the activation memory afterwards. */
static void run(const machine* m, const problem* p, float* result) {
    void* memory;
    MUST(lm_device_alloc(m->device, p->floats * 4, &memory));
    MUST(lm_copy_to_device(m->queue, memory, p->image, p->floats * 4, NULL));
    lm_step step = p->step;
    step.activations = memory;
    step.activations_bytes = p->floats * 4;
    int64_t ticket;
    MUST(lm_submit(m->queue, p->ops, p->count, &step, &ticket));
    MUST(lm_copy_to_host(m->queue, result, memory, p->floats * 4, &ticket));
    MUST(lm_wait(m->queue, ticket));
    MUST(lm_device_free(m->device, memory, p->floats * 4));
}

/*
 * Runs on every machine: the first one's out is compared with expected (rows, width) within tolerance * (1 +
 * |expected|), the others bit for bit with the first; nothing outside out may change. result gets the first one's
 * memory.
 */
static void check_problem(const problem* p, const double* expected, double tolerance, float* result) {
    const lm_op* op = &p->ops[p->count - 1];
    int32_t rows = op->row_set == LM_ROWS_ALL || op->code == LM_OP_SCATTER_ADD ? p->step.rows
                   : op->row_set == LM_ROWS_OUTPUT                             ? p->step.output_rows
                                                                               : p->step.list_rows;
    run(&machines[0], p, result);
    for (int32_t r = 0; r < rows; r++) {
        const float* out = result + op->out.offset + (int64_t)r * op->out.stride;
        for (int32_t i = 0; i < op->out.width; i++) {
            double want = expected[(int64_t)r * op->out.width + i];
            CHECK(fabs(out[i] - want) <= tolerance * (1 + fabs(want)), "%s: row %d, element %d is %.9g, not %.9g",
                  p->name, r, i, out[i], want);
        }
        digest_floats(out, op->out.width);
    }
    for (int64_t i = 0; i < p->floats; i++) {
        CHECK(in_view(&op->out, rows, i) || memcmp(&result[i], &p->image[i], 4) == 0, "%s: float %lld is overwritten",
              p->name, (long long)i);
    }
    float* other = malloc((size_t)p->floats * 4);
    for (int i = 1; i < machine_count; i++) {
        run(&machines[i], p, other);
        for (int64_t f = 0; f < p->floats; f++) {
            CHECK(memcmp(&other[f], &result[f], 4) == 0,
                  "%s: simd %d, %d threads: float %lld is %.9g, plain gives %.9g", p->name, machines[i].simd,
                  machines[i].threads, (long long)f, other[f], result[f]);
        }
    }
    free(other);
}

/* Activation memory with room for `floats`, filled at random. */
static void make_image(problem* p, int64_t floats, uint64_t* seed) {
    p->floats = floats;
    p->image = malloc((size_t)floats * 4);
    for (int64_t i = 0; i < floats; i++) {
        p->image[i] = random_float(seed);
    }
}

/* Views of rows x width one after the other, with gaps: *end is where the next one may begin. */
static lm_view place(int64_t* end, int32_t rows, int32_t width, uint64_t* seed) {
    lm_view view = {*end, width, width};
    view.offset += random_int(seed, 0, 9);
    view.stride += random_int(seed, 0, 9);
    *end = view.offset + (int64_t)rows * view.stride;
    return view;
}

static float at(const problem* p, const lm_view* view, int64_t r, int64_t i) {
    return p->image[view->offset + r * view->stride + i];
}

/* -- linear -------------------------------------------------------------------------------------------------------- */

/* The rows of the out view must equal those of another run's. */
static void check_same_rows(const problem* p, const float* x, const lm_view* x_view, int32_t x_row, const float* y,
                            const lm_view* y_view, int32_t y_row, const char* what) {
    const float* a = x + x_view->offset + (int64_t)x_row * x_view->stride;
    const float* b = y + y_view->offset + (int64_t)y_row * y_view->stride;
    int32_t width = x_view->width < y_view->width ? x_view->width : y_view->width;
    CHECK(memcmp(a, b, (size_t)width * 4) == 0, "%s: row %d has other bits %s", p->name, x_row, what);
}

static void test_linear(uint64_t seed, int32_t rows, int32_t k, int32_t n, int32_t dtype, int bias) {
    int64_t element = element_bytes(dtype);
    int64_t stride = k * element + (random_int(&seed, 0, 2) == 0 ? random_int(&seed, 1, 40) : 0);
    int64_t panel_bytes = (n - 1) * stride + k * element;
    guarded panel = guarded_alloc((size_t)panel_bytes, random_int(&seed, 0, 1));
    double* weight = malloc((size_t)n * k * sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < k; j++) {
            weight[i * k + j] = put_random(panel.data + i * stride + j * element, dtype, &seed);
        }
    }
    float* vector = malloc((size_t)n * 4);
    for (int32_t i = 0; i < n; i++) {
        vector[i] = random_float(&seed);
    }
    problem p = {.name = "linear", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, rows, k, &seed);
    lm_view out = place(&end, rows, n, &seed);
    make_image(&p, end, &seed);
    p.step = (lm_step){.rows = rows, .panel = panel.data, .panel_bytes = panel_bytes};
    p.ops[0] =
        (lm_op){.code = LM_OP_LINEAR, .out = out, .a = a, .weight_stride = stride, .weight_rows = n, .dtype = dtype};
    if (bias) {
        p.ops[0].vector = vector;
        p.ops[0].vector_length = n;
    }
    double* expected = malloc((size_t)rows * n * sizeof(double));
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < n; i++) {
            double sum = bias ? vector[i] : 0;
            for (int32_t j = 0; j < k; j++) {
                sum += (double)at(&p, &a, r, j) * weight[(int64_t)i * k + j];
            }
            expected[(int64_t)r * n + i] = sum;
        }
    }
    float* whole = malloc((size_t)p.floats * 4);
    float* part = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, 1e-6 * sqrt(k), whole);

    const machine* last = &machines[machine_count - 1];
    for (int32_t r = 0; r < rows; r += random_int(&seed, 1, 4)) { /* some rows: alone and by two, three ... */
        int32_t some = random_int(&seed, 1, rows - r < 9 ? rows - r : 9);
        problem q = p;
        q.step.rows = some;
        q.ops[0].a.offset += (int64_t)r * a.stride;
        q.ops[0].out.offset += (int64_t)r * out.stride;
        run(last, &q, part);
        for (int32_t i = 0; i < some; i++) {
            check_same_rows(&p, part, &q.ops[0].out, i, whole, &out, r + i, "beside other rows");
        }
    }
    for (int32_t first = 0; first < n;) { /* cut into panels, each at an address of its own */
        int32_t some = random_int(&seed, 1, n - first);
        int64_t bytes = (some - 1) * stride + k * element;
        guarded cut = guarded_alloc((size_t)bytes, random_int(&seed, 0, 1));
        memcpy(cut.data, panel.data + first * stride, (size_t)bytes);
        problem q = p;
        q.step.panel = cut.data;
        q.step.panel_bytes = bytes;
        q.ops[0].weight_rows = some;
        q.ops[0].out.offset += first;
        q.ops[0].out.width = some;
        if (bias) {
            q.ops[0].vector += first;
            q.ops[0].vector_length = some;
        }
        run(last, &q, part);
        for (int32_t r = 0; r < rows; r++) {
            lm_view same = out;
            same.offset += first;
            check_same_rows(&p, part, &q.ops[0].out, r, whole, &same, r, "in another panel");
        }
        guarded_free(cut);
        first += some;
    }
    free(part);
    free(whole);
    free(expected);
    free(p.image);
    free(vector);
    free(weight);
    guarded_free(panel);
}

static void test_linears(void) {
    uint64_t seed = 1;
    uint64_t shapes = 2; /* drawn one a statement: the order of a call's arguments is the compiler's choice */
    for (int32_t dtype = LM_DTYPE_F32; dtype <= LM_DTYPE_BF16; dtype++) {
        for (int32_t rows = 1; rows <= 12; rows++) {
            int32_t k = random_int(&shapes, 1, 70);
            int32_t n = random_int(&shapes, 1, 90);
            test_linear(seed += 10, rows, k, n, dtype, rows & 1);
        }
        test_linear(seed += 10, 1, 1, 1, dtype, 0);
        test_linear(seed += 10, 1, 2048, 301, dtype, 1);
        test_linear(seed += 10, 4, 512, 300, dtype, 0);
        test_linear(seed += 10, 129, 96, 83, dtype, 1);
        test_linear(seed += 10, 67, 1024, 41, dtype, 0);
        test_linear(seed += 10, 17, 2100, 47, dtype, 1); /* k in several blocks with a tail */
    }
}

/* Shapes that the digest leaves out: more rows than any instruction set takes without blocks, each number of rows that
 * a tile can have left, and k of several blocks with a tail. */
static void test_linear_blocks(void) {
    uint64_t seed = 5000000;
    for (int32_t rows = 33; rows <= 37; rows++) {
        test_linear(seed += 10, rows, 1024 + rows, 49, rows % 3, rows & 1);
    }
    test_linear(seed += 10, 61, 700, 37, LM_DTYPE_BF16, 0); /* rows and weight rows of more than one block */
}

/*
 * Runs a product of f32 whose k ends within a vector after one of bf16 whose weights are all NaN: nothing of what that
 * one left in the scratch memory of the device may count.
 */
static void test_linear_after_nans(const machine* m) {
    enum { ROWS = 40, NAN_K = 512, NAN_N = 400, K = 20, N = 45 };
    uint64_t seed = 7000000;
    uint16_t* nans = malloc((size_t)NAN_N * NAN_K * 2);
    for (int32_t i = 0; i < NAN_N * NAN_K; i++) {
        nans[i] = 0x7fc0;
    }
    float* weight = malloc((size_t)N * K * 4);
    for (int32_t i = 0; i < N * K; i++) {
        weight[i] = random_float(&seed);
    }
    problem p = {.name = "linear after NaNs", .count = 1};
    make_image(&p, (int64_t)ROWS * (NAN_K + NAN_N), &seed);
    p.step = (lm_step){.rows = ROWS, .panel = nans, .panel_bytes = (int64_t)NAN_N * NAN_K * 2};
    p.ops[0] = (lm_op){.code = LM_OP_LINEAR,
                       .out = {(int64_t)ROWS * NAN_K, NAN_N, NAN_N},
                       .a = {0, NAN_K, NAN_K},
                       .weight_stride = NAN_K * 2,
                       .weight_rows = NAN_N,
                       .dtype = LM_DTYPE_BF16};
    float* result = malloc((size_t)p.floats * 4);
    run(m, &p, result);
    CHECK(isnan(result[p.ops[0].out.offset]), "NaNs are lost");
    p.step.panel = weight;
    p.step.panel_bytes = (int64_t)N * K * 4;
    p.ops[0] = (lm_op){.code = LM_OP_LINEAR,
                       .out = {(int64_t)ROWS * NAN_K, N, N},
                       .a = {0, NAN_K, K},
                       .weight_stride = K * 4,
                       .weight_rows = N,
                       .dtype = LM_DTYPE_F32};
    run(m, &p, result);
    for (int32_t r = 0; r < ROWS; r++) {
        for (int32_t n = 0; n < N; n++) {
            double want = 0;
            for (int32_t k = 0; k < K; k++) {
                want += (double)at(&p, &p.ops[0].a, r, k) * weight[n * K + k];
            }
            float got = result[p.ops[0].out.offset + r * N + n];
            CHECK(fabs(got - want) <= 1e-5, "simd %d, %d threads: row %d, element %d is %.9g, not %.9g", m->simd,
                  m->threads, r, n, got, want);
        }
    }
    free(result);
    free(p.image);
    free(weight);
    free(nans);
}

/* -- transposed and normalised weights ----------------------------------------------------------------------------- */

/* A weight as a panel has it, apart from its scales. */
typedef struct weights {
    int32_t rows;
    int32_t columns;
    int32_t dtype;
    int64_t row_bytes;
    int64_t stride;
    uint8_t* data;       // (rows, stride)
    float* values;       // (rows, columns): elements times their scales
    float* scales;       // LM_DTYPE_F8_E4M3: (blocks of rows, scale_stride)
    int64_t scales_length;
    uint8_t* codes;      // LM_DTYPE_MXFP4: (rows, scale_stride)
    int64_t scale_stride;
    int32_t scale_row;
} weights;

static const float e2m1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

static float e4m3_value(uint8_t code) {
    int exponent = code >> 3 & 15;
    float magnitude = exponent == 0 ? ldexpf((float)(code & 7), -9) : ldexpf((float)(8 + (code & 7)), exponent - 10);
    return code & 0x80 ? -magnitude : magnitude;
}

static void put_scales(weights* w, uint64_t* seed) {
    if (w->dtype == LM_DTYPE_F8_E4M3) {
        w->scale_row = random_int(seed, 0, 127);
        w->scale_stride = (w->columns + 127) / 128 + random_int(seed, 0, 2);
        w->scales_length = (w->scale_row + w->rows + 127) / 128 * w->scale_stride;
        w->scales = random_floats(w->scales_length, 1.0f / 128, seed);
    } else if (w->dtype == LM_DTYPE_MXFP4) {
        w->scale_stride = w->columns / 32 + random_int(seed, 0, 5);
        w->codes = malloc((size_t)(w->rows * w->scale_stride));
        for (int64_t i = 0; i < w->rows * w->scale_stride; i++) {
            w->codes[i] = (uint8_t)random_int(seed, 115, 127);
        }
    }
}

static weights make_weights(int32_t rows, int32_t columns, int32_t dtype, uint64_t* seed) {
    weights w = {.rows = rows, .columns = columns, .dtype = dtype};
    w.row_bytes = dtype == LM_DTYPE_F8_E4M3 ? columns
                  : dtype == LM_DTYPE_MXFP4 ? columns / 2
                                            : columns * element_bytes(dtype);
    w.stride = w.row_bytes + (random_int(seed, 0, 2) == 0 ? random_int(seed, 1, 40) : 0);
    w.data = calloc((size_t)rows, (size_t)w.stride);
    w.values = malloc((size_t)rows * (size_t)columns * 4);
    put_scales(&w, seed);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            uint8_t* row = w.data + i * w.stride;
            float* value = &w.values[i * columns + j];
            if (dtype == LM_DTYPE_F8_E4M3) {
                row[j] = (uint8_t)random_bits(seed);
                row[j] ^= (row[j] & 0x7f) == 0x7f; /* not NaN */
                *value = e4m3_value(row[j]) * w.scales[(w.scale_row + i) / 128 * w.scale_stride + j / 128];
            } else if (dtype == LM_DTYPE_MXFP4) {
                int32_t code = random_int(seed, 0, 15);
                row[j / 2] |= (uint8_t)(code << j % 2 * 4);
                *value = ldexpf(code & 8 ? -e2m1[code & 7] : e2m1[code],
                                w.codes[i * w.scale_stride + j / 32] - 127);
            } else {
                *value = (float)put_random(row + j * element_bytes(dtype), dtype, seed);
            }
        }
    }
    return w;
}

static void free_weights(weights w) {
    free(w.data);
    free(w.values);
    free(w.scales);
    free(w.codes);
}

/* Makes `some` weight rows from `first` on, at the end or start of memory of their own, the panel of p. */
static guarded put_weights(problem* p, const weights* w, int32_t first, int32_t some, uint64_t* seed) {
    lm_op* op = &p->ops[0];
    int64_t span = (some - 1) * w->stride + w->row_bytes;
    int64_t scale_span = w->codes == NULL ? 0 : (some - 1) * w->scale_stride + w->columns / 32;
    int scales_first = random_int(seed, 0, 1);
    guarded panel = guarded_alloc((size_t)(span + scale_span), random_int(seed, 0, 1));
    op->weight_offset = scales_first ? scale_span : 0;
    op->weight_stride = w->stride;
    op->weight_rows = some;
    op->dtype = w->dtype;
    op->scale_stride = w->scale_stride;
    memcpy(panel.data + op->weight_offset, w->data + first * w->stride, (size_t)span);
    if (w->codes != NULL) {
        op->scale_offset = scales_first ? 0 : span;
        memcpy(panel.data + op->scale_offset, w->codes + first * w->scale_stride, (size_t)scale_span);
    }
    if (w->scales != NULL) {
        int64_t skipped = (w->scale_row + first) / 128 * w->scale_stride;
        op->scales = w->scales + skipped;
        op->scales_length = w->scales_length - skipped;
        op->scale_row = (w->scale_row + first) % 128;
    }
    p->step.panel = panel.data;
    p->step.panel_bytes = span + scale_span;
    return panel;
}

/* The canonical sum of products, written down naively. */
static float canonical_sum(const float* x, const float* y, int32_t k) {
    float lanes[16] = {0};
    for (int32_t i = 0; i < k; i++) {
        lanes[i % 16] = fmaf(x[i], y[i], lanes[i % 16]);
    }
    for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            lanes[i] += lanes[i + half];
        }
    }
    return lanes[0];
}

/* Products with weights of every kind are known to the last bit; so is what cuts of the weight give. */
static void test_linear_exactly(uint64_t seed, int32_t rows, int32_t k, int32_t n, int32_t dtype, int bias) {
    weights w = make_weights(n, k, dtype, &seed);
    float* vector = random_floats(n, 1, &seed);
    problem p = {.name = "linear with scales", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, rows, k, &seed);
    lm_view out = place(&end, rows, n, &seed);
    make_image(&p, end, &seed);
    p.step.rows = rows;
    p.ops[0] = (lm_op){.code = LM_OP_LINEAR, .out = out, .a = a};
    double* expected = malloc((size_t)rows * n * sizeof(double));
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < n; i++) {
            float sum = canonical_sum(p.image + a.offset + (int64_t)r * a.stride, w.values + (int64_t)i * k, k);
            expected[(int64_t)r * n + i] = bias ? sum + vector[i] : sum;
        }
    }
    float* whole = malloc((size_t)p.floats * 4);
    for (int32_t first = 0; first < n;) {
        int32_t some = first == 0 ? n : random_int(&seed, 1, n - first); /* first of all, all of them */
        guarded panel = put_weights(&p, &w, first, some, &seed);
        double* part = malloc((size_t)rows * some * sizeof(double));
        for (int32_t r = 0; r < rows; r++) {
            memcpy(part + (int64_t)r * some, expected + (int64_t)r * n + first, (size_t)some * sizeof(double));
        }
        p.ops[0].out.offset = out.offset + first;
        p.ops[0].out.width = some;
        if (bias) {
            p.ops[0].vector = vector + first;
            p.ops[0].vector_length = some;
        }
        check_problem(&p, part, 0, whole);
        free(part);
        guarded_free(panel);
        first = some < n ? first + some : random_int(&seed, 1, n);
    }
    free(whole);
    free(expected);
    free(p.image);
    free(vector);
    free_weights(w);
}

/* The sums are chains in order of k: they are known to the last bit. */
static void test_linear_transposed(uint64_t seed, int32_t rows, int32_t k, int32_t n, int32_t dtype, int start) {
    weights w = make_weights(k, n, dtype, &seed);
    float* vector = random_floats(n, 1, &seed);
    problem p = {.name = "linear_transposed", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, rows, k, &seed);
    lm_view out = place(&end, rows, n, &seed);
    make_image(&p, end, &seed);
    p.step.rows = rows;
    p.ops[0] = (lm_op){.code = LM_OP_LINEAR_TRANSPOSED,
                       .out = out,
                       .a = a,
                       .vector = start == 1 ? vector : NULL,
                       .vector_length = start == 1 ? n : 0,
                       .accumulate = start == 2};
    guarded panel = put_weights(&p, &w, 0, k, &seed);
    double* expected = malloc((size_t)rows * n * sizeof(double));
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < n; i++) {
            float sum = start == 2 ? at(&p, &out, r, i) : start == 1 ? vector[i] : 0;
            for (int32_t j = 0; j < k; j++) {
                sum = fmaf(at(&p, &a, r, j), w.values[(int64_t)j * n + i], sum);
            }
            expected[(int64_t)r * n + i] = sum;
        }
    }
    float* whole = malloc((size_t)p.floats * 4);
    float* part = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, 0, whole);

    const machine* last = &machines[machine_count - 1];
    for (int32_t r = 0; r < rows; r += random_int(&seed, 1, 4)) { /* some rows: alone and by two, three ... */
        int32_t some = random_int(&seed, 1, rows - r < 9 ? rows - r : 9);
        problem q = p;
        q.step.rows = some;
        q.ops[0].a.offset += (int64_t)r * a.stride;
        q.ops[0].out.offset += (int64_t)r * out.stride;
        run(last, &q, part);
        for (int32_t i = 0; i < some; i++) {
            check_same_rows(&p, part, &q.ops[0].out, i, whole, &out, r + i, "beside other rows");
        }
    }
    problem q = p;
    q.image = malloc((size_t)p.floats * 4);
    memcpy(q.image, p.image, (size_t)p.floats * 4);
    for (int32_t first = 0; first < k;) { /* cut into panels along k, each at an address of its own */
        int32_t some = random_int(&seed, 1, k - first < 100 ? k - first : 100);
        guarded cut = put_weights(&q, &w, first, some, &seed);
        q.ops[0].a.offset = a.offset + first;
        q.ops[0].a.width = some;
        q.ops[0].accumulate = first > 0 || start == 2;
        run(last, &q, part);
        memcpy(q.image, part, (size_t)p.floats * 4);
        guarded_free(cut);
        first += some;
    }
    for (int32_t r = 0; r < rows; r++) {
        check_same_rows(&p, part, &out, r, whole, &out, r, "in several panels");
    }
    free(q.image);
    free(part);
    free(whole);
    free(expected);
    free(p.image);
    free(vector);
    free_weights(w);
    guarded_free(panel);
}

static void test_weight_norm(uint64_t seed, int32_t rows, int32_t columns, int32_t n, int32_t dtype, int in_place) {
    weights w = make_weights(n, columns, dtype, &seed);
    problem p = {.name = "weight_norm", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, rows, n, &seed);
    lm_view out = in_place ? a : place(&end, rows, n, &seed);
    make_image(&p, end, &seed);
    p.step.rows = rows;
    p.ops[0] = (lm_op){.code = LM_OP_WEIGHT_NORM,
                       .out = out,
                       .a = a,
                       .columns = columns};
    guarded panel = put_weights(&p, &w, 0, n, &seed);
    float* norms = malloc((size_t)n * 4);
    for (int32_t i = 0; i < n; i++) {
        const float* row = w.values + (int64_t)i * columns;
        norms[i] = sqrtf(canonical_sum(row, row, columns));
    }
    p.ops[0].epsilon = norms[n / 2]; /* some are below it */
    double* expected = malloc((size_t)rows * n * sizeof(double));
    for (int64_t i = 0; i < (int64_t)rows * n; i++) {
        expected[i] = at(&p, &a, i / n, i % n) / fmaxf(norms[i % n], p.ops[0].epsilon);
    }
    free(norms);
    float* whole = malloc((size_t)p.floats * 4);
    float* part = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, 0, whole);
    for (int32_t first = 0; first < n;) { /* cut into panels, for the first rows alone */
        int32_t some = random_int(&seed, 1, n - first);
        problem q = p;
        guarded cut = put_weights(&q, &w, first, some, &seed);
        q.step.rows = random_int(&seed, 1, rows);
        q.ops[0].a.offset += first;
        q.ops[0].out.offset += first;
        q.ops[0].a.width = q.ops[0].out.width = some;
        run(&machines[machine_count - 1], &q, part);
        for (int32_t r = 0; r < q.step.rows; r++) {
            lm_view same = out;
            same.offset += first;
            check_same_rows(&p, part, &q.ops[0].out, r, whole, &same, r, "in another panel");
        }
        guarded_free(cut);
        first += some;
    }
    free(part);
    free(whole);
    free(expected);
    free(p.image);
    free_weights(w);
    guarded_free(panel);
}

/* Makes NaN of some elements, of all that share a scale with one of them, and of what lies behind the rows. */
static void put_nans(weights* w, uint64_t* seed) {
    int64_t scales = w->dtype == LM_DTYPE_MXFP4 ? w->columns / 32 : 0; /* of a row */
    for (int64_t i = 0; i < w->rows; i++) {
        memset(w->data + i * w->stride + w->row_bytes, 0xff, (size_t)(w->stride - w->row_bytes));
        if (scales > 0) {
            memset(w->codes + i * w->scale_stride + scales, 0xff, (size_t)(w->scale_stride - scales));
        }
    }
    for (int32_t n = 0; n <= (w->rows < w->columns ? w->rows : w->columns) / 4; n++) {
        int64_t i = random_int(seed, 0, w->rows - 1);
        int64_t j = random_int(seed, 0, w->columns - 1);
        float* row = w->values + i * w->columns; // (columns)
        if (w->dtype == LM_DTYPE_F8_E4M3) {
            w->data[i * w->stride + j] = n % 2 == 0 ? 0x7f : 0xff;
            row[j] = NAN;
        } else {
            w->codes[i * w->scale_stride + j / 32] = 0xff;
            memset(w->data + i * w->stride + j / 32 * 16, 0x22, 16); /* ones: infinity would make NaN of zeros too */
            for (int64_t of_scale = j / 32 * 32; of_scale < j / 32 * 32 + 32; of_scale++) {
                row[of_scale] = NAN;
            }
        }
    }
}

/* Whether element n of each row of a product meets a NaN of the weight. */
static int meets_nan(const weights* w, int transposed, int32_t n) {
    int32_t k = transposed ? w->rows : w->columns;
    for (int64_t i = 0; i < k; i++) {
        if (isnan(w->values[transposed ? i * w->columns + n : (int64_t)n * k + i])) {
            return 1;
        }
    }
    return 0;
}

/* Codes that are NaN make NaN of all that they have a part in, and leave the rest its bits; k, n: as in lamina.h. */
static void test_weight_nans(uint64_t seed, int32_t code, int32_t rows, int32_t k, int32_t n, int32_t dtype) {
    int transposed = code == LM_OP_LINEAR_TRANSPOSED;
    weights w = make_weights(transposed ? k : n, transposed ? n : k, dtype, &seed);
    problem p = {.name = "weights that are NaN", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, rows, code == LM_OP_WEIGHT_NORM ? n : k, &seed);
    lm_view out = place(&end, rows, n, &seed);
    make_image(&p, end, &seed);
    for (int64_t i = 0; i < p.floats; i++) { /* and of itself less itself */
        p.image[i] = 0.1f + fabsf(p.image[i]);
    }
    p.step.rows = rows;
    p.ops[0] = (lm_op){.code = code, .out = out, .a = a, .columns = k, .epsilon = 1e-12f};
    float* without = malloc((size_t)p.floats * 4);
    float* result = malloc((size_t)p.floats * 4);
    guarded panel = put_weights(&p, &w, 0, w.rows, &seed);
    run(&machines[0], &p, without);
    guarded_free(panel);
    put_nans(&w, &seed);
    panel = put_weights(&p, &w, 0, w.rows, &seed);
    for (int m = 0; m < machine_count; m++) {
        run(&machines[m], &p, result);
        for (int32_t i = 0; i < n; i++) {
            int expected = meets_nan(&w, transposed, i);
            for (int32_t r = 0; r < rows; r++) {
                int64_t f = out.offset + (int64_t)r * out.stride + i;
                CHECK(expected ? isnan(result[f]) : memcmp(&result[f], &without[f], 4) == 0,
                      "op %d, dtype %d, simd %d, %d threads: row %d of %d, element %d is %g, without NaNs %g", code,
                      dtype, machines[m].simd, machines[m].threads, r, rows, i, result[f], without[f]);
            }
        }
    }
    guarded_free(panel);
    free(result);
    free(without);
    free(p.image);
    free_weights(w);
}

static void test_nans(void) {
    uint64_t seed = 13000000;
    static const int32_t rows[] = {1, 3, 10, 41}; /* few and many, for each op */
    for (int i = 0; i < 4; i++) {
        for (int32_t dtype = LM_DTYPE_F8_E4M3; dtype <= LM_DTYPE_MXFP4; dtype++) {
            int32_t k = dtype == LM_DTYPE_MXFP4 ? 608 : 600; /* with tails of all that is taken at once */
            test_weight_nans(seed += 10, LM_OP_LINEAR, rows[i], k, 75, dtype);
            test_weight_nans(seed += 10, LM_OP_WEIGHT_NORM, rows[i], k, 75, dtype);
        }
        test_weight_nans(seed += 10, LM_OP_LINEAR_TRANSPOSED, rows[i], 150, 330, LM_DTYPE_F8_E4M3);
    }
}

static void test_weight_ops(void) {
    uint64_t seed = 9000000;
    uint64_t shapes = 4;
    for (int32_t dtype = LM_DTYPE_F32; dtype <= LM_DTYPE_MXFP4; dtype++) {
        int32_t whole = dtype == LM_DTYPE_MXFP4 ? 32 : 1; /* the columns are a multiple of it */
        for (int32_t rows = 1; rows <= 14; rows++) {
            int32_t k = random_int(&shapes, 1, 300);
            int32_t n = random_int(&shapes, 1, 330);
            test_linear_exactly(seed += 10, rows, k * whole, n, dtype, rows & 1);
            test_weight_norm(seed += 10, rows, k * whole, n, dtype, rows & 1);
            if (dtype != LM_DTYPE_MXFP4) {
                test_linear_transposed(seed += 10, rows, k, n, dtype, rows % 3);
            }
        }
        test_linear_exactly(seed += 10, 1, whole, 1, dtype, 0);
        test_linear_exactly(seed += 10, 41, 2100 / whole * whole, 70, dtype, 0); /* several blocks, with tails */
        test_weight_norm(seed += 10, 2, 2100 / whole * whole, 400, dtype, 0);
        if (dtype != LM_DTYPE_MXFP4) {
            test_linear_transposed(seed += 10, 1, 1, 1, dtype, 0);
            test_linear_transposed(seed += 10, 1, 300, 2050, dtype, 1);
            test_linear_transposed(seed += 10, 131, 70, 83, dtype, 2); /* rows of more than one block */
            test_linear_transposed(seed += 10, 17, 200, 600, dtype, 0);
        }
    }
}

/* -- ops over rows ----------------------------------------------------------------------------------------------- */

static void test_embed(uint64_t seed, int32_t rows, int32_t width, int32_t dtype) {
    int64_t offset = random_int(&seed, 0, 7);
    int64_t bytes = offset + (int64_t)rows * width * element_bytes(dtype);
    guarded inputs = guarded_alloc((size_t)bytes, 1);
    problem p = {.name = "embed", .count = 1};
    int64_t end = 0;
    lm_view out = place(&end, rows, width, &seed);
    make_image(&p, end, &seed);
    double* expected = malloc((size_t)rows * width * sizeof(double));
    for (int64_t i = 0; i < (int64_t)rows * width; i++) {
        expected[i] = put_random(inputs.data + offset + i * element_bytes(dtype), dtype, &seed);
    }
    p.step = (lm_step){.rows = rows, .inputs = inputs.data, .inputs_bytes = bytes};
    p.ops[0] = (lm_op){.code = LM_OP_EMBED, .out = out, .input_offset = offset, .dtype = dtype};
    float* result = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, 0, result);
    free(result);
    free(expected);
    free(p.image);
    guarded_free(inputs);
}

/* What vector a norm has. */
enum { OF_GROUP, OF_ROW, ABSENT };

static void test_norm(uint64_t seed, int32_t code, int32_t rows, int32_t groups, int32_t width, int in_place,
                      int weight) {
    problem p = {.name = code == LM_OP_RMS_NORM ? "rms_norm" : "layer_norm", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, rows, groups * width, &seed);
    lm_view out = in_place ? a : place(&end, rows, groups * width, &seed);
    make_image(&p, end, &seed);
    int32_t length = weight == OF_GROUP ? width : groups * width;
    float* vector = random_floats(length, 1, &seed);
    p.step = (lm_step){.rows = rows};
    p.ops[0] = (lm_op){.code = code,
                       .out = out,
                       .a = a,
                       .vector = weight == ABSENT ? NULL : vector,
                       .vector_length = weight == ABSENT ? 0 : length,
                       .heads = groups,
                       .epsilon = 1e-5f};
    double* expected = malloc((size_t)rows * groups * width * sizeof(double));
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t g = 0; g < groups; g++) {
            double mean = 0;
            double squares = 0;
            for (int32_t i = 0; code == LM_OP_LAYER_NORM && i < width; i++) {
                mean += at(&p, &a, r, (int64_t)g * width + i) / (double)width;
            }
            for (int32_t i = 0; i < width; i++) {
                squares += pow(at(&p, &a, r, (int64_t)g * width + i) - mean, 2);
            }
            for (int32_t i = 0; i < width; i++) {
                double factor = weight == ABSENT ? 1 : vector[weight == OF_ROW ? g * width + i : i];
                expected[((int64_t)r * groups + g) * width + i] =
                    (at(&p, &a, r, (int64_t)g * width + i) - mean) / sqrt(squares / width + 1e-5) * factor;
            }
        }
    }
    float* result = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, code == LM_OP_RMS_NORM ? 2e-6 : 4e-6, result);
    free(result);
    free(expected);
    free(vector);
    free(p.image);
}

/* ends: the last dims of each head are rotated, by a view that begins with those of the first. */
static void test_rope(uint64_t seed, int32_t rows, int32_t heads, int32_t head_dim, int32_t rotary_dim, int32_t kind,
                      int ends) {
    problem p = {.name = "rope", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, rows, heads * head_dim, &seed);
    if (ends) {
        a.offset += head_dim - rotary_dim;
        a.width -= head_dim - rotary_dim;
    }
    make_image(&p, end, &seed);
    int64_t offset = random_int(&seed, 0, 3) * 4;
    int64_t bytes = offset + (int64_t)rows * rotary_dim * 4;
    guarded inputs = guarded_alloc((size_t)bytes, 1);
    for (int64_t i = 0; i < (int64_t)rows * rotary_dim; i++) {
        float x = random_float(&seed);
        memcpy(inputs.data + offset + i * 4, &x, 4);
    }
    p.step = (lm_step){.rows = rows, .inputs = inputs.data, .inputs_bytes = bytes};
    p.ops[0] = (lm_op){.code = LM_OP_ROPE,
                       .out = a,
                       .a = a,
                       .input_offset = offset,
                       .kind = kind,
                       .heads = heads,
                       .head_dim = head_dim,
                       .rotary_dim = rotary_dim};
    double* expected = malloc((size_t)rows * a.width * sizeof(double));
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < a.width; i++) {
            expected[(int64_t)r * a.width + i] = at(&p, &a, r, i);
        }
        for (int32_t h = 0; h < heads; h++) {
            for (int32_t i = 0; i < rotary_dim / 2; i++) {
                float table[2];
                memcpy(&table[0], inputs.data + offset + ((int64_t)r * rotary_dim + i) * 4, 4);
                memcpy(&table[1], inputs.data + offset + ((int64_t)r * rotary_dim + rotary_dim / 2 + i) * 4, 4);
                int32_t x = h * head_dim + (kind == LM_ROPE_HALF ? i : 2 * i);
                int32_t y = h * head_dim + (kind == LM_ROPE_HALF ? i + rotary_dim / 2 : 2 * i + 1);
                double x0 = at(&p, &a, r, x);
                double y0 = at(&p, &a, r, y);
                expected[(int64_t)r * a.width + x] = x0 * table[0] - y0 * table[1];
                expected[(int64_t)r * a.width + y] = y0 * table[0] + x0 * table[1];
            }
        }
    }
    float* result = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, 3e-7, result);
    free(result);
    free(expected);
    guarded_free(inputs);
    free(p.image);
}

#define KIND_SCALE 7.25f /* of the kinds that have one */

static double activation(double x, int32_t kind) {
    switch (kind) {
    case LM_ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case LM_ACTIVATION_GELU:
        return x * (1 + erf(x / sqrt(2))) / 2;
    case LM_ACTIVATION_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case LM_ACTIVATION_RELU:
        return x > 0 ? x : 0;
    case LM_ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-x));
    case LM_ACTIVATION_IDENTITY:
        return x;
    case LM_ACTIVATION_RELU_SQUARED:
        return x > 0 ? x * x : 0;
    case LM_ACTIVATION_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    default: /* LM_ACTIVATION_SOFT_CAP */
        return KIND_SCALE * tanh(x / KIND_SCALE);
    }
}

static double clamped_swiglu(double x, double y) {
    return activation(fmin(x, KIND_SCALE), LM_ACTIVATION_QUICK_GELU) * (fmax(fmin(y, KIND_SCALE), -KIND_SCALE) + 1);
}

/* where: 0 out is a view of its own, 1 it is a, 2 it is b. Each element of a serves so many neighbours of b. */
static void test_activation(uint64_t seed, int32_t rows, int32_t width, int32_t neighbours, int32_t kind, int gated,
                            int where) {
    int pairs = kind == LM_ACTIVATION_CLAMPED_SWIGLU;
    problem p = {.name = "activation", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, rows, pairs ? 2 * width : width / neighbours, &seed);
    lm_view b = gated ? place(&end, rows, width, &seed) : (lm_view){0};
    lm_view out = where == 0 ? place(&end, rows, width, &seed) : where == 1 ? a : b;
    make_image(&p, end, &seed);
    for (int64_t i = 0; i < p.floats; i++) {
        p.image[i] *= (float)random_int(&seed, 1, 30);
    }
    p.step = (lm_step){.rows = rows};
    p.ops[0] = (lm_op){.code = LM_OP_ACTIVATION, .out = out, .a = a, .b = b, .kind = kind, .scale = KIND_SCALE};
    double* expected = malloc((size_t)rows * width * sizeof(double));
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < width; i++) {
            expected[(int64_t)r * width + i] =
                pairs ? clamped_swiglu(at(&p, &a, r, 2 * i), at(&p, &a, r, 2 * i + 1))
                      : activation(at(&p, &a, r, i / neighbours), kind) * (gated ? at(&p, &b, r, i) : 1);
        }
    }
    float* result = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, 4e-6,
                  result); /* 1 + erf and 1 + tanh cancel for x < 0: an absolute error of x * 2^-24 */
    free(result);
    free(expected);
    free(p.image);
}

/* A NaN stays one, whatever is compared with it; nothing else does. */
static void test_activation_of_nans(const machine* m) {
    for (int32_t kind = LM_ACTIVATION_SILU; kind <= LM_ACTIVATION_CLAMPED_SWIGLU; kind++) {
        int pairs = kind == LM_ACTIVATION_CLAMPED_SWIGLU;
        float image[64];
        float result[64];
        for (int i = 0; i < 64; i++) {
            image[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -100.0f;
        }
        problem p = {.name = "activation of NaNs", .count = 1, .image = image, .floats = 64, .step = {.rows = 1}};
        p.ops[0] = (lm_op){.code = LM_OP_ACTIVATION,
                           .out = {40, 20, 20},
                           .a = {0, 40, pairs ? 40 : 20},
                           .kind = kind,
                           .scale = KIND_SCALE};
        run(m, &p, result);
        for (int i = 0; i < 20; i++) {
            int expected = pairs ? 2 * i % 3 == 0 || (2 * i + 1) % 3 == 0 : i % 3 == 0;
            CHECK((isnan(result[40 + i]) != 0) == expected, "kind %d, simd %d: element %d is %g", kind, m->simd, i,
                  result[40 + i]);
        }
    }
}

/* Without b a vector is added. */
static void test_add(uint64_t seed, int32_t rows, int32_t width, int where, float scale, int has_b) {
    problem p = {.name = "add", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, rows, width, &seed);
    lm_view b = has_b ? place(&end, rows, width, &seed) : (lm_view){0};
    lm_view out = where == 0 ? place(&end, rows, width, &seed) : where == 1 ? a : b;
    make_image(&p, end, &seed);
    float* vector = random_floats(width, 1, &seed);
    p.step = (lm_step){.rows = rows};
    p.ops[0] = (lm_op){.code = LM_OP_ADD, .out = out, .a = a, .b = b, .scale = scale};
    if (!has_b) {
        p.ops[0].vector = vector;
        p.ops[0].vector_length = width;
    }
    double* expected = malloc((size_t)rows * width * sizeof(double));
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < width; i++) {
            expected[(int64_t)r * width + i] =
                at(&p, &a, r, i) + (has_b ? (double)scale * at(&p, &b, r, i) : vector[i]);
        }
    }
    float* result = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, 6e-8, result);
    free(result);
    free(expected);
    free(vector);
    free(p.image);
}

static void test_scale(uint64_t seed, int32_t rows, int32_t width, int in_place, int has_vector) {
    problem p = {.name = "scale", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, rows, width, &seed);
    lm_view out = in_place ? a : place(&end, rows, width, &seed);
    make_image(&p, end, &seed);
    float* vector = random_floats(width, 1, &seed);
    float scale = 45.25f * random_float(&seed);
    p.step = (lm_step){.rows = rows};
    p.ops[0] = (lm_op){.code = LM_OP_SCALE, .out = out, .a = a, .scale = scale};
    if (has_vector) {
        p.ops[0].vector = vector;
        p.ops[0].vector_length = width;
    }
    double* expected = malloc((size_t)rows * width * sizeof(double));
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < width; i++) {
            expected[(int64_t)r * width + i] = (double)at(&p, &a, r, i) * scale * (has_vector ? vector[i] : 1);
        }
    }
    float* result = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, 1.3e-7, result);
    free(result);
    free(expected);
    free(vector);
    free(p.image);
}

static void test_gather_rows(uint64_t seed, int32_t rows, int32_t output_rows, int32_t width) {
    problem p = {.name = "gather_rows", .count = 1};
    int64_t end = 0;
    lm_view out = place(&end, output_rows, width, &seed); /* before a: their strides may be equal */
    lm_view a = place(&end, rows, width, &seed);
    make_image(&p, end, &seed);
    int32_t* index = malloc((size_t)(output_rows + 1) * 4);
    double* expected = malloc((size_t)(output_rows + 1) * width * sizeof(double));
    for (int32_t r = 0; r < output_rows; r++) {
        index[r] = random_int(&seed, 0, rows - 1);
        for (int32_t i = 0; i < width; i++) {
            expected[(int64_t)r * width + i] = at(&p, &a, index[r], i);
        }
    }
    p.step = (lm_step){.rows = rows, .output_rows = output_rows, .output_index = index};
    p.ops[0] = (lm_op){.code = LM_OP_GATHER_ROWS, .row_set = LM_ROWS_OUTPUT, .out = out, .a = a};
    float* result = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, 0, result);
    free(result);
    free(expected);
    free(index);
    free(p.image);
}

static void test_row_ops(void) {
    uint64_t seed = 1000000;
    uint64_t shapes = 3;
    for (int i = 0; i < 12; i++) {
        int32_t rows = i < 4 ? i + 1 : random_int(&shapes, 1, 150);
        int32_t width = random_int(&shapes, 1, 300);
        int32_t groups = random_int(&shapes, 1, 5);
        int32_t rotary_dim = 2 * random_int(&shapes, 1, 40);
        int32_t head_dim = rotary_dim + random_int(&shapes, 0, 20);
        int32_t output_rows = random_int(&shapes, 1, rows);
        test_embed(seed += 10, rows, width, i % 3);
        test_norm(seed += 10, LM_OP_RMS_NORM, rows, 1, width, i & 1, OF_GROUP);
        test_norm(seed += 10, LM_OP_RMS_NORM, rows, groups, head_dim, i & 1, OF_GROUP);
        test_rope(seed += 10, rows, groups, head_dim, rotary_dim, i & 1, 0);
        test_activation(seed += 10, rows, width, 1, i % 4, 0, i & 1);
        test_activation(seed += 10, rows, width, 1, i % 4, 1, i % 3);
        test_add(seed += 10, rows, width, i % 3, 1, 1);
        test_gather_rows(seed += 10, rows, output_rows, width);
    }
    test_gather_rows(seed += 10, 3, 0, 16);
    test_embed(seed += 10, 1, 16, LM_DTYPE_BF16);
}

/* The rows of a list of a step, `before` of it before those of the submission and as many behind them. */
static lm_step list_step(int32_t rows, int32_t before, int32_t list_rows, int32_t** list, float** weights,
                         uint64_t* seed) {
    int32_t length = list_rows + 2 * before;
    *list = malloc((size_t)(rows + length) * 4);
    *weights = random_floats(length + 1, 1, seed);
    for (int32_t i = 0; i < rows; i++) {
        (*list)[before + i] = i;
    }
    for (int32_t i = 0; i < list_rows; i++) { /* they differ */
        int32_t other = before + random_int(seed, i, rows - 1);
        int32_t row = (*list)[other];
        (*list)[other] = (*list)[before + i];
        (*list)[before + i] = row;
    }
    for (int32_t i = 0; i < before; i++) { /* of other submissions */
        (*list)[i] = (*list)[before + list_rows + i] = INT32_MAX;
    }
    return (lm_step){.rows = rows,
                     .list_length = length,
                     .list_first = before,
                     .list_rows = list_rows,
                     .list = *list,
                     .list_weights = *weights};
}

static void test_gather_list(uint64_t seed, int32_t rows, int32_t list_rows, int32_t width, int32_t kind) {
    problem p = {.name = "gather_rows of a list", .count = 1};
    int64_t end = 0;
    lm_view out = place(&end, list_rows, width, &seed);
    lm_view a = place(&end, rows, width, &seed);
    make_image(&p, end, &seed);
    int32_t* list;
    float* weights;
    int32_t before = random_int(&seed, 0, 5);
    p.step = list_step(rows, before, list_rows, &list, &weights, &seed);
    p.ops[0] = (lm_op){.code = LM_OP_GATHER_ROWS, .row_set = LM_ROWS_LIST, .kind = kind, .out = out, .a = a};
    double* expected = malloc((size_t)(list_rows + 1) * width * sizeof(double));
    for (int32_t r = 0; r < list_rows; r++) {
        for (int32_t i = 0; i < width; i++) {
            float x = at(&p, &a, list[before + r], i);
            expected[(int64_t)r * width + i] = kind == LM_ROWS_WEIGHTED ? x * weights[before + r] : x;
        }
    }
    float* result = malloc((size_t)p.floats * 4);
    check_problem(&p, expected, 0, result);
    free(result);
    free(expected);
    free(list);
    free(weights);
    free(p.image);
}

/* expected (rows, width): what rows of the list are added to, one fused multiply-add after the other. */
static void scatter(double* expected, const problem* p) {
    const lm_op* op = &p->ops[0];
    int32_t width = op->out.width;
    for (int64_t i = 0; i < (int64_t)p->step.rows * width; i++) {
        expected[i] = at(p, &op->out, i / width, i % width);
    }
    for (int32_t r = 0; r < p->step.list_rows; r++) {
        int32_t number = p->step.list_first + r;
        float weight = op->kind == LM_ROWS_WEIGHTED ? p->step.list_weights[number] : 1;
        for (int32_t i = 0; i < width; i++) {
            double* to = &expected[(int64_t)p->step.list[number] * width + i];
            *to = fmaf(at(p, &op->a, r, i), weight, (float)*to);
        }
    }
}

/*
 * What a row gets has the bits of one fused multiply-add, whatever rows are beside it. A row that the list has more
 * than once, against the rules of lamina.h, gets them in the order of the list: no thread disturbs another.
 */
static void test_scatter_add(uint64_t seed, int32_t rows, int32_t list_rows, int32_t width, int32_t kind) {
    problem p = {.name = "scatter_add", .count = 1};
    int64_t end = 0;
    lm_view a = place(&end, list_rows, width, &seed);
    lm_view out = place(&end, rows, width, &seed);
    make_image(&p, end, &seed);
    int32_t* list;
    float* weights;
    int32_t before = random_int(&seed, 0, 5);
    p.step = list_step(rows, before, list_rows, &list, &weights, &seed);
    p.ops[0] = (lm_op){.code = LM_OP_SCATTER_ADD, .row_set = LM_ROWS_LIST, .kind = kind, .out = out, .a = a};
    double* expected = malloc((size_t)rows * width * sizeof(double));
    float* result = malloc((size_t)p.floats * 4);
    scatter(expected, &p);
    check_problem(&p, expected, 0, result);
    for (int32_t i = 1; i < list_rows; i++) {
        list[before + i] = list[before];
    }
    scatter(expected, &p);
    for (int i = 0; i < machine_count; i++) {
        run(&machines[i], &p, result);
        for (int64_t f = 0; f < p.floats; f++) {
            int64_t from = f - out.offset;
            float want = in_view(&out, rows, f) ? (float)expected[from / out.stride * width + from % out.stride]
                                                : p.image[f];
            CHECK(result[f] == want, "scatter_add to one row: simd %d, %d threads: float %lld is %.9g, not %.9g",
                  machines[i].simd, machines[i].threads, (long long)f, result[f], want);
        }
    }
    free(result);
    free(expected);
    free(list);
    free(weights);
    free(p.image);
}

/* Rows of a list have the bits of as many rows of a step. */
static void test_list_rows(uint64_t seed, int32_t rows, int32_t width) {
    static const int32_t some[] = {LM_OP_LINEAR,   LM_OP_LINEAR_TRANSPOSED, LM_OP_WEIGHT_NORM, LM_OP_ACTIVATION,
                                   LM_OP_ADD,      LM_OP_SCALE,             LM_OP_RMS_NORM,    LM_OP_LAYER_NORM};
    float* weight = random_floats((int64_t)width * width, 1, &seed);
    for (size_t n = 0; n < sizeof some / sizeof some[0]; n++) {
        problem p = {.name = "rows of a list", .count = 1};
        int64_t end = 0;
        p.ops[0] = (lm_op){.code = some[n],
                           .weight_stride = width * INT64_C(4),
                           .weight_rows = width,
                           .columns = width,
                           .heads = 1,
                           .scale = 0.3f,
                           .epsilon = 1e-5f};
        p.ops[0].a = place(&end, rows, width, &seed);
        p.ops[0].b = place(&end, rows, width, &seed);
        p.ops[0].out = place(&end, rows, width, &seed);
        make_image(&p, end, &seed);
        p.step = (lm_step){.rows = rows, .panel = weight, .panel_bytes = width * INT64_C(4) * width};
        float* expected = malloc((size_t)p.floats * 4);
        float* result = malloc((size_t)p.floats * 4);
        run(&machines[0], &p, expected);
        int32_t* list;
        float* weights;
        p.ops[0].row_set = LM_ROWS_LIST;
        lm_step step = list_step(2 * rows, 3, rows, &list, &weights, &seed);
        step.panel = p.step.panel;
        step.panel_bytes = p.step.panel_bytes;
        step.list_weights = NULL;
        p.step = step;
        for (int i = 0; i < machine_count; i++) {
            run(&machines[i], &p, result);
            CHECK(memcmp(result, expected, (size_t)p.floats * 4) == 0,
                  "op %d, simd %d, %d threads: rows of a list have other bits", some[n], machines[i].simd,
                  machines[i].threads);
        }
        free(list);
        free(weights);
        free(expected);
        free(result);
        free(p.image);
    }
    free(weight);
}

static void test_lists(void) {
    uint64_t seed = 12000000;
    uint64_t shapes = 12;
    for (int i = 0; i < 12; i++) {
        int32_t rows = i < 4 ? i + 1 : random_int(&shapes, 1, 150);
        int32_t list_rows = random_int(&shapes, i == 3 ? 2 : 1, rows);
        int32_t width = i == 5 ? 2000 : random_int(&shapes, 1, 300);
        test_gather_list(seed += 10, rows, list_rows, width, i & 1);
        test_scatter_add(seed += 10, rows, list_rows, width, i & 1);
    }
    test_gather_list(seed += 10, 3, 0, 16, LM_ROWS_WEIGHTED);
    test_scatter_add(seed += 10, 3, 0, 16, LM_ROWS_WEIGHTED);
    test_list_rows(seed += 10, 1, 40);
    test_list_rows(seed += 10, 5, 33);
    test_list_rows(seed += 10, 70, 90);
}

/* Row ops of further families, with a digest of their own. */
static void test_further_row_ops(void) {
    uint64_t seed = 9000000;
    uint64_t shapes = 9;
    for (int i = 0; i < 12; i++) {
        int32_t rows = i < 4 ? i + 1 : random_int(&shapes, 1, 150);
        int32_t width = random_int(&shapes, 1, 300);
        int32_t groups = random_int(&shapes, 2, 5);
        int32_t neighbours = random_int(&shapes, 2, 70);
        int32_t rotary_dim = 2 * random_int(&shapes, 1, 40);
        int32_t head_dim = rotary_dim + random_int(&shapes, 1, 20);
        test_add(seed += 10, rows, width, i % 3, -0.3f, 1);
        test_add(seed += 10, rows, width, i % 2, 0, 0);
        test_scale(seed += 10, rows, width, i & 1, i % 3 > 0);
        test_norm(seed += 10, LM_OP_RMS_NORM, rows, groups, head_dim, i & 1, i & 1 ? OF_ROW : ABSENT);
        test_norm(seed += 10, LM_OP_LAYER_NORM, rows, 1, width + 1, i & 1, i % 3 ? OF_ROW : ABSENT);
        test_norm(seed += 10, LM_OP_LAYER_NORM, rows, groups, head_dim, i & 1, i % 3);
        test_rope(seed += 10, rows, groups, head_dim, rotary_dim, i & 1, 1);
        for (int32_t kind = LM_ACTIVATION_SIGMOID; kind <= LM_ACTIVATION_SOFT_CAP; kind++) {
            test_activation(seed += 10, rows, width, 1, kind, 0, i & 1);
            test_activation(seed += 10, rows, width, 1, kind, 1, i % 3);
        }
        test_activation(seed += 10, rows, width, 1, LM_ACTIVATION_CLAMPED_SWIGLU, 0, 0);
        test_activation(seed += 10, rows, groups * neighbours, neighbours, i % 9, 1, i & 1 ? 2 : 0);
        test_activation(seed += 10, rows, 20 * groups, groups, LM_ACTIVATION_SIGMOID, 1, i & 1 ? 2 : 0);
        test_activation(seed += 10, rows, width, width, LM_ACTIVATION_SIGMOID, 1, i & 1 ? 2 : 0);
    }
    for (int i = 0; i < machine_count; i++) {
        test_activation_of_nans(&machines[i]);
    }
}

/* -- KV cache and attention ---------------------------------------------------------------------------------------- */

/* Keys or values of all tokens as a cache of this dtype holds them. */
static double* cached(const float* x, int64_t floats, int32_t dtype) {
    double* all = malloc((size_t)floats * sizeof *all);
    for (int64_t i = 0; i < floats; i++) {
        all[i] = dtype == LM_DTYPE_F16 ? f16_nearest(x[i]) : x[i];
    }
    return all;
}

static void check_attention(const attention* t, const float* q, const float* k, const float* v, const float* out) {
    int32_t group = t->heads / t->kv_heads;
    int32_t base = 0;
    int64_t tokens = t->lengths[0] + t->lengths[1] + t->lengths[2];
    double* keys = cached(k, tokens * t->kv_heads * t->head_dim, t->dtype);
    double* all_values = cached(v, tokens * t->kv_heads * t->head_dim_v, t->dtype);
    for (int32_t s = 0; s < t->sequences; s++) {
        double* weights = malloc((size_t)t->lengths[s] * sizeof(double));
        double* values = malloc((size_t)t->head_dim_v * sizeof(double));
        int32_t every = t->lengths[s] < 300 ? 1 : 61; /* of a long sequence some rows are enough */
        for (int32_t i = 0; i < t->lengths[s];
             i += i + every < t->lengths[s] ? every : t->lengths[s] - i - 1 + (i + 1 == t->lengths[s])) {
            int32_t first = t->window > 0 && i + 1 > t->window ? i + 1 - t->window : 0;
            first = t->chunk > 0 && i / t->chunk * t->chunk > first ? i / t->chunk * t->chunk : first;
            for (int32_t h = 0; h < t->heads; h++) {
                double max = t->kind == LM_ATTENTION_SINKS ? t->vector[h] : -INFINITY;
                for (int32_t p = first; p <= i; p++) {
                    double score = 0;
                    for (int32_t d = 0; d < t->head_dim; d++) {
                        score += q[((int64_t)(base + i) * t->heads + h) * t->head_dim + d]
                                 * keys[((int64_t)(base + p) * t->kv_heads + h / group) * t->head_dim + d];
                    }
                    weights[p] = score * 0.25;
                    if (t->softcap > 0) {
                        weights[p] = t->softcap * tanh(weights[p] / t->softcap);
                    }
                    if (t->kind == LM_ATTENTION_ALIBI) {
                        weights[p] += (double)t->vector[h] * (p - i);
                    }
                    max = fmax(max, weights[p]);
                }
                double sum = t->kind == LM_ATTENTION_SINKS ? exp(t->vector[h] - max) : 0;
                memset(values, 0, (size_t)t->head_dim_v * sizeof(double));
                for (int32_t p = first; p <= i; p++) {
                    double weight = exp(weights[p] - max);
                    sum += weight;
                    for (int32_t d = 0; d < t->head_dim_v; d++) {
                        values[d] +=
                            weight * all_values[((int64_t)(base + p) * t->kv_heads + h / group) * t->head_dim_v + d];
                    }
                }
                for (int32_t d = 0; d < t->head_dim_v; d++) {
                    float got = out[((int64_t)(base + i) * t->heads + h) * t->head_dim_v + d];
                    CHECK(fabs(got - values[d] / sum) <= 3e-6,
                          "attention: position %d, head %d, element %d is %.9g, not %.9g", i, h, d, got,
                          values[d] / sum);
                }
            }
        }
        free(values);
        free(weights);
        base += t->lengths[s];
    }
    free(all_values);
    free(keys);
}

static void test_attention(uint64_t seed, attention t, int thorough) {
    attention limited = t;
    t.places = 0; /* till the end */
    int32_t total = 0;
    int32_t longest = 0;
    for (int32_t s = 0; s < t.sequences; s++) {
        total += t.lengths[s];
        longest = t.lengths[s] > longest ? t.lengths[s] : longest;
    }
    int64_t q_floats = (int64_t)total * t.heads * t.head_dim;
    int64_t k_floats = (int64_t)total * t.kv_heads * t.head_dim;
    int64_t v_floats = (int64_t)total * t.kv_heads * t.head_dim_v;
    int64_t out_floats = (int64_t)total * t.heads * t.head_dim_v;
    float* q = malloc((size_t)q_floats * 4);
    float* k = malloc((size_t)k_floats * 4);
    float* v = malloc((size_t)v_floats * 4);
    float* out = malloc((size_t)out_floats * 4);
    float* other = malloc((size_t)out_floats * 4);
    for (int64_t i = 0; i < q_floats; i++) {
        q[i] = 4 * random_float(&seed);
    }
    for (int64_t i = 0; i < k_floats; i++) {
        k[i] = random_float(&seed);
    }
    for (int64_t i = 0; i < v_floats; i++) {
        v[i] = t.latent ? k[i / t.head_dim_v * t.head_dim + i % t.head_dim_v] : random_float(&seed);
    }
    float* vector = t.kind == LM_ATTENTION_PLAIN ? NULL : make_vector(&t, &seed);
    t.vector = limited.vector = vector;
    attend(&machines[0], &t, longest, 0, q, k, v, out);
    check_attention(&t, q, k, v, out);
    digest_floats(out, out_floats);
    for (int i = 1; i < machine_count; i++) {
        if (!thorough && machines[i].simd == LM_SIMD_PLAIN) {
            continue;
        }
        attend(&machines[i], &t, longest, 0, q, k, v, other);
        CHECK(memcmp(out, other, (size_t)out_floats * 4) == 0, "attention: simd %d, %d threads differ from plain",
              machines[i].simd, machines[i].threads);
    }
    const machine* last = &machines[machine_count - 1];
    for (int32_t chunk = 1; chunk < longest; chunk = chunk * 3 + random_int(&seed, 0, 5)) {
        attend(last, &t, chunk, 0, q, k, v, other);
        CHECK(memcmp(out, other, (size_t)out_floats * 4) == 0, "attention: chunks of %d rows give other bits", chunk);
    }
    int32_t base = 0;
    for (int32_t s = 0; s < t.sequences; s++) { /* each sequence without the others */
        attention alone = t;
        alone.sequences = 1;
        alone.lengths[0] = t.lengths[s];
        attend(last, &alone, t.lengths[s], 0, q + (int64_t)base * t.heads * t.head_dim,
               k + (int64_t)base * t.kv_heads * t.head_dim, v + (int64_t)base * t.kv_heads * t.head_dim_v, other);
        CHECK(memcmp(out + (int64_t)base * t.heads * t.head_dim_v, other,
                     (size_t)t.lengths[s] * t.heads * t.head_dim_v * 4)
                  == 0,
              "attention: sequence %d alone gives other bits", s);
        base += t.lengths[s];
    }
    for (int i = 0; limited.places > 0 && i < machine_count; i++) {
        int32_t most = most_rows(&limited);
        for (int32_t chunk = most; chunk > 0; chunk = chunk == most ? most / 3 : 0) {
            memset(other, 0, (size_t)out_floats * 4);
            attend(&machines[i], &limited, chunk, 0, q, k, v, other);
            CHECK(memcmp(out, other, (size_t)out_floats * 4) == 0,
                  "attention: simd %d, %d threads: %d places give other bits to chunks of %d rows", machines[i].simd,
                  machines[i].threads, limited.places, chunk);
        }
    }
    free(q);
    free(k);
    free(v);
    free(vector);
    free(out);
    free(other);
}

/* Packed output rows keep the positions and sequences of the rows that they come from, when they are stored and
 * attended to. */
static void test_attention_of_output_rows(const machine* m) {
    enum { ROWS = 6, WIDTH = 32 };
    const int32_t positions[ROWS] = {0, 1, 2, 0, 1, 2};
    const int32_t sequence[ROWS] = {0, 0, 0, 1, 1, 1};
    const int32_t index[ROWS] = {4, 1, 5, 0, 3, 2};
    const lm_kv_layer layer = {.kv_heads = 2, .head_dim = 16, .head_dim_v = 16};
    lm_kv* kv[2];
    MUST(lm_kv_create(m->device, &layer, 1, 3, LM_DTYPE_F32, 0, &kv[0]));
    MUST(lm_kv_create(m->device, &layer, 1, 3, LM_DTYPE_F32, 0, &kv[1]));
    float* x; // 8 of (ROWS, WIDTH): q, k, v, out, and the same of the packed rows
    int64_t bytes = 8 * ROWS * WIDTH * 4;
    MUST(lm_device_alloc(m->device, bytes, (void**)&x));
    lm_view views[8];
    uint64_t seed = 4;
    for (int32_t i = 0; i < 8 * ROWS * WIDTH; i++) {
        x[i] = random_float(&seed);
        views[i / (ROWS * WIDTH)] = (lm_view){i / (ROWS * WIDTH) * ROWS * WIDTH, WIDTH, WIDTH};
    }
    lm_step step = {.rows = ROWS,
                    .output_rows = ROWS,
                    .sequences = 2,
                    .positions = positions,
                    .sequence = sequence,
                    .output_index = index,
                    .kv = kv,
                    .activations = x,
                    .activations_bytes = bytes};
    lm_op store = {.code = LM_OP_KV_STORE, .out = views[3], .a = views[1], .b = views[2]};
    lm_op attention = {
        .code = LM_OP_ATTENTION, .out = views[3], .a = views[0], .heads = 2, .head_dim = 16, .scale = 0.3f};
    lm_op all[2] = {store, attention};
    MUST(lm_submit(m->queue, all, 2, &step, NULL));
    float expected[ROWS * WIDTH];
    memcpy(expected, x + views[3].offset, sizeof expected);
    for (int32_t p = 0; p < 3; p++) {
        lm_op gather = {.code = LM_OP_GATHER_ROWS, .row_set = LM_ROWS_OUTPUT, .out = views[4 + p], .a = views[p]};
        MUST(lm_submit(m->queue, &gather, 1, &step, NULL));
    }
    memset(x + views[1].offset, 0, 2 * ROWS * WIDTH * 4);
    MUST(lm_submit(m->queue, &store, 1, &step, NULL)); /* the caches are zero again */
    store = (lm_op){.code = LM_OP_KV_STORE, .row_set = LM_ROWS_OUTPUT, .out = views[7], .a = views[5], .b = views[6]};
    attention.row_set = LM_ROWS_OUTPUT;
    attention.out = views[7];
    attention.a = views[4];
    lm_op packed[2] = {store, attention};
    MUST(lm_submit(m->queue, packed, 2, &step, NULL));
    for (int32_t r = 0; r < ROWS; r++) {
        CHECK(memcmp(x + views[7].offset + r * WIDTH, expected + index[r] * WIDTH, WIDTH * 4) == 0,
              "simd %d, %d threads: packed row %d differs from row %d", m->simd, m->threads, r, index[r]);
    }
    MUST(lm_device_free(m->device, x, bytes));
    MUST(lm_kv_destroy(kv[0]));
    MUST(lm_kv_destroy(kv[1]));
}

static void test_attentions(void) {
    for (int i = 0; i < machine_count; i++) {
        test_attention_of_output_rows(&machines[i]);
    }
    uint64_t seed = 2000000;
    test_attention(seed += 10, (attention){1, 1, 1, 1, 0, LM_DTYPE_F32, 1, .lengths = {1}}, 1);
    test_attention(seed += 10, (attention){4, 2, 16, 16, 0, LM_DTYPE_F32, 2, .lengths = {70, 130}}, 1);
    test_attention(seed += 10, (attention){8, 1, 24, 40, 0, LM_DTYPE_F16, 3, .lengths = {5, 64, 65}}, 1);
    test_attention(seed += 10, (attention){6, 6, 33, 17, 50, LM_DTYPE_F32, 2, .lengths = {200, 3}}, 1);
    test_attention(seed += 10, (attention){10, 2, 64, 64, 1, LM_DTYPE_F16, 1, .lengths = {90}}, 1);
    test_attention(seed += 10, (attention){5, 1, 128, 144, 0, LM_DTYPE_F32, 1, .lengths = {150}}, 1);
    test_attention(seed += 10, (attention){2, 1, 16, 24, 0, LM_DTYPE_F32, 2, .lengths = {2200, 1030}}, 0);
    test_attention(seed += 10, (attention){2, 2, 16, 16, 1000, LM_DTYPE_F16, 1, .lengths = {2300}}, 0);
}

/* Groups of query heads that the digest leaves out. */
static void test_attention_groups(void) {
    uint64_t seed = 6000000;
    test_attention(seed += 10, (attention){3, 1, 128, 128, 0, LM_DTYPE_F16, 1, .lengths = {140}}, 1);
    test_attention(seed += 10, (attention){14, 2, 64, 80, 0, LM_DTYPE_F32, 1, .lengths = {75}}, 1);
    test_attention(seed += 10, (attention){12, 2, 40, 72, 30, LM_DTYPE_F16, 2, .lengths = {66, 9}}, 1);
    /* Groups that threads share if there are few rows: slopes and sinks are those of the heads all the same. */
    test_attention(seed += 10,
                   (attention){48, 1, 24, 17, 0, LM_DTYPE_F16, 2, .lengths = {70, 9}, .kind = LM_ATTENTION_ALIBI}, 1);
    test_attention(seed += 10,
                   (attention){32, 2, 16, 24, 50, LM_DTYPE_F32, 1, .lengths = {80}, .kind = LM_ATTENTION_SINKS}, 1);
}

/* Caps, biases, sinks, chunks, and values that are parts of keys, with a digest of their own. */
static void test_further_attentions(void) {
    uint64_t seed = 10000000;
    test_attention(seed += 10, (attention){4, 2, 16, 16, 0, LM_DTYPE_F32, 2, .lengths = {70, 130}, .softcap = 1.5f}, 1);
    test_attention(seed += 10, (attention){3, 1, 40, 24, 20, LM_DTYPE_F16, 1, .lengths = {100}, .softcap = 0.5f}, 1);
    test_attention(seed += 10,
                   (attention){6, 2, 16, 32, 0, LM_DTYPE_F32, 2, .lengths = {140, 66}, .kind = LM_ATTENTION_ALIBI}, 1);
    test_attention(
        seed += 10,
        (attention){7, 1, 24, 16, 30, LM_DTYPE_F16, 1, .lengths = {90}, .kind = LM_ATTENTION_ALIBI, .softcap = 2}, 1);
    test_attention(seed += 10,
                   (attention){8, 1, 16, 16, 0, LM_DTYPE_F32, 2, .lengths = {70, 3}, .kind = LM_ATTENTION_SINKS}, 1);
    test_attention(seed += 10,
                   (attention){5, 5, 32, 17, 25, LM_DTYPE_F16, 1, .lengths = {130}, .kind = LM_ATTENTION_SINKS}, 1);
    test_attention(seed += 10, (attention){2, 1, 16, 16, 0, LM_DTYPE_F32, 2, .lengths = {200, 63}, .chunk = 50}, 1);
    test_attention(seed += 10, (attention){2, 2, 16, 16, 20, LM_DTYPE_F16, 1, .lengths = {150}, .chunk = 64}, 1);
    test_attention(seed += 10,
                   (attention){2, 1, 16, 24, 0, LM_DTYPE_F32, 2, .lengths = {2200, 1030}, .kind = LM_ATTENTION_SINKS},
                   0);
    test_attention(seed += 10,
                   (attention){4, 1, 16, 16, 1100, LM_DTYPE_F16, 1, .lengths = {2300}, .kind = LM_ATTENTION_ALIBI}, 0);
    test_attention(seed += 10, (attention){48, 1, 40, 33, 0, LM_DTYPE_F32, 2, .lengths = {90, 20}, .latent = 1}, 1);
    test_attention(seed += 10, (attention){16, 1, 576, 512, 0, LM_DTYPE_F16, 1, .lengths = {75}, .latent = 1}, 1);
    test_attention(seed += 10, (attention){6, 3, 24, 24, 0, LM_DTYPE_F16, 1, .lengths = {1100}, .latent = 1}, 0);
}

/* Layers that keep few places. */
static void test_places(void) {
    uint64_t seed = 11000000;
    test_attention(seed += 10, (attention){4, 2, 16, 24, 20, LM_DTYPE_F32, 2, .lengths = {300, 130}, .places = 37}, 0);
    test_attention(seed += 10, (attention){2, 1, 24, 16, 64, LM_DTYPE_F16, 1, .lengths = {400}, .places = 128}, 0);
    test_attention(seed += 10, (attention){3, 3, 16, 16, 1, LM_DTYPE_F32, 2, .lengths = {130, 5}, .places = 1}, 0);
    test_attention(seed += 10,
                   (attention){2, 2, 16, 16, 0, LM_DTYPE_F16, 1, .lengths = {300}, .chunk = 30, .places = 41}, 0);
    test_attention(seed += 10,
                   (attention){8, 1, 40, 33, 50, LM_DTYPE_F32, 2, .lengths = {200, 90}, .latent = 1, .places = 80}, 0);
    test_attention(seed += 10, (attention){2, 1, 16, 16, 1500, LM_DTYPE_F32, 1, .lengths = {2300}, .places = 1900}, 0);
}

/* -- layers with a state ------------------------------------------------------------------------------------------- */

/* Rows of up to three sequences for one op with a state: layer 1 of their caches. */
typedef struct recurrent {
    lm_op op; /* widths of the views, and the rest of it */
    lm_kv_layer shape;
    int32_t sequences;
    int32_t lengths[3];
    float* a; // (rows of all sequences, op.a.width)
    float* b; // (rows of all sequences, op.b.width)
} recurrent;

/* One sweep: the rows in their order, rows[i] a row of t->a; out (count, op.out.width) may be null. */
static void sweep_rows(const machine* m, const recurrent* t, lm_kv* const* kv, const int32_t* states,
                       const int32_t* rows, const int32_t* of, int32_t count, float* out, uint64_t* seed) {
    int32_t packed = random_int(seed, 0, 1);
    int32_t step_rows = count + (packed ? random_int(seed, 0, 3) : 0);
    int32_t* index = malloc((size_t)step_rows * 4);
    int32_t* sequence = malloc((size_t)step_rows * 4);
    for (int32_t i = 0; i < step_rows; i++) {
        index[i] = i;
        sequence[i] = INT32_MAX;
    }
    problem p = {.name = "a state", .count = 1};
    int64_t end = 0;
    p.ops[0] = t->op;
    p.ops[0].layer = 1;
    p.ops[0].row_set = packed ? LM_ROWS_OUTPUT : LM_ROWS_ALL;
    p.ops[0].a = place(&end, count, t->op.a.width, seed);
    p.ops[0].b = place(&end, count, t->op.b.width, seed);
    p.ops[0].out = place(&end, count, t->op.out.width, seed);
    make_image(&p, end, seed);
    for (int32_t i = 0; i < count; i++) {
        int32_t other = packed ? random_int(seed, i, step_rows - 1) : i;
        int32_t at = index[other];
        index[other] = index[i];
        index[i] = at;
        sequence[at] = of[i];
        memcpy(p.image + p.ops[0].a.offset + (int64_t)i * p.ops[0].a.stride, t->a + (int64_t)rows[i] * t->op.a.width,
               (size_t)t->op.a.width * 4);
        memcpy(p.image + p.ops[0].b.offset + (int64_t)i * p.ops[0].b.stride, t->b + (int64_t)rows[i] * t->op.b.width,
               (size_t)t->op.b.width * 4);
    }
    p.step = (lm_step){.rows = step_rows,
                       .output_rows = packed ? count : 0,
                       .sequences = t->sequences,
                       .sequence = sequence,
                       .output_index = index,
                       .states = states,
                       .kv = kv};
    float* result = malloc((size_t)p.floats * 4);
    run(m, &p, result);
    for (int64_t i = 0; i < p.floats; i++) {
        CHECK(in_view(&p.ops[0].out, count, i) || memcmp(&result[i], &p.image[i], 4) == 0,
              "a state: float %lld is overwritten", (long long)i);
    }
    for (int32_t i = 0; out != NULL && i < count; i++) {
        memcpy(out + (int64_t)i * t->op.out.width, result + p.ops[0].out.offset + (int64_t)i * p.ops[0].out.stride,
               (size_t)t->op.out.width * 4);
    }
    free(result);
    free(p.image);
    free(index);
    free(sequence);
}

/*
 * All rows in sweeps of at most `most` of them, those of different sequences mixed; before some sweeps comes another
 * from the same states, whose own are given up. out (rows of all sequences, op.out.width).
 */
static void sweep_all(const machine* m, const recurrent* t, int32_t most, float* out, uint64_t seed) {
    const lm_kv_layer layers[2] = {{3, 7, 5, LM_KV_HEADS, 0, 0}, t->shape};
    lm_kv* kv[3];
    int32_t states[3] = {-1, -1, -1};
    int32_t base[3];
    int32_t done[3] = {0};
    int32_t total = 0;
    for (int32_t s = 0; s < t->sequences; s++) {
        MUST(lm_kv_create(m->device, layers, 2, 3 + s, LM_DTYPE_F16, s % 2, &kv[s]));
        base[s] = total;
        total += t->lengths[s];
    }
    int32_t* rows = malloc((size_t)total * 4);
    int32_t* of = malloc((size_t)total * 4);
    float* some = malloc((size_t)total * (size_t)t->op.out.width * 4);
    for (int32_t left = total; left > 0;) {
        int32_t count = most < left ? random_int(&seed, 1, most) : left;
        int32_t had[3] = {0};
        for (int32_t i = 0; i < count; i++) {
            int32_t s = random_int(&seed, 0, t->sequences - 1);
            while (done[s] == t->lengths[s]) {
                s = (s + 1) % t->sequences;
            }
            of[i] = s;
            rows[i] = base[s] + done[s]++;
            had[s] = 1;
        }
        if (random_int(&seed, 0, 2) == 0) {
            int32_t* others = malloc((size_t)count * 4);
            for (int32_t i = 0; i < count; i++) {
                others[i] = random_int(&seed, 0, total - 1);
            }
            sweep_rows(m, t, kv, states, others, of, count, NULL, &seed);
            free(others);
        }
        sweep_rows(m, t, kv, states, rows, of, count, some, &seed);
        for (int32_t i = 0; i < count; i++) {
            memcpy(out + (int64_t)rows[i] * t->op.out.width, some + (int64_t)i * t->op.out.width,
                   (size_t)t->op.out.width * 4);
        }
        for (int32_t s = 0; s < t->sequences; s++) {
            states[s] = had[s] ? states[s] == 0 : states[s];
        }
        left -= count;
    }
    for (int32_t s = 0; s < t->sequences; s++) {
        MUST(lm_kv_destroy(kv[s]));
    }
    free(rows);
    free(of);
    free(some);
}

/* expected (rows of all sequences, op.out.width), within the tolerance; the same bits from all machines and sweeps. */
static void check_recurrent(const recurrent* t, const double* expected, double tolerance, uint64_t seed) {
    int32_t total = t->lengths[0] + t->lengths[1] + t->lengths[2];
    int64_t floats = (int64_t)total * t->op.out.width;
    float* whole = malloc((size_t)floats * 4);
    float* other = malloc((size_t)floats * 4);
    sweep_all(&machines[0], t, INT32_MAX, whole, seed);
    for (int64_t i = 0; i < floats; i++) {
        CHECK(fabs(whole[i] - expected[i]) <= tolerance * (1 + fabs(expected[i])),
              "op %d: row %lld, element %lld is %.9g, not %.9g", t->op.code, (long long)(i / t->op.out.width),
              (long long)(i % t->op.out.width), whole[i], expected[i]);
    }
    digest_floats(whole, floats);
    static const int32_t sweeps[] = {1, 3, 20, INT32_MAX};
    for (int i = 0; i < machine_count; i++) {
        int32_t most = sweeps[i % 4];
        sweep_all(&machines[i], t, most, other, ++seed);
        CHECK(memcmp(whole, other, (size_t)floats * 4) == 0, "op %d: simd %d, %d threads, up to %d rows: other bits",
              t->op.code, machines[i].simd, machines[i].threads, most);
    }
    for (int i = 0; i < 4; i++) {
        sweep_all(&machines[machine_count - 1], t, sweeps[i], other, ++seed);
        CHECK(memcmp(whole, other, (size_t)floats * 4) == 0, "op %d: up to %d rows: other bits", t->op.code,
              sweeps[i]);
    }
    free(whole);
    free(other);
}

static void test_convolution(uint64_t seed, const int32_t* lengths, int32_t width, int32_t taps, int32_t kind) {
    float* vector = random_floats((int64_t)width * taps, 1, &seed);
    int32_t total = lengths[0] + lengths[1] + lengths[2];
    recurrent t = {.op = {.code = LM_OP_CONVOLUTION,
                          .out = {0, 0, width},
                          .a = {0, 0, width},
                          .b = {0, 0, 1},
                          .vector = vector,
                          .vector_length = (int64_t)width * taps,
                          .kind = kind},
                   .shape = {1, taps - 1, width, LM_KV_STATE, 0, 0},
                   .sequences = 3,
                   .lengths = {lengths[0], lengths[1], lengths[2]},
                   .a = random_floats((int64_t)total * width, 1, &seed),
                   .b = random_floats(total, 1, &seed)};
    double* expected = malloc((size_t)total * (size_t)width * sizeof(double));
    int32_t base = 0;
    for (int32_t s = 0; s < 3; s++) {
        for (int32_t i = 0; i < lengths[s]; i++) {
            for (int32_t c = 0; c < width; c++) {
                double sum = 0;
                for (int32_t j = 0; j < taps; j++) {
                    int32_t from = i - taps + 1 + j;
                    sum += from < 0 ? 0
                                    : (double)vector[(int64_t)c * taps + j] * t.a[(int64_t)(base + from) * width + c];
                }
                expected[(int64_t)(base + i) * width + c] = kind == LM_ACTIVATION_SILU ? sum / (1 + exp(-sum)) : sum;
            }
        }
        base += lengths[s];
    }
    check_recurrent(&t, expected, 2e-6, seed);
    free(expected);
    free(t.a);
    free(t.b);
    free(vector);
}

/* One row of one value head: its state S (K, V), and all in double. */
static void delta_row(double* state, const double* q, const double* k, const float* x, double decay, double rate,
                      int32_t dim, int32_t dim_v, double* out) {
    for (int32_t c = 0; c < dim_v; c++) {
        double predicted = 0;
        for (int32_t i = 0; i < dim; i++) {
            state[i * dim_v + c] *= decay;
            predicted += state[i * dim_v + c] * k[i];
        }
        out[c] = 0;
        for (int32_t i = 0; i < dim; i++) {
            state[i * dim_v + c] += k[i] * (x[c] - predicted) * rate;
            out[c] += state[i * dim_v + c] * q[i];
        }
    }
}

static void unit(double* out, const float* x, int32_t count, double epsilon) {
    double squares = epsilon;
    for (int32_t i = 0; i < count; i++) {
        squares += (double)x[i] * x[i];
    }
    for (int32_t i = 0; i < count; i++) {
        out[i] = x[i] / sqrt(squares);
    }
}

static void test_delta_rule(uint64_t seed, const int32_t* lengths, int32_t heads, int32_t group, int32_t dim,
                            int32_t dim_v) {
    int32_t value_heads = heads * group;
    int32_t width = 2 * heads * dim + value_heads * dim_v;
    int32_t out_width = value_heads * dim_v;
    int32_t total = lengths[0] + lengths[1] + lengths[2];
    float* vector = random_floats(2 * value_heads, 1, &seed);
    for (int32_t h = 0; h < value_heads; h++) {
        vector[h] = -fabsf(vector[h]); /* states decay */
    }
    recurrent t = {.op = {.code = LM_OP_DELTA_RULE,
                          .out = {0, 0, out_width},
                          .a = {0, 0, width},
                          .b = {0, 0, 2 * value_heads},
                          .vector = vector,
                          .vector_length = 2 * value_heads,
                          .heads = heads,
                          .scale = 0.3f,
                          .epsilon = 1e-6f},
                   .shape = {value_heads, dim, dim_v, LM_KV_STATE, 0, 0},
                   .sequences = 3,
                   .lengths = {lengths[0], lengths[1], lengths[2]},
                   .a = random_floats((int64_t)total * width, 1, &seed),
                   .b = random_floats((int64_t)total * 2 * value_heads, 4, &seed)};
    double* expected = malloc((size_t)total * (size_t)out_width * sizeof(double));
    double* state = malloc((size_t)dim * (size_t)dim_v * sizeof(double));
    double* q = malloc((size_t)dim * sizeof(double));
    double* k = malloc((size_t)dim * sizeof(double));
    for (int32_t h = 0; h < value_heads; h++) {
        for (int32_t s = 0, row = 0; s < 3; s++) {
            memset(state, 0, (size_t)dim * (size_t)dim_v * sizeof(double));
            for (int32_t i = 0; i < lengths[s]; i++, row++) {
                const float* a = t.a + (int64_t)row * width;
                const float* b = t.b + (int64_t)row * 2 * value_heads;
                unit(q, a + (int64_t)(h / group) * dim, dim, 1e-6);
                unit(k, a + (int64_t)(heads + h / group) * dim, dim, 1e-6);
                for (int32_t j = 0; j < dim; j++) {
                    q[j] *= 0.3f;
                }
                double decay = exp(vector[h] * log1p(exp((double)b[value_heads + h] + vector[value_heads + h])));
                delta_row(state, q, k, a + 2 * heads * dim + h * dim_v, decay, 1 / (1 + exp(-b[h])), dim, dim_v,
                          expected + (int64_t)row * out_width + h * dim_v);
            }
        }
    }
    check_recurrent(&t, expected, 3e-6, seed);
    free(expected);
    free(state);
    free(q);
    free(k);
    free(t.a);
    free(t.b);
    free(vector);
}

static void test_states(void) {
    uint64_t seed = 10000000;
    static const int32_t lengths[][3] = {{1, 0, 2}, {40, 7, 23}, {3, 90, 1}, {0, 0, 5}};
    test_convolution(seed += 10, lengths[0], 5, 2, LM_ACTIVATION_IDENTITY);
    test_convolution(seed += 10, lengths[1], 100, 4, LM_ACTIVATION_SILU);
    test_convolution(seed += 10, lengths[2], 2000, 4, LM_ACTIVATION_SILU);
    test_convolution(seed += 10, lengths[1], 33, 65, LM_ACTIVATION_IDENTITY);
    test_convolution(seed += 10, lengths[3], 64, 3, LM_ACTIVATION_SILU);
    test_delta_rule(seed += 10, lengths[0], 1, 1, 1, 1);
    test_delta_rule(seed += 10, lengths[1], 2, 2, 16, 16);
    test_delta_rule(seed += 10, lengths[2], 1, 3, 33, 150);
    test_delta_rule(seed += 10, lengths[1], 3, 1, 64, 64);
    test_delta_rule(seed += 10, lengths[3], 2, 4, 20, 40);
}

static void test_branches(uint64_t seed, attention shape, const int32_t* nodes, int32_t chain, int32_t spare,
                          int32_t most) {
    float* vector = shape.kind == LM_ATTENTION_PLAIN ? NULL : make_vector(&shape, &seed);
    shape.vector = vector;
    forest f = make_forest(shape, nodes, chain, spare, &seed);
    float* expected = attend_paths(&machines[0], &f);
    for (int i = 0; i < machine_count; i++) {
        check_forest(&machines[i], &f, most, expected, seed);
    }
    free(expected);
    free_forest(f);
    free(vector);
}

static void test_all_branches(void) {
    uint64_t seed = 8000000;
    const int32_t few[] = {9, 20, 12};
    const int32_t more[] = {150, 40};
    const int32_t many[] = {1300};
    test_branches(seed += 10, (attention){1, 1, 1, 1, 0, LM_DTYPE_F32, 1, .lengths = {1}}, few, 40, 0, 3);
    test_branches(seed += 10, (attention){4, 2, 16, 16, 0, LM_DTYPE_F32, 3, .lengths = {0, 70, 125}}, few, 60, 40, 15);
    test_branches(seed += 10, (attention){8, 1, 24, 40, 50, LM_DTYPE_F16, 2, .lengths = {60, 126}}, few, 60, 2000, 30);
    test_branches(seed += 10, (attention){10, 2, 64, 64, 1, LM_DTYPE_F16, 1, .lengths = {64}}, few, 60, 3, 9);
    test_branches(seed += 10, (attention){5, 1, 128, 144, 7, LM_DTYPE_F32, 2, .lengths = {2, 127}}, few, 60, 500, 20);
    test_branches(seed += 10, (attention){3, 1, 33, 17, 0, LM_DTYPE_F16, 2, .lengths = {100, 3}}, more, 96, 0, 100);
    test_branches(seed += 10, (attention){2, 1, 16, 24, 0, LM_DTYPE_F32, 2, .lengths = {1017, 5}}, few, 70, 100, 12);
    test_branches(seed += 10, (attention){2, 2, 16, 16, 1000, LM_DTYPE_F16, 1, .lengths = {2040}}, more, 85, 3000, 60);
    test_branches(seed += 10, (attention){2, 1, 8, 8, 0, LM_DTYPE_F32, 1, .lengths = {800}}, many, 99, 10, 200);
    test_branches(
        seed += 10,
        (attention){4, 2, 16, 16, 0, LM_DTYPE_F32, 2, .lengths = {60, 5}, .kind = LM_ATTENTION_ALIBI, .softcap = 3},
        few, 60, 20, 15);
    test_branches(
        seed += 10,
        (attention){3, 1, 24, 16, 0, LM_DTYPE_F16, 2, .lengths = {60, 70}, .kind = LM_ATTENTION_SINKS, .chunk = 32},
        few, 60, 20, 15);
    test_branches(seed += 10, (attention){8, 1, 40, 33, 0, LM_DTYPE_F16, 2, .lengths = {60, 126}, .latent = 1}, few, 60,
                  20, 15);
    test_branches(seed += 10, (attention){4, 2, 16, 24, 16, LM_DTYPE_F32, 3, .lengths = {60, 40, 200}, .places = 50},
                  few, 60, 11, 15);
    test_branches(seed += 10,
                  (attention){4, 1, 16, 8, 30, LM_DTYPE_F32, 2, .lengths = {150, 20}, .latent = 1, .places = 64}, few,
                  60, 7, 15);
    /* Threads share groups of heads, and segments too. */
    attention shared = {48, 1, 8, 8, 0, LM_DTYPE_F16, 1, .lengths = {1020}, .kind = LM_ATTENTION_ALIBI};
    test_branches(seed += 10, shared, few, 70, 100, 2);
    shared = (attention){32, 2, 8, 8, 0, LM_DTYPE_F32, 1, .lengths = {1020}, .kind = LM_ATTENTION_SINKS};
    test_branches(seed += 10, shared, few, 70, 100, 2);
}

/* -- more of all --------------------------------------------------------------------------------------------------- */

static void test_round_of_products(uint64_t seed, uint64_t* shapes) {
    int32_t dtype = random_int(shapes, LM_DTYPE_F32, LM_DTYPE_MXFP4);
    int32_t whole = dtype == LM_DTYPE_MXFP4 ? 32 : 1;
    int32_t rows = random_int(shapes, 1, 150);
    int32_t k = random_int(shapes, 1, 1500 / whole) * whole;
    int32_t n = random_int(shapes, 1, 150);
    int32_t bias = random_int(shapes, 0, 1);
    test_linear(seed, rows, k, n, dtype % 3, bias);
    test_linear_exactly(seed + 1, rows, k, n, dtype, bias);
    test_weight_norm(seed + 2, rows, k, n, dtype, bias);
    int32_t start = random_int(shapes, 0, 2);
    test_linear_transposed(seed + 3, rows, n, k, dtype % LM_DTYPE_MXFP4, start);
    test_list_rows(seed + 4, rows, n);
    int32_t list_rows = random_int(shapes, 0, rows);
    int32_t kind = random_int(shapes, LM_ROWS_PLAIN, LM_ROWS_WEIGHTED);
    test_gather_list(seed + 5, rows, list_rows, k, kind);
    test_scatter_add(seed + 6, rows, list_rows, k, kind);
}

static void test_round_of_rows(uint64_t seed, uint64_t* shapes) {
    int32_t rows = random_int(shapes, 1, 150);
    int32_t width = random_int(shapes, 1, 2000);
    int32_t groups = random_int(shapes, 1, 12);
    int32_t rotary_dim = 2 * random_int(shapes, 1, 100);
    int32_t head_dim = rotary_dim + random_int(shapes, 0, 60);
    int32_t dtype = random_int(shapes, LM_DTYPE_F32, LM_DTYPE_BF16);
    int32_t any = random_int(shapes, 0, 1);
    int32_t some = random_int(shapes, 0, 2);
    int32_t kind = random_int(shapes, LM_ACTIVATION_SILU, LM_ACTIVATION_SOFT_CAP);
    int32_t output_rows = random_int(shapes, 0, rows);
    test_embed(seed, rows, width, dtype);
    test_norm(seed + 1, LM_OP_RMS_NORM, rows, groups, head_dim, any, some);
    test_norm(seed + 2, LM_OP_LAYER_NORM, rows, groups, head_dim, any, some);
    test_norm(seed + 3, LM_OP_LAYER_NORM, rows, 1, width + 1, any, some);
    test_rope(seed + 4, rows, groups, head_dim, rotary_dim, some % 2, any);
    test_activation(seed + 5, rows, width, 1, kind, any, any ? some : some % 2);
    test_activation(seed + 6, rows, groups * head_dim, groups, kind, 1, some / 2 * 2);
    test_activation(seed + 7, rows, width, 1, LM_ACTIVATION_CLAMPED_SWIGLU, 0, 0);
    test_add(seed + 8, rows, width, any ? some : some % 2, 0.7f, any);
    test_scale(seed + 9, rows, width, some % 2, any);
    test_gather_rows(seed + 10, rows, output_rows, width);
}

static void test_round_of_sequences(uint64_t seed, uint64_t* shapes) {
    attention t = random_attention(150, shapes);
    test_attention(seed, t, 1);
    t = random_long_attention(shapes);
    test_attention(seed + 1, t, 0);
    int32_t lengths[3];
    for (int i = 0; i < 3; i++) {
        lengths[i] = random_int(shapes, i == 0, 60);
    }
    int32_t width = random_int(shapes, 1, 500);
    int32_t taps = random_int(shapes, 2, 65);
    int32_t silu = random_int(shapes, 0, 1);
    test_convolution(seed + 2, lengths, width, taps, silu ? LM_ACTIVATION_SILU : LM_ACTIVATION_IDENTITY);
    int32_t heads = random_int(shapes, 1, 3);
    int32_t group = random_int(shapes, 1, 3);
    int32_t dim = random_int(shapes, 1, 140);
    int32_t dim_v = random_int(shapes, 1, 140);
    test_delta_rule(seed + 3, lengths, heads, group, dim, dim_v);
}

int main(void) {
    open_machines();
    test_linears();
    test_row_ops();
    test_attentions();
    check_digest(DIGEST, "results");
    test_further_row_ops();
    check_digest(FURTHER_ROW_OPS_DIGEST, "row ops of further families");
    test_weight_ops();
    check_digest(WEIGHT_DIGEST, "results with weights");
    test_lists();
    check_digest(LISTS_DIGEST, "rows of lists");
    test_further_attentions();
    check_digest(FURTHER_ATTENTIONS_DIGEST, "attentions of further families");
    test_states();
    check_digest(STATE_DIGEST, "results with states");
    test_linear_blocks();
    for (int i = 0; i < machine_count; i++) {
        test_linear_after_nans(&machines[i]);
    }
    test_nans();
    test_attention_groups();
    test_places();
    test_all_branches();
    uint64_t shapes = 16;
    for (int round = 0; round < asked_rounds(); round++) {
        uint64_t seed = 14000000 + 100 * (uint64_t)round;
        test_round_of_products(seed, &shapes);
        test_round_of_rows(seed + 20, &shapes);
        test_round_of_sequences(seed + 40, &shapes);
    }
    close_machines();
    return finish_tests("test_ops");
}
