/*
 * test_cuda.c: every op of the CUDA kernels, run by their emulation, against the CPU backend within a tolerance, and
 * bit for bit against themselves: rows alone or together, cuts into panels, addresses. Products on tensor cores against
 * a sum in double precision, and bit for bit too. Then queues, memory, messages.
 *
 * The same on a GPU: test_cuda [few] <path of liblamina_cuda.so>. few: with a part of the shapes, for
 * compute-sanitizer.
 */
#define _GNU_SOURCE
#include "backend.h"
#include "cuda/faults.h"
#include "device_file.h"
#include "ops.h"

#include <dlfcn.h>

static int32_t backend = LM_BACKEND_CUDA_EMULATED;
static const char* library = LIBRARY;
static int32_t step_of_shapes = 1; /* more: as many are left out */
static machine cpu;
static machine gpu;
static machine fast; /* the same GPU, opened to be fast */

static void open_machine(machine* m, int32_t of_backend, int32_t ordinal, int32_t mode) {
    MUST(lm_device_open(&(lm_device_options){.backend = of_backend,
                                             .ordinal = ordinal,
                                             .threads = of_backend == LM_BACKEND_CPU ? 1 : 0,
                                             .mode = mode},
                        &m->device));
    MUST(lm_queue_create(m->device, &m->queue));
}

static void close_machine(machine* m) {
    MUST(lm_queue_destroy(m->queue));
    MUST(lm_device_close(m->device));
}

/* Bytes of a row of a weight. */
static int64_t row_bytes(int32_t dtype, int64_t elements) {
    return dtype == LM_DTYPE_MXFP4     ? elements / 2
           : dtype == LM_DTYPE_F8_E4M3 ? elements
                                       : elements * element_bytes(dtype);
}

/* Elements of a row that the dtype can have, about as many as these. */
static int32_t whole_blocks(int32_t dtype, int32_t elements) {
    return dtype == LM_DTYPE_MXFP4 ? (elements + 31) / 32 * 32 : elements;
}

/* Random elements, without infinities and NaNs. */
static void put_random(uint8_t* to, int64_t count, int32_t dtype, uint64_t* seed) {
    if (dtype == LM_DTYPE_F8_E4M3 || dtype == LM_DTYPE_MXFP4) {
        for (int64_t i = 0; i < row_bytes(dtype, count); i++) {
            uint8_t byte = (uint8_t)random_bits(seed);
            to[i] = dtype == LM_DTYPE_F8_E4M3 && (byte & 0x7f) == 0x7f ? 0 : byte;
        }
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        float x = random_float(seed);
        uint16_t h = (uint16_t)random_bits(seed);
        if (dtype == LM_DTYPE_F32) {
            memcpy(to + i * 4, &x, sizeof x);
            continue;
        }
        if (dtype == LM_DTYPE_F16) {
            h = (h & 0x83ff) | (uint16_t)(random_int(seed, 0, 15) << 10); /* subnormals too, all below 2 */
        } else {
            h = (h & 0x807f) | (uint16_t)(random_int(seed, 118, 127) << 7);
        }
        memcpy(to + i * 2, &h, sizeof h);
    }
}

/* -- one op -------------------------------------------------------------------------------------------------------- */

/* An op over a step whose memory all lies on the host: each machine gets copies. */
typedef struct problem {
    const char* name;
    lm_op op;
    lm_step step;
    float* image; // (floats)
    int64_t floats;
} problem;

/* Gives all of the activation memory after the op. */
static void run(const machine* m, const problem* p, float* result) {
    lm_step step = p->step;
    lm_op op = p->op;
    step.generation = ++generation;
    step.activations = on_device(m, p->image, p->floats * 4);
    step.activations_bytes = p->floats * 4;
    step.panel = on_device(m, p->step.panel, p->step.panel_bytes);
    op.vector = on_device(m, p->op.vector, p->op.vector_length * 4);
    op.scales = on_device(m, p->op.scales, p->op.scales_length * 4);
    MUST(lm_submit(m->queue, &op, 1, &step, NULL));
    to_host(m, result, step.activations, p->floats * 4);
    MUST(lm_device_free(m->device, step.activations, p->floats * 4));
    MUST(lm_device_free(m->device, (void*)step.panel, p->step.panel_bytes));
    MUST(lm_device_free(m->device, (void*)op.vector, p->op.vector_length * 4));
    MUST(lm_device_free(m->device, (void*)op.scales, p->op.scales_length * 4));
}

/* The GPU's out is that of the CPU within tolerance * (1 + |x|), and it writes nothing else; result gets its memory. */
static void check_problem(const problem* p, double tolerance, float* result) {
    int32_t rows = p->op.row_set == LM_ROWS_ALL || p->op.code == LM_OP_SCATTER_ADD ? p->step.rows
                   : p->op.row_set == LM_ROWS_OUTPUT                               ? p->step.output_rows
                                                                                   : p->step.list_rows;
    float* expected = malloc((size_t)p->floats * 4);
    run(&cpu, p, expected);
    run(&gpu, p, result);
    for (int64_t i = 0; i < p->floats; i++) {
        if (in_view(&p->op.out, rows, i)) {
            CHECK(fabs(result[i] - expected[i]) <= tolerance * (1 + fabs(expected[i])),
                  "%s: row %lld, element %lld is %.9g, not %.9g", p->name,
                  (long long)((i - p->op.out.offset) / p->op.out.stride),
                  (long long)((i - p->op.out.offset) % p->op.out.stride), result[i], expected[i]);
        } else {
            CHECK(memcmp(&result[i], &p->image[i], 4) == 0, "%s: float %lld is overwritten", p->name, (long long)i);
        }
    }
    free(expected);
}

static void make_image(problem* p, int64_t floats, uint64_t* seed) {
    p->floats = floats;
    p->image = malloc((size_t)floats * 4);
    for (int64_t i = 0; i < floats; i++) {
        p->image[i] = random_float(seed);
    }
}

/* Views one after the other: with gaps, or each row at a multiple of 16 bytes. */
static lm_view place(int64_t* end, int32_t rows, int32_t width, int aligned, uint64_t* seed) {
    lm_view view = {*end, width, width};
    if (aligned) {
        view.offset = (view.offset + 3) / 4 * 4;
        view.stride = (width + 3) / 4 * 4;
    } else {
        view.offset += random_int(seed, 0, 9);
        view.stride += random_int(seed, 0, 9);
    }
    *end = view.offset + (int64_t)rows * view.stride;
    return view;
}

static void check_same_row(const char* name, const float* x, const lm_view* x_view, int32_t x_row, const float* y,
                           const lm_view* y_view, int32_t y_row, int32_t width, const char* what) {
    const float* a = x + x_view->offset + (int64_t)x_row * x_view->stride;
    const float* b = y + y_view->offset + (int64_t)y_row * y_view->stride;
    CHECK(memcmp(a, b, (size_t)width * 4) == 0, "%s: row %d has other bits %s", name, y_row, what);
}

/* Rows alone, by two, by three ... up to `most`: they have the bits of `whole`. */
static void check_rows_apart(const machine* m, const problem* p, const float* whole, int64_t input_row_bytes,
                             int32_t most, uint64_t* seed) {
    float* part = malloc((size_t)p->floats * 4);
    for (int32_t r = 0; r < p->step.rows; r += random_int(seed, 1, (most + 1) / 2)) {
        int32_t left = p->step.rows - r;
        int32_t some = random_int(seed, 1, left < most ? left : most);
        problem q = *p;
        q.step.rows = some;
        q.op.out.offset += (int64_t)r * q.op.out.stride;
        q.op.a.offset += (int64_t)r * q.op.a.stride;
        q.op.b.offset += (int64_t)r * q.op.b.stride;
        q.op.input_offset += r * input_row_bytes;
        run(m, &q, part);
        for (int32_t i = 0; i < some; i++) {
            check_same_row(p->name, part, &q.op.out, i, whole, &p->op.out, r + i, p->op.out.width,
                           "beside other rows");
        }
    }
    free(part);
}

/* -- ops with weights ---------------------------------------------------------------------------------------------- */

/* The same op with the weight's rows first .. first + some - 1, in a panel of their own at another address. */
static problem cut_rows(const problem* p, int32_t first, int32_t some, uint64_t* seed) {
    const lm_op* op = &p->op;
    problem q = *p;
    int32_t columns = op->code == LM_OP_LINEAR        ? op->a.width
                      : op->code == LM_OP_WEIGHT_NORM ? op->columns
                                                      : op->out.width;
    int64_t bytes = (some - 1) * op->weight_stride + row_bytes(op->dtype, columns);
    int64_t scale_bytes = op->dtype == LM_DTYPE_MXFP4 ? (some - 1) * op->scale_stride + columns / 32 : 0;
    const uint8_t* from = p->step.panel;
    q.op.scale_offset = random_int(seed, 0, 40);
    q.op.weight_offset = q.op.scale_offset + scale_bytes + random_int(seed, 0, 40);
    q.op.weight_rows = some;
    q.step.panel_bytes = q.op.weight_offset + bytes;
    uint8_t* panel = calloc(1, (size_t)q.step.panel_bytes);
    memcpy(panel + q.op.weight_offset, from + op->weight_offset + first * op->weight_stride, (size_t)bytes);
    memcpy(panel + q.op.scale_offset, from + op->scale_offset + first * op->scale_stride, (size_t)scale_bytes);
    q.step.panel = panel;
    if (op->dtype == LM_DTYPE_F8_E4M3) {
        int64_t skipped = (op->scale_row + first) / 128 * op->scale_stride;
        q.op.scales += skipped;
        q.op.scales_length -= skipped;
        q.op.scale_row = (op->scale_row + first) % 128;
    }
    if (op->code != LM_OP_LINEAR) {
        q.op.a.offset += first;
        q.op.a.width = some;
    }
    if (op->code != LM_OP_LINEAR_TRANSPOSED) {
        q.op.out.offset += first;
        q.op.out.width = some;
    }
    if (op->code == LM_OP_LINEAR && op->vector != NULL) {
        q.op.vector += first;
        q.op.vector_length = some;
    }
    return q;
}

/* The weight's rows cut into panels. Those of a transposed weight go on with what the last one left. */
static void check_panels(const machine* m, const problem* p, const float* whole, uint64_t* seed) {
    const lm_op* op = &p->op;
    int transposed = op->code == LM_OP_LINEAR_TRANSPOSED;
    float* part = malloc((size_t)p->floats * 4);
    float* before = malloc((size_t)p->floats * 4);
    memcpy(part, p->image, (size_t)p->floats * 4);
    for (int32_t first = 0; first < op->weight_rows;) {
        int32_t some = random_int(seed, 1, op->weight_rows - first);
        problem q = cut_rows(p, first, some, seed);
        if (transposed) {
            memcpy(before, part, (size_t)p->floats * 4);
            q.image = before;
            q.op.accumulate = first > 0;
        }
        run(m, &q, part);
        for (int32_t r = 0; r < p->step.rows && (!transposed || first + some == op->weight_rows); r++) {
            lm_view same = op->out;
            same.offset = q.op.out.offset;
            check_same_row(p->name, part, &q.op.out, r, whole, &same, r, q.op.out.width, "in another panel");
        }
        free((void*)q.step.panel);
        first += some;
    }
    free(before);
    free(part);
}

/*
 * An op with a weight, which makes rows of n floats of rows of k, and random operands, to be freed with free_product.
 * LM_OP_WEIGHT_NORM: k is the weight's alone.
 */
static problem make_product(uint64_t* seed, int32_t code, int32_t rows, int32_t k, int32_t n, int32_t dtype, int bias,
                            int aligned) {
    int transposed = code == LM_OP_LINEAR_TRANSPOSED;
    int32_t weight_rows = transposed ? k : n;
    int32_t columns = transposed ? n : k;
    int64_t bytes = row_bytes(dtype, columns);
    int64_t stride = aligned ? (bytes + 15) / 16 * 16 : bytes + random_int(seed, 0, 1) * 7;
    int64_t offset = aligned ? 0 : random_int(seed, 0, 17);
    int64_t panel_bytes = offset + (weight_rows - 1) * stride + bytes;
    problem p = {.name = transposed ? "linear_transposed" : code == LM_OP_LINEAR ? "linear" : "weight_norm"};
    p.op = (lm_op){.code = code,
                   .weight_offset = offset,
                   .weight_stride = stride,
                   .weight_rows = weight_rows,
                   .columns = code == LM_OP_WEIGHT_NORM ? k : 0,
                   .dtype = dtype,
                   .epsilon = random_int(seed, 0, 3) == 0 ? 2 : 1e-12f};
    if (dtype == LM_DTYPE_MXFP4) {
        p.op.scale_offset = panel_bytes + random_int(seed, 0, 5);
        p.op.scale_stride = columns / 32 + random_int(seed, 0, 2);
        panel_bytes = p.op.scale_offset + (weight_rows - 1) * p.op.scale_stride + columns / 32;
    }
    uint8_t* panel = calloc(1, (size_t)panel_bytes);
    for (int64_t i = 0; i < weight_rows; i++) {
        put_random(panel + offset + i * stride, columns, dtype, seed);
    }
    for (int64_t i = 0; dtype == LM_DTYPE_MXFP4 && i < panel_bytes - p.op.scale_offset; i++) {
        panel[p.op.scale_offset + i] = (uint8_t)random_int(seed, 127 - 10, 127 - 3);
    }
    if (dtype == LM_DTYPE_F8_E4M3) {
        p.op.scale_row = random_int(seed, 0, 127);
        p.op.scale_stride = (columns - 1) / 128 + 1 + random_int(seed, 0, 2);
        p.op.scales_length = (p.op.scale_row + weight_rows - 1) / 128 * p.op.scale_stride + (columns - 1) / 128 + 1;
        p.op.scales = random_floats(p.op.scales_length, 0x1p-8f, seed);
    }
    if (bias) {
        p.op.vector = random_floats(n, 1, seed);
        p.op.vector_length = n;
    }
    int64_t end = 0;
    p.op.a = place(&end, rows, code == LM_OP_WEIGHT_NORM ? n : k, aligned, seed);
    p.op.out = place(&end, rows, n, 0, seed);
    make_image(&p, end, seed);
    p.step = (lm_step){.rows = rows, .panel = panel, .panel_bytes = panel_bytes};
    return p;
}

static void free_product(problem* p) {
    free(p->image);
    free((void*)p->op.vector);
    free((void*)p->op.scales);
    free((void*)p->step.panel);
}

static void test_product(uint64_t seed, int32_t code, int32_t rows, int32_t k, int32_t n, int32_t dtype, int bias,
                         int aligned) {
    problem p = make_product(&seed, code, rows, k, n, dtype, bias, aligned);
    float* whole = malloc((size_t)p.floats * 4);
    check_problem(&p, code == LM_OP_WEIGHT_NORM ? 8e-7 : 2e-6 * sqrt(k), whole);
    check_rows_apart(&gpu, &p, whole, 0, 9, &seed);
    check_panels(&gpu, &p, whole, &seed);
    free(whole);
    free_product(&p);
}

static void test_linear(uint64_t seed, int32_t rows, int32_t k, int32_t n, int32_t dtype, int bias, int aligned) {
    test_product(seed, LM_OP_LINEAR, rows, k, n, dtype, bias, aligned);
}

static void test_linears(void) {
    uint64_t seed = 1;
    uint64_t shapes = 2;
    for (int32_t dtype = LM_DTYPE_F32; dtype <= LM_DTYPE_MXFP4; dtype++) {
        for (int32_t rows = 1; rows <= 20; rows += step_of_shapes) {
            int32_t k = whole_blocks(dtype, random_int(&shapes, 1, rows % 4 == 0 ? 700 : 90));
            int32_t n = random_int(&shapes, 1, 30);
            test_linear(seed += 10, rows, k, n, dtype, rows & 1, rows % 3 == 0);
        }
        test_linear(seed += 10, 1, whole_blocks(dtype, 1), 1, dtype, 0, 0);
        test_linear(seed += 10, 3, whole_blocks(dtype, 2100), 5, dtype, 1, 0);
        test_linear(seed += 10, 9, 1024, 7, dtype, 0, 1);
        test_linear(seed += 10, 67, 256, 9, dtype, 0, 1);
        if (dtype > LM_DTYPE_BF16) {
            test_linear(seed += 10, 2, 256, 300, dtype, 0, 1);
            continue;
        }
        test_linear(seed += 10, 6, 17500, 3, dtype, 1, 1); /* more segments than warps */
        test_linear(seed += 10, 3, 99000, 2, dtype, 0, 0); /* and more than fit into shared memory for 3 rows */
    }
}

/* All codes of an element, or of a scale, where nothing is added to it but zeros: exact, or NaN on both sides. */
static void test_all_codes(int32_t dtype) {
    enum { CODES = 256, BLOCK = 32 };
    uint64_t seed = 13;
    problem p = make_product(&seed, LM_OP_LINEAR, 1, BLOCK, CODES, dtype, 0, 1);
    uint8_t* panel = (uint8_t*)p.step.panel;
    float* a = p.image + p.op.a.offset;
    memset(a, 0, BLOCK * sizeof *a);
    a[0] = 1;
    for (int i = 0; i < CODES; i++) {
        if (dtype == LM_DTYPE_F8_E4M3) {
            panel[p.op.weight_offset + i * p.op.weight_stride] = (uint8_t)i;
        } else {
            panel[p.op.scale_offset + i * p.op.scale_stride] = (uint8_t)i;
        }
    }
    float* expected = malloc((size_t)p.floats * 4);
    float* result = malloc((size_t)p.floats * 4);
    run(&cpu, &p, expected);
    run(&gpu, &p, result);
    for (int i = 0; i < CODES; i++) {
        float x = expected[p.op.out.offset + i];
        float got = result[p.op.out.offset + i];
        CHECK(isnan(x) ? isnan(got) : got == x, "dtype %d: code %d gives %g, not %g", dtype, i, got, x);
    }
    free(expected);
    free(result);
    free_product(&p);
}

/* Makes NaN of element (row, column) of a weight, or of its scale: its 31 neighbours are 1 then, as infinity makes NaN
   of zeros too. */
static void put_nan(const problem* p, int32_t row, int32_t column) {
    uint8_t* panel = (uint8_t*)p->step.panel;
    uint8_t* data = panel + p->op.weight_offset + row * p->op.weight_stride;
    if (p->op.dtype == LM_DTYPE_F8_E4M3) {
        data[column] = column % 2 == 0 ? 0x7f : 0xff;
    } else {
        panel[p->op.scale_offset + row * p->op.scale_stride + column / 32] = 0xff;
        memset(data + column / 32 * 16, 0x22, 16);
    }
}

/* Codes that are NaN make NaN of all that they have a part in, and leave the rest its bits; k, n: as in lamina.h. */
static void test_nans(uint64_t seed, const machine* m, int32_t code, int32_t rows, int32_t k, int32_t n,
                      int32_t dtype) {
    int transposed = code == LM_OP_LINEAR_TRANSPOSED;
    problem p = make_product(&seed, code, rows, k, n, dtype, 0, rows % 2);
    for (int64_t i = 0; i < p.floats; i++) { /* and so does infinity less itself */
        p.image[i] = 0.1f + fabsf(p.image[i]);
    }
    uint8_t* expected = calloc(1, (size_t)n); // (n): whether it is NaN
    float* without = malloc((size_t)p.floats * 4);
    float* result = malloc((size_t)p.floats * 4);
    run(m, &p, without);
    for (int32_t i = 0; i <= n / 4; i++) {
        int32_t of_out = random_int(&seed, 0, n - 1);
        int32_t of_sum = random_int(&seed, 0, k - 1);
        put_nan(&p, transposed ? of_sum : of_out, transposed ? of_out : of_sum);
        expected[of_out] = 1;
    }
    run(m, &p, result);
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < n; i++) {
            int64_t f = p.op.out.offset + (int64_t)r * p.op.out.stride + i;
            CHECK(expected[i] ? isnan(result[f]) : memcmp(&result[f], &without[f], 4) == 0,
                  "%s, dtype %d: row %d of %d, element %d is %g, without NaNs %g", p.name, dtype, r, rows, i, result[f],
                  without[f]);
        }
    }
    free(result);
    free(without);
    free(expected);
    free_product(&p);
}

static void test_all_nans(void) {
    uint64_t seed = 10000000;
    static const int32_t rows[] = {1, 3, 10, 70};
    for (int i = 0; i < 4; i++) {
        for (int32_t dtype = LM_DTYPE_F8_E4M3; dtype <= LM_DTYPE_MXFP4; dtype++) {
            int32_t k = dtype == LM_DTYPE_MXFP4 ? 224 : 219;
            test_nans(seed += 10, &gpu, LM_OP_LINEAR, rows[i], k, 30, dtype);
            test_nans(seed += 10, &fast, LM_OP_LINEAR, rows[i], k, 30, dtype);
            test_nans(seed += 10, &gpu, LM_OP_WEIGHT_NORM, rows[i], k, 30, dtype);
        }
        test_nans(seed += 10, &gpu, LM_OP_LINEAR_TRANSPOSED, rows[i], 50, 140, LM_DTYPE_F8_E4M3);
    }
}

/* Weights whose rows are those of a; what a weight row is divided by. */
static void test_other_products(void) {
    uint64_t seed = 5000000;
    uint64_t shapes = 12;
    for (int32_t dtype = LM_DTYPE_F32; dtype <= LM_DTYPE_MXFP4; dtype++) {
        int transposed = dtype != LM_DTYPE_MXFP4; /* there are none of those */
        for (int32_t rows = 1; rows <= 12; rows += step_of_shapes) {
            int32_t k = random_int(&shapes, 1, 90);
            int32_t n = random_int(&shapes, 1, rows % 4 == 0 ? 300 : 40);
            if (transposed) {
                test_product(seed += 10, LM_OP_LINEAR_TRANSPOSED, rows, k, n, dtype, rows & 1, rows % 3 == 0);
            }
            test_product(seed += 10, LM_OP_WEIGHT_NORM, rows, whole_blocks(dtype, n), k, dtype, 0, rows % 3 == 0);
        }
        if (transposed) {
            test_product(seed += 10, LM_OP_LINEAR_TRANSPOSED, 1, 1, 1, dtype, 0, 0);
            test_product(seed += 10, LM_OP_LINEAR_TRANSPOSED, 5, 700, 33, dtype, 1, 1);
        }
        test_product(seed += 10, LM_OP_WEIGHT_NORM, 1, whole_blocks(dtype, 1), 1, dtype, 0, 0);
        test_product(seed += 10, LM_OP_WEIGHT_NORM, 40, whole_blocks(dtype, 700), 70, dtype, 0, 1);
    }
    test_all_codes(LM_DTYPE_F8_E4M3);
    test_all_codes(LM_DTYPE_MXFP4);
}

/* -- linear on tensor cores ---------------------------------------------------------------------------------------- */

/* To the nearest multiple of the last of `digits` binary digits, ties to even; exponents below `least` have fewer. */
static double round_digits(double x, int digits, int least) {
    if (x == 0 || !isfinite(x)) {
        return x;
    }
    int exponent = ilogb(x) < least ? least : ilogb(x);
    double last = ldexp(1, exponent - digits + 1);
    return nearbyint(x / last) * last;
}

/* An activation as a product on tensor cores takes it. */
static double rounded(float x, int32_t dtype) {
    if (dtype != LM_DTYPE_F16) {
        return round_digits(x, 8, -126);
    }
    double y = round_digits(x, 11, -14);
    return isnan(y) ? y : y > 65504 ? 65504 : y < -65504 ? -65504 : y;
}

/* Element k of weight row n. */
static double weight_value(const problem* p, int32_t n, int32_t k) {
    static const double e2m1[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    const uint8_t* panel = p->step.panel;
    const uint8_t* row = panel + p->op.weight_offset + n * p->op.weight_stride;
    if (p->op.dtype == LM_DTYPE_MXFP4) {
        int code = row[k / 2] >> k % 2 * 4 & 15;
        double size = ldexp(e2m1[code & 7], panel[p->op.scale_offset + n * p->op.scale_stride + k / 32] - 127);
        return code & 8 ? -size : size;
    }
    uint16_t bits;
    memcpy(&bits, row + k * 2, sizeof bits);
    double sign = bits >> 15 ? -1 : 1;
    if (p->op.dtype == LM_DTYPE_BF16) {
        int exponent = bits >> 7 & 0xff; /* never 0 here */
        return sign * ldexp(128 + (bits & 0x7f), exponent - 127 - 7);
    }
    int exponent = bits >> 10 & 0x1f;
    return sign * (exponent == 0 ? ldexp(bits & 0x3ff, -24) : ldexp(1024 + (bits & 0x3ff), exponent - 15 - 10));
}

/* The fast GPU's out is the product of what is rounded, and it writes nothing else. */
static void check_fast(const problem* p, float* result) {
    const lm_op* op = &p->op;
    run(&fast, p, result);
    double* a = malloc((size_t)op->a.width * sizeof *a);
    double* weight = malloc((size_t)op->weight_rows * (size_t)op->a.width * sizeof *weight); // (weight_rows, a.width)
    for (int32_t n = 0; n < op->weight_rows; n++) {
        for (int32_t k = 0; k < op->a.width; k++) {
            weight[(int64_t)n * op->a.width + k] = weight_value(p, n, k);
        }
    }
    for (int32_t r = 0; r < p->step.rows; r++) {
        for (int32_t k = 0; k < op->a.width; k++) {
            a[k] = rounded(p->image[op->a.offset + (int64_t)r * op->a.stride + k], op->dtype);
        }
        for (int32_t n = 0; n < op->weight_rows; n++) {
            double sum = op->vector == NULL ? 0 : op->vector[n];
            double size = 1;
            for (int32_t k = 0; k < op->a.width; k++) {
                double product = a[k] * weight[(int64_t)n * op->a.width + k];
                sum += product;
                size += fabs(product);
            }
            float got = result[op->out.offset + (int64_t)r * op->out.stride + n];
            CHECK(isnan(sum) ? isnan(got) : fabs(got - sum) <= 2e-6 * size,
                  "fast linear (%d, %d) x (%d), dtype %d: row %d, element %d is %.9g, not %.9g", p->step.rows,
                  op->a.width, op->weight_rows, op->dtype, r, n, got, sum);
        }
    }
    free(weight);
    for (int64_t i = 0; i < p->floats; i++) {
        CHECK(in_view(&op->out, p->step.rows, i) || memcmp(&result[i], &p->image[i], 4) == 0,
              "fast linear: float %lld is overwritten", (long long)i);
    }
    free(a);
}

static void test_fast_linear(uint64_t seed, int32_t rows, int32_t k, int32_t n, int32_t dtype, int bias, int aligned) {
    problem p = make_product(&seed, LM_OP_LINEAR, rows, k, n, dtype, bias, aligned);
    p.name = "fast linear";
    float* whole = malloc((size_t)p.floats * 4);
    check_fast(&p, whole);
    check_rows_apart(&fast, &p, whole, 0, rows < 30 ? 9 : rows, &seed);
    check_panels(&fast, &p, whole, &seed);
    free(whole);
    free_product(&p);
}

/* Whether two machines give a product the same bits. */
static int same_product(const machine* x, const machine* y, int32_t rows, int32_t dtype) {
    uint64_t seed = 5;
    problem p = make_product(&seed, LM_OP_LINEAR, rows, 704, 40, dtype, 1, 1);
    float* of_x = malloc((size_t)p.floats * 4);
    float* of_y = malloc((size_t)p.floats * 4);
    run(x, &p, of_x);
    run(y, &p, of_y);
    int same = memcmp(of_x, of_y, (size_t)p.floats * 4) == 0;
    free(of_y);
    free(of_x);
    free_product(&p);
    return same;
}

/*
 * Compute capability of the first GPU, 10 * major + minor, from the driver itself: what the library makes of it is to
 * be tested. The emulation's is 80.
 */
static int32_t capability(void) {
    enum { MAJOR = 75, MINOR = 76 }; /* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_* */
    if (backend == LM_BACKEND_CUDA_EMULATED) {
        return 80;
    }
    void* driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) {
        printf("test_cuda: %s\n", dlerror());
        exit(1);
    }
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
    int (*get)(int*, int) = (int (*)(int*, int))dlsym(driver, "cuDeviceGet");
    int (*ask)(int*, int, int) = (int (*)(int*, int, int))dlsym(driver, "cuDeviceGetAttribute");
    int device = 0;
    int major = 0;
    int minor = 0;
    CHECK(init != NULL && get != NULL && ask != NULL && init(0) == 0 && get(&device, 0) == 0 &&
              ask(&major, MAJOR, device) == 0 && ask(&minor, MINOR, device) == 0,
          "the driver does not tell the GPU's compute capability");
    dlclose(driver);
    return 10 * major + minor;
}

/* What no f16 can hold, and what is none, in some rows; the others do not feel it. */
static void test_fast_limits(int32_t rows, int32_t dtype) {
    uint64_t seed = 6;
    problem p = make_product(&seed, LM_OP_LINEAR, rows, whole_blocks(dtype, 70), 20, dtype, 0, 1);
    float* a = p.image + p.op.a.offset;
    a[3] = 1e6f;
    a[p.op.a.stride + 11] = -65519;
    a[2 * p.op.a.stride + 69] = NAN;
    if (dtype == LM_DTYPE_F16) {
        a[p.op.a.stride + 12] = -INFINITY;
    }
    float* result = malloc((size_t)p.floats * 4);
    check_fast(&p, result);
    free(result);
    free_product(&p);
}

static void test_fast_linears(void) {
    static const int32_t shapes[][4] = {
        /* rows, k, weight rows, aligned */
        {1, 1, 1, 0},       {1, 5000, 37, 1},  {8, 2100, 50, 1},   {9, 1024, 70, 1},    {64, 545, 33, 0},
        {67, 530, 40, 1},   {120, 600, 60, 1}, {120, 1500, 60, 1}, {120, 513, 128, 0},  {130, 530, 140, 1},
        {200, 1600, 20, 1}, {300, 511, 30, 0}, {300, 1031, 20, 1}, {20, 100, 520, 1},
    };
    uint64_t seed = 3000000;
    uint64_t random = 4;
    for (int i = 0; i < 2; i++) {
        int32_t dtype = i == 0 ? LM_DTYPE_F32 : LM_DTYPE_F8_E4M3;
        CHECK(same_product(&fast, &gpu, 3, dtype) && same_product(&fast, &gpu, 30, dtype),
              "products with weights of dtype %d have other bits in fast mode", dtype);
    }
    for (int i = 0; i < 3; i++) {
        int32_t dtype = (const int32_t[]){LM_DTYPE_F16, LM_DTYPE_BF16, LM_DTYPE_MXFP4}[i];
        int exact = dtype != LM_DTYPE_F16 && capability() < 80; /* such a GPU has no tensor cores for it */
        CHECK(same_product(&fast, &gpu, 3, dtype) == exact && same_product(&fast, &gpu, 30, dtype) == exact,
              "dtype %d in fast mode: %s, on a GPU of compute capability %d", dtype,
              exact ? "other bits than in exact mode" : "not computed by tensor cores", capability());
        if (exact) {
            continue;
        }
        for (int32_t rows = 1; rows <= 20; rows += step_of_shapes) {
            int32_t k = whole_blocks(dtype, random_int(&random, 1, rows % 4 == 0 ? 1300 : 90));
            test_fast_linear(seed += 10, rows, k, random_int(&random, 1, 40), dtype, rows & 1, rows % 3 == 0);
        }
        for (size_t n = 0; n < sizeof shapes / sizeof shapes[0]; n += (size_t)(step_of_shapes + 1) / 2) {
            const int32_t* s = shapes[n];
            test_fast_linear(seed += 10, s[0], whole_blocks(dtype, s[1]), s[2], dtype, n & 1, s[3]);
        }
        if (backend == LM_BACKEND_CUDA) { /* enough tiles for any GPU; then few tiles with more sums than are kept */
            test_fast_linear(seed += 10, 200, 4200, 1200, dtype, 1, 1);
            test_fast_linear(seed += 10, 300, 4200, 1201, dtype, 0, 0);
            test_fast_linear(seed += 10, 512, 8192, 600, dtype, 1, 1);
            test_fast_linear(seed += 10, 2000, 20000, 100, dtype, 1, 1);
        }
        test_fast_limits(5, dtype);
        test_fast_limits(20, dtype);
    }
    if (backend == LM_BACKEND_CUDA_EMULATED) { /* its second GPU is an older one */
        machine old;
        open_machine(&old, backend, 1, LM_MODE_FAST);
        CHECK(same_product(&old, &gpu, 3, LM_DTYPE_BF16) && same_product(&old, &gpu, 30, LM_DTYPE_BF16),
              "bf16 products are not exact on a GPU that has no tensor cores for them");
        CHECK(!same_product(&old, &gpu, 3, LM_DTYPE_F16), "f16 products are exact in fast mode");
        close_machine(&old);
    }
}

/* -- ops over rows ----------------------------------------------------------------------------------------------- */

/* Checks, frees the image. input_row_bytes: what of the inputs belongs to a row. */
static void finish_rows(problem* p, double tolerance, int64_t input_row_bytes, uint64_t* seed) {
    float* whole = malloc((size_t)p->floats * 4);
    check_problem(p, tolerance, whole);
    if (p->op.row_set == LM_ROWS_ALL) {
        check_rows_apart(&gpu, p, whole, input_row_bytes, 9, seed);
    }
    free(whole);
    free(p->image);
}

static void test_embed(uint64_t seed, int32_t rows, int32_t width, int32_t dtype) {
    int64_t offset = random_int(&seed, 0, 7);
    int64_t row_bytes = width * element_bytes(dtype);
    uint8_t* inputs = calloc(1, (size_t)(offset + rows * row_bytes));
    put_random(inputs + offset, (int64_t)rows * width, dtype, &seed);
    problem p = {.name = "embed"};
    int64_t end = 0;
    p.op = (lm_op){.code = LM_OP_EMBED, .input_offset = offset, .dtype = dtype};
    p.op.out = place(&end, rows, width, 0, &seed);
    p.step = (lm_step){.rows = rows, .inputs = inputs, .inputs_bytes = offset + rows * row_bytes};
    make_image(&p, end, &seed);
    finish_rows(&p, 0, row_bytes, &seed);
    free(inputs);
}

/* of: the vector is absent (0), of a group (1), or of a row (2). */
static void test_norm(uint64_t seed, int32_t code, int32_t rows, int32_t groups, int32_t width, int of, int in_place) {
    int32_t length = of == 0 ? 0 : of == 1 ? width : groups * width;
    float* vector = of == 0 ? NULL : random_floats(length, 1, &seed);
    problem p = {.name = code == LM_OP_RMS_NORM ? "rms_norm" : "layer_norm"};
    int64_t end = 0;
    p.op = (lm_op){.code = code, .vector = vector, .vector_length = length, .heads = groups, .epsilon = 1e-5f};
    p.op.a = place(&end, rows, groups * width, 0, &seed);
    p.op.out = in_place ? p.op.a : place(&end, rows, groups * width, 0, &seed);
    p.step = (lm_step){.rows = rows};
    make_image(&p, end, &seed);
    finish_rows(&p, 4e-6, 0, &seed);
    free(vector);
}

static void test_rope(uint64_t seed, int32_t rows, int32_t heads, int32_t head_dim, int32_t rotary_dim, int32_t kind) {
    int64_t offset = random_int(&seed, 0, 7);
    int64_t row_bytes = rotary_dim * INT64_C(4);
    uint8_t* inputs = calloc(1, (size_t)(offset + rows * row_bytes));
    put_random(inputs + offset, (int64_t)rows * rotary_dim, LM_DTYPE_F32, &seed);
    problem p = {.name = "rope"};
    int64_t end = 0;
    p.op = (lm_op){.code = LM_OP_ROPE,
                   .input_offset = offset,
                   .kind = kind,
                   .heads = heads,
                   .head_dim = head_dim,
                   .rotary_dim = rotary_dim};
    int32_t missing = random_int(&seed, 0, head_dim - rotary_dim);
    p.op.a = place(&end, rows, heads * head_dim - missing, 0, &seed);
    p.op.out = p.op.a;
    p.step = (lm_step){.rows = rows, .inputs = inputs, .inputs_bytes = offset + rows * row_bytes};
    make_image(&p, end, &seed);
    finish_rows(&p, 6e-7, row_bytes, &seed);
    free(inputs);
}

/*
 * a is `width` wide, or twice that for pairs; out is, or `share` times that. has: b is absent (0), a view (1), a
 * vector (2). where: out is a view of its own (0), or is a (1), or b (2).
 */
static void test_pointwise(uint64_t seed, int32_t code, int32_t rows, int32_t width, int32_t kind, int has, int where,
                           int32_t share) {
    int pairs = code == LM_OP_ACTIVATION && kind == LM_ACTIVATION_CLAMPED_SWIGLU;
    problem p = {.name = code == LM_OP_ADD ? "add" : code == LM_OP_SCALE ? "scale" : "activation"};
    int64_t end = 0;
    p.op = (lm_op){.code = code, .kind = kind, .scale = (float)random_int(&seed, 1, 70) * 0.3f};
    p.op.a = place(&end, rows, pairs ? 2 * width : width, 0, &seed);
    width *= share;
    p.op.b = has == 1 ? place(&end, rows, width, 0, &seed) : (lm_view){.offset = INT64_MAX};
    p.op.out = where == 0 ? place(&end, rows, width, 0, &seed) : where == 1 ? p.op.a : p.op.b;
    if (has == 2) {
        p.op.vector = random_floats(width, 1, &seed);
        p.op.vector_length = width;
    }
    p.step = (lm_step){.rows = rows};
    make_image(&p, end, &seed);
    for (int64_t i = 0; i < p.floats; i++) {
        p.image[i] *= (float)random_int(&seed, 1, 30);
    }
    finish_rows(&p, code == LM_OP_ACTIVATION ? 8e-6 : 0, 0, &seed);
    free((void*)p.op.vector);
}

static void test_gather_rows(uint64_t seed, int32_t rows, int32_t output_rows, int32_t width) {
    int32_t* index = malloc((size_t)(output_rows + 1) * 4);
    for (int32_t r = 0; r < output_rows; r++) {
        index[r] = random_int(&seed, 0, rows - 1);
    }
    problem p = {.name = "gather_rows"};
    int64_t end = 0;
    p.op = (lm_op){.code = LM_OP_GATHER_ROWS, .row_set = LM_ROWS_OUTPUT};
    p.op.out = place(&end, output_rows, width, 0, &seed);
    p.op.a = place(&end, rows, width, 0, &seed);
    p.step = (lm_step){.rows = rows, .output_rows = output_rows, .output_index = index};
    make_image(&p, end, &seed);
    finish_rows(&p, 0, 0, &seed);
    free(index);
}

/* -- rows of a list ------------------------------------------------------------------------------------------------ */

/* A step whose submission is about list_rows rows of a longer list; free list and list_weights. */
static lm_step list_step(int32_t rows, int32_t list_rows, uint64_t* seed) {
    lm_step step = {.rows = rows, .list_first = random_int(seed, 0, 9), .list_rows = list_rows};
    step.list_length = step.list_first + list_rows + random_int(seed, 0, 5);
    int32_t* list = malloc((size_t)step.list_length * 4 + 4);
    int32_t* others = malloc((size_t)rows * 4); /* rows that are not in the list */
    for (int32_t r = 0; r < rows; r++) {
        others[r] = r;
    }
    for (int32_t i = 0; i < step.list_length; i++) {
        list[i] = INT32_MIN; /* which nobody reads */
    }
    for (int32_t i = 0; i < list_rows; i++) {
        int32_t which = random_int(seed, 0, rows - i - 1);
        list[step.list_first + i] = others[which];
        others[which] = others[rows - i - 1];
    }
    free(others);
    step.list = list;
    step.list_weights = random_floats(step.list_length + 1, 1, seed);
    return step;
}

static void test_list_rows(uint64_t seed, int32_t rows, int32_t list_rows, int32_t width) {
    lm_step step = list_step(rows, list_rows, &seed);
    for (int32_t n = 0; n < 4; n++) {
        int scatter = n >= 2;
        problem p = {.name = scatter ? "scatter_add" : "gather_rows of a list"};
        int64_t end = 0;
        p.op = (lm_op){.code = scatter ? LM_OP_SCATTER_ADD : LM_OP_GATHER_ROWS, .row_set = LM_ROWS_LIST, .kind = n % 2};
        p.op.out = place(&end, scatter ? rows : list_rows, width, 0, &seed);
        p.op.a = place(&end, scatter ? list_rows : rows, width, 0, &seed);
        p.step = step;
        make_image(&p, end, &seed);
        finish_rows(&p, 0, 0, &seed);
    }
    free((void*)step.list);
    free((void*)step.list_weights);
}

/* Rows of a list have the bits of as many rows of a step: f32, and what a fast product has. */
static void test_list_products(uint64_t seed, int32_t code, int32_t rows, int32_t dtype) {
    problem p = make_product(&seed, code, rows, 96, 20, dtype, code != LM_OP_WEIGHT_NORM, 1);
    const machine* machines[] = {&gpu, &fast};
    float* expected = malloc((size_t)p.floats * 4);
    float* result = malloc((size_t)p.floats * 4);
    for (int i = 0; i < 2; i++) {
        problem q = p;
        q.step.rows = rows + 70;
        q.step.list_length = q.step.list_rows = rows;
        q.step.list = calloc((size_t)rows, 4);
        q.op.row_set = LM_ROWS_LIST;
        run(machines[i], &p, expected);
        run(machines[i], &q, result);
        CHECK(memcmp(result, expected, (size_t)p.floats * 4) == 0, "%s, dtype %d: %d rows of a list have other bits",
              p.name, dtype, rows);
        free((void*)q.step.list);
    }
    free(result);
    free(expected);
    free_product(&p);
}

/* A mixture of experts: one list for all of them, whose parts are submitted one after the other and copied once. */
static void test_experts(void) {
    enum { ROWS = 7, WIDTH = 20, EXPERTS = 4, LENGTH = 11, FLOATS = 3 * ROWS * WIDTH };
    static const int32_t firsts[EXPERTS + 1] = {0, 3, 3, 10, LENGTH};
    int32_t list[LENGTH] = {6, 0, 3, 5, 1, 0, 2, 6, 4, 3, 2};
    uint64_t seed = 14;
    float* weights = random_floats(LENGTH, 1, &seed);
    float* image = random_floats(FLOATS, 1, &seed); // (3, ROWS, WIDTH): in, packed, out
    float* memory = on_device(&gpu, image, FLOATS * 4);
    lm_view views[3];
    for (int32_t i = 0; i < 3; i++) {
        views[i] = (lm_view){i * ROWS * WIDTH, WIDTH, WIDTH};
    }
    lm_op ops[2] = {{.code = LM_OP_GATHER_ROWS, .row_set = LM_ROWS_LIST, .out = views[1], .a = views[0]},
                    {.code = LM_OP_SCATTER_ADD,
                     .row_set = LM_ROWS_LIST,
                     .out = views[2],
                     .a = views[1],
                     .kind = LM_ROWS_WEIGHTED}};
    void* handle = backend == LM_BACKEND_CUDA_EMULATED ? dlopen(library, RTLD_NOW | RTLD_LOCAL) : NULL;
    int64_t (*calls)(int32_t) = NULL;
    *(void**)&calls = handle == NULL ? NULL : dlsym(handle, "emulated_calls");
    CHECK(calls != NULL || backend == LM_BACKEND_CUDA, "%s", library);
    lm_step step = {.rows = ROWS,
                    .generation = ++generation,
                    .list_length = LENGTH,
                    .list = list,
                    .list_weights = weights,
                    .activations = memory,
                    .activations_bytes = FLOATS * 4};
    for (int again = 0; again < 2; again++) {
        int64_t copies = 0;
        for (int32_t e = 0; e < EXPERTS; e++) {
            step.list_first = firsts[e];
            step.list_rows = firsts[e + 1] - firsts[e];
            MUST(lm_submit(gpu.queue, ops, 2, &step, NULL));
            for (int32_t i = firsts[e]; i < firsts[e + 1]; i++) {
                for (int32_t c = 0; c < WIDTH; c++) {
                    float* to = &image[views[2].offset + list[i] * WIDTH + c];
                    *to = fmaf(image[list[i] * WIDTH + c], weights[i], *to);
                }
            }
            if (calls != NULL) {
                CHECK(e == 0 || again > 0 || calls(EMULATED_COPY) == copies, "expert %d: the list is copied again", e);
                copies = calls(EMULATED_COPY);
            }
        }
        list[4] = list[9]; /* who does not say so gets what he asked for all the same, */
        weights[9] = 0.1f; /* here another row and another weight */
        list[9] = 1;
    }
    float* result = malloc(FLOATS * 4);
    to_host(&gpu, result, memory, FLOATS * 4);
    CHECK(memcmp(result + views[2].offset, image + views[2].offset, ROWS * WIDTH * 4) == 0, "experts: other sums");
    if (handle != NULL) {
        dlclose(handle);
    }
    MUST(lm_device_free(gpu.device, memory, FLOATS * 4));
    free(result);
    free(image);
    free(weights);
}

static void test_lists(void) {
    uint64_t seed = 6000000;
    uint64_t shapes = 15;
    for (int32_t rows = 1; rows <= 20; rows += step_of_shapes) {
        test_list_rows(seed += 10, rows, random_int(&shapes, 1, rows), random_int(&shapes, 1, 300));
    }
    test_list_rows(seed += 10, 3, 0, 16);
    for (int32_t dtype = LM_DTYPE_F32; dtype <= LM_DTYPE_MXFP4; dtype += step_of_shapes) {
        for (int32_t rows = 3; rows <= 30; rows += 27) {
            test_list_products(seed += 10, LM_OP_LINEAR, rows, dtype);
            test_list_products(seed += 10, LM_OP_WEIGHT_NORM, rows, dtype);
            if (dtype != LM_DTYPE_MXFP4) {
                test_list_products(seed += 10, LM_OP_LINEAR_TRANSPOSED, rows, dtype);
            }
        }
    }
    test_experts();
}

static void test_row_ops(void) {
    uint64_t seed = 1000000;
    uint64_t shapes = 3;
    for (int i = 0; i < 24; i += step_of_shapes) {
        int32_t rows = i < 20 ? i + 1 : random_int(&shapes, 21, 60);
        int32_t width = random_int(&shapes, 1, 300);
        int32_t groups = random_int(&shapes, 1, 5);
        int32_t rotary_dim = 2 * random_int(&shapes, 1, 40);
        int32_t head_dim = rotary_dim + random_int(&shapes, 0, 20);
        int32_t output_rows = random_int(&shapes, 1, rows);
        test_embed(seed += 10, rows, width, i % 3);
        for (int32_t n = 0; n < 2; n++) {
            int32_t code = n == 0 ? LM_OP_RMS_NORM : LM_OP_LAYER_NORM;
            test_norm(seed += 10, code, rows, 1, width, i % 2, i & 1);
            test_norm(seed += 10, code, rows, groups, head_dim, i % 3, i & 1);
        }
        test_rope(seed += 10, rows, groups, head_dim, rotary_dim, i & 1);
        test_pointwise(seed += 10, LM_OP_ACTIVATION, rows, width, i % 10, 0, i % 10 == 9 ? 0 : i & 1, 1);
        test_pointwise(seed += 10, LM_OP_ACTIVATION, rows, width, i % 9, 1, i % 3, 1);
        test_pointwise(seed += 10, LM_OP_ACTIVATION, rows, groups, i % 9, 1, i & 2, head_dim);
        test_pointwise(seed += 10, LM_OP_ADD, rows, width, 0, 1, i % 3, 1);
        test_pointwise(seed += 10, LM_OP_ADD, rows, width, 0, 2, i & 1, 1);
        test_pointwise(seed += 10, LM_OP_SCALE, rows, width, 0, i & 2, i & 1, 1);
        test_gather_rows(seed += 10, rows, output_rows, width);
    }
    test_norm(seed += 10, LM_OP_RMS_NORM, 3, 1, 5003, 1, 1);
    test_norm(seed += 10, LM_OP_LAYER_NORM, 3, 1, 5003, 1, 1);
    test_gather_rows(seed += 10, 3, 0, 16);
}

/* -- KV cache and attention ---------------------------------------------------------------------------------------- */

static void test_attention(uint64_t seed, attention t, const int32_t* chunks, int32_t chunk_count) {
    int32_t total = 0;
    int32_t longest = 0;
    for (int32_t s = 0; s < t.sequences; s++) {
        total += t.lengths[s];
        longest = t.lengths[s] > longest ? t.lengths[s] : longest;
    }
    int64_t out_floats = (int64_t)total * t.heads * t.head_dim_v;
    float* vector = make_vector(&t, &seed);
    float* q = random_floats((int64_t)total * t.heads * t.head_dim, 4, &seed);
    float* k = random_floats((int64_t)total * t.kv_heads * t.head_dim, 1, &seed);
    float* v = random_floats((int64_t)total * t.kv_heads * t.head_dim_v, 1, &seed);
    float* expected = malloc((size_t)out_floats * 4);
    float* out = malloc((size_t)out_floats * 4);
    float* other = malloc((size_t)out_floats * 4);
    t.vector = vector;
    attention plain = t;
    plain.places = 0;
    attend(&cpu, &plain, longest, 0, q, k, v, expected);
    attend(&gpu, &plain, longest, 0, q, k, v, out);
    for (int64_t i = 0; i < out_floats; i++) {
        CHECK(fabs(out[i] - expected[i]) <= 6e-6, "attention: float %lld is %.9g, not %.9g", (long long)i, out[i],
              expected[i]);
    }
    for (int32_t i = 0; i < chunk_count; i++) {
        attend(&gpu, &t, chunks[i], 0, q, k, v, other);
        CHECK(memcmp(out, other, (size_t)out_floats * 4) == 0, "attention: chunks of %d rows give other bits",
              chunks[i]);
    }
    for (int32_t host_layers = 1; host_layers <= 2 && longest < 200; host_layers++) {
        attend(&gpu, &plain, longest, host_layers, q, k, v, other);
        CHECK(memcmp(out, other, (size_t)out_floats * 4) == 0, "attention: %d layers in host memory give other bits",
              host_layers);
    }
    free(other);
    free(out);
    free(expected);
    free(v);
    free(k);
    free(q);
    free(vector);
}

/* Of rows at one place the last one is kept, of output rows too. apart: places are others than positions. */
static void test_overwritten(int32_t dtype, int apart) {
    enum { ROWS = 300, HEADS = 2, DIM = 9, OUTPUT = 5, CAPACITY = 8 };
    uint64_t seed = 77;
    int32_t positions[ROWS];
    int32_t places[ROWS];
    int32_t sequence[ROWS];
    int32_t output_index[OUTPUT] = {299, 7, 7, 0, 150};
    for (int32_t i = 0; i < ROWS; i++) {
        positions[i] = random_int(&seed, 0, CAPACITY - 2);
        places[i] = random_int(&seed, 0, CAPACITY - 1);
        sequence[i] = random_int(&seed, 0, 1);
    }
    float* image = random_floats(ROWS * HEADS * DIM * 4, 1, &seed);
    float* results[2];
    for (int i = 0; i < 2; i++) {
        const machine* m = i == 0 ? &cpu : &gpu;
        lm_kv* kv[2];
        for (int s = 0; s < 2; s++) {
            lm_kv_layer layer = {.kv_heads = HEADS, .head_dim = DIM, .head_dim_v = DIM};
            MUST(lm_kv_create(m->device, &layer, 1, CAPACITY, dtype, 0, &kv[s]));
        }
        int64_t bytes = ROWS * HEADS * DIM * 4 * 4;
        void* memory = on_device(m, image, bytes);
        int32_t width = HEADS * DIM;
        lm_view views[4];
        for (int32_t n = 0; n < 4; n++) {
            views[n] = (lm_view){n * (int64_t)ROWS * width, width, width};
        }
        lm_op ops[3] = {
            {.code = LM_OP_KV_STORE, .a = views[0], .b = views[1]},
            {.code = LM_OP_ATTENTION, .out = views[3], .a = views[2], .heads = HEADS, .head_dim = DIM, .scale = 1},
            {.code = LM_OP_KV_STORE, .row_set = LM_ROWS_OUTPUT, .a = views[2], .b = views[2]},
        };
        lm_op output = ops[1];
        output.row_set = LM_ROWS_OUTPUT;
        output.out = views[1]; /* its values are stored */
        lm_step step = {.rows = ROWS,
                        .output_rows = OUTPUT,
                        .sequences = 2,
                        .branch_width = apart,
                        .generation = ++generation,
                        .positions = positions,
                        .sequence = sequence,
                        .branch = places,
                        .output_index = output_index,
                        .kv = kv,
                        .activations = memory,
                        .activations_bytes = bytes};
        MUST(lm_submit(m->queue, ops, 3, &step, NULL));
        MUST(lm_submit(m->queue, &output, 1, &step, NULL));
        results[i] = malloc((size_t)bytes);
        to_host(m, results[i], memory, bytes);
        MUST(lm_device_free(m->device, memory, bytes));
        for (int s = 0; s < 2; s++) {
            MUST(lm_kv_destroy(kv[s]));
        }
    }
    for (int32_t i = 0; i < ROWS * HEADS * DIM * 4; i++) {
        CHECK(fabs(results[1][i] - results[0][i]) <= 6e-6, "overwritten: float %d is %.9g, not %.9g", i, results[1][i],
              results[0][i]);
    }
    free(results[1]);
    free(results[0]);
    free(image);
}

static void test_attentions(void) {
    uint64_t seed = 2000000;
    const int32_t few[] = {1, 7, 40};
    const int32_t many[] = {300};
    int32_t first = step_of_shapes == 1 ? LM_DTYPE_F32 : LM_DTYPE_F16;
    for (int32_t dtype = first; dtype <= LM_DTYPE_F16; dtype++) {
        test_attention(seed += 10, (attention){2, 2, 16, 16, 0, dtype, 1, .lengths = {9}}, few, 2);
        test_attention(seed += 10, (attention){4, 2, 17, 13, 0, dtype, 2, .lengths = {40, 21}}, few, 3);
        test_attention(seed += 10, (attention){3, 1, 8, 40, 5, dtype, 3, .lengths = {3, 30, 17}}, few, 3);
        test_attention(seed += 10, (attention){6, 3, 1, 1, 1, dtype, 1, .lengths = {20}}, few, 2);
        test_attention(seed += 10, (attention){2, 1, 24, 8, 130, dtype, 1, .lengths = {290}}, few + 2, 1);
        test_attention(seed += 10, (attention){2, 1, 300, 270, 0, dtype, 1, .lengths = {10}}, few, 2);
        test_attention(seed += 10, (attention){1, 1, 9001, 3, 0, dtype, 1, .lengths = {3}}, few, 1);
        test_overwritten(dtype, 0);
        test_overwritten(dtype, 1);
    }
    /* Segments: together in one block of threads, then spread over blocks. */
    if (step_of_shapes == 1) {
        test_attention(seed += 10, (attention){2, 1, 4, 6, 0, LM_DTYPE_F16, 1, .lengths = {1100}}, many, 1);
    }
    test_attention(seed += 10, (attention){2, 1, 4, 6, 120, LM_DTYPE_F32, 1, .lengths = {1200}}, many, 1);
}

/* Scores that are capped, biased, or have a sink beside them; chunks; latent layers, and those with few places. */
static void test_further_attentions(void) {
    uint64_t seed = 7000000;
    const int32_t few[] = {1, 7, 40};
    for (int32_t dtype = step_of_shapes == 1 ? LM_DTYPE_F32 : LM_DTYPE_F16; dtype <= LM_DTYPE_F16; dtype++) {
        attention t = {4, 2, 16, 24, 0, dtype, 2, .lengths = {40, 21}};
        t.softcap = 1.5f;
        test_attention(seed += 10, t, few, 2);
        t.kind = LM_ATTENTION_ALIBI;
        test_attention(seed += 10, t, few, 2);
        t.softcap = 0;
        t.kind = LM_ATTENTION_SINKS;
        test_attention(seed += 10, t, few, 2);
        t.kind = LM_ATTENTION_PLAIN;
        t.chunk = 9;
        t.places = 15;
        test_attention(seed += 10, t, few, 2);
        t.window = 8; /* which reaches into the chunk before */
        test_attention(seed += 10, t, few, 2);
        test_attention(seed += 10, (attention){3, 1, 8, 40, 5, dtype, 3, .lengths = {3, 30, 17}, .places = 11}, few, 2);
        test_attention(seed += 10, (attention){6, 3, 1, 1, 1, dtype, 1, .lengths = {20}, .places = 1}, few, 1);
        t = (attention){2, 1, 24, 8, 130, dtype, 1, .lengths = {290}, .places = 136};
        test_attention(seed += 10, t, few + 1, 1);
        test_attention(seed += 10, (attention){6, 1, 40, 33, 0, dtype, 2, .lengths = {20, 7}, .latent = 1}, few, 2);
        t = (attention){4, 2, 9, 9, 3, dtype, 1, .lengths = {30}, .latent = 1, .places = 9};
        test_attention(seed += 10, t, few, 2);
        test_attention(seed += 10, (attention){3, 1, 576, 512, 0, dtype, 1, .lengths = {5}, .latent = 1}, few, 1);
    }
    /* Many heads, and values that are computed in two parts. */
    const attention two_parts = {4, 2, 8, 260, 0, LM_DTYPE_F16, 2, .lengths = {20, 9}};
    const attention many_heads = {48, 1, 8, 12, 0, LM_DTYPE_F32, 1, .lengths = {15}};
    for (int32_t kind = LM_ATTENTION_ALIBI; kind <= LM_ATTENTION_SINKS; kind++) {
        attention t = two_parts;
        t.kind = kind;
        test_attention(seed += 10, t, few, 2);
        t = many_heads;
        t.kind = kind;
        test_attention(seed += 10, t, few, 2);
    }
    /* Segments, spread over blocks of threads: the sink is beside all of them. */
    attention t = {2, 1, 4, 6, 120, LM_DTYPE_F32, 1, .lengths = {1200}, .places = 450};
    t.kind = LM_ATTENTION_SINKS;
    const int32_t many[] = {300};
    test_attention(seed += 10, t, many, 1);
}

static void test_branches(uint64_t seed, attention shape, const int32_t* nodes, int32_t chain, int32_t spare,
                          int32_t most) {
    float* vector = make_vector(&shape, &seed);
    shape.vector = vector;
    forest f = make_forest(shape, nodes, chain, spare, &seed);
    float* expected = attend_paths(&gpu, &f);
    check_forest(&gpu, &f, most, expected, seed);
    free(expected);
    free_forest(f);
    free(vector);
}

static void test_all_branches(void) {
    uint64_t seed = 8000000;
    const int32_t few[] = {9, 20, 12};
    const int32_t more[] = {150, 10};
    test_branches(seed += 10, (attention){1, 1, 1, 1, 0, LM_DTYPE_F32, 1, .lengths = {1}}, few, 40, 0, 3);
    test_branches(seed += 10, (attention){4, 2, 16, 16, 0, LM_DTYPE_F32, 3, .lengths = {0, 20, 125}}, few, 60, 40, 15);
    test_branches(seed += 10, (attention){6, 3, 9, 40, 5, LM_DTYPE_F16, 2, .lengths = {3, 126}}, few, 60, 2000, 20);
    test_branches(seed += 10, (attention){2, 1, 8, 300, 0, LM_DTYPE_F16, 2, .lengths = {100, 3}}, more, 96, 0, 100);
    test_branches(seed += 10, (attention){1, 1, 9001, 3, 0, LM_DTYPE_F32, 1, .lengths = {2}}, few, 60, 1, 5);
    attention t = {6, 2, 9, 8, 5, LM_DTYPE_F16, 2, .lengths = {30, 20}, .latent = 1, .places = 50};
    t.kind = LM_ATTENTION_ALIBI;
    t.softcap = 2;
    test_branches(seed += 10, t, few, 60, 5, 15);
    /* Segments: spread over blocks of threads, then together in one. */
    test_branches(seed += 10, (attention){2, 1, 4, 6, 0, LM_DTYPE_F16, 1, .lengths = {1018}}, few, 70, 100, 9);
    test_branches(seed += 10, (attention){300, 1, 4, 2, 130, LM_DTYPE_F32, 1, .lengths = {1020}}, few, 90, 100, 9);
}

/*
 * -- states ---------------------------------------------------------------------------------------------------------
 */

/* An op over rows of sequences that have a state: operands of all rows, one sequence after the other. */
typedef struct recurrence {
    lm_op op; /* with the widths of out, a and b */
    lm_kv_layer layer;
    int32_t sequences;
    int32_t lengths[3]; /* rows of each sequence */
    float* a;      // (rows, a.width)
    float* b;      // (rows, b.width)
    float* vector; // (vector_length)
} recurrence;

/*
 * Gives out of each row. A step has up to `most` rows of each sequence, mixed at random, and sometimes none of one; the
 * second of two layers has the state, and the last host_layers of them are in host memory.
 */
static void run_recurrence(const machine* m, const recurrence* c, int32_t most, int32_t host_layers, uint64_t seed,
                           float* out) {
    const lm_kv_layer layers[2] = {{.kv_heads = 1, .head_dim = 3, .head_dim_v = 5}, c->layer};
    int32_t stride = c->op.a.width + c->op.b.width + c->op.out.width + 3;
    int32_t base[3];
    int32_t done[3] = {0};
    int32_t states[3] = {-1, -1, -1};
    lm_kv* kv[3];
    int32_t left = 0;
    for (int32_t s = 0; s < c->sequences; s++) {
        MUST(lm_kv_create(m->device, layers, 2, 7, LM_DTYPE_F16, host_layers, &kv[s]));
        base[s] = left;
        left += c->lengths[s];
    }
    int64_t floats = (int64_t)most * c->sequences * stride;
    float* image = random_floats(floats, 1, &seed);
    float* memory = on_device(m, image, floats * 4);
    float* vector = on_device(m, c->vector, c->op.vector_length * 4);
    int32_t* sequence = malloc((size_t)(most * c->sequences) * 4);
    int32_t* number = malloc((size_t)(most * c->sequences) * 4); /* of each row among all */
    lm_op op = c->op;
    op.a = (lm_view){0, stride, c->op.a.width};
    op.b = (lm_view){c->op.a.width, stride, c->op.b.width};
    op.out = (lm_view){c->op.a.width + c->op.b.width + 2, stride, c->op.out.width};
    op.vector = vector;
    op.layer = 1;
    while (left > 0) {
        int32_t wanted[3] = {0};
        int32_t rows = 0;
        for (int32_t s = 0; s < c->sequences; s++) {
            int32_t rest = c->lengths[s] - done[s];
            wanted[s] = random_int(&seed, 0, 3) == 0 ? 0 : rest < most ? rest : random_int(&seed, 1, most);
            rows += wanted[s];
        }
        for (int32_t i = 0; i < rows; i++) {
            int32_t s = random_int(&seed, 0, c->sequences - 1);
            while (wanted[s] == 0) {
                s = (s + 1) % c->sequences;
            }
            wanted[s]--;
            sequence[i] = s;
            number[i] = base[s] + done[s]++;
            memcpy(image + i * stride, c->a + (int64_t)number[i] * op.a.width, (size_t)op.a.width * 4);
            if (op.b.width > 0) {
                memcpy(image + i * stride + op.b.offset, c->b + (int64_t)number[i] * op.b.width,
                       (size_t)op.b.width * 4);
            }
        }
        if (rows == 0) {
            continue;
        }
        lm_step step = {.rows = rows,
                        .sequences = c->sequences,
                        .generation = ++generation,
                        .sequence = sequence,
                        .states = states,
                        .kv = kv,
                        .activations = memory,
                        .activations_bytes = floats * 4};
        MUST(lm_copy_to_device(m->queue, memory, image, floats * 4, NULL));
        MUST(lm_submit(m->queue, &op, 1, &step, NULL));
        to_host(m, image, memory, floats * 4);
        for (int32_t i = 0; i < rows; i++) {
            memcpy(out + (int64_t)number[i] * op.out.width, image + i * stride + op.out.offset,
                   (size_t)op.out.width * 4);
        }
        for (int32_t s = 0; s < c->sequences; s++) {
            int32_t any = 0;
            for (int32_t i = 0; i < rows; i++) {
                any |= sequence[i] == s;
            }
            states[s] = any ? states[s] == 0 : states[s];
        }
        left -= rows;
    }
    for (int32_t s = 0; s < c->sequences; s++) {
        MUST(lm_kv_destroy(kv[s]));
    }
    MUST(lm_device_free(m->device, memory, floats * 4));
    MUST(lm_device_free(m->device, vector, c->op.vector_length * 4));
    free(number);
    free(sequence);
    free(image);
}

static void test_recurrence(uint64_t seed, recurrence c, double tolerance) {
    int32_t rows = 0;
    int32_t longest = 0;
    for (int32_t s = 0; s < c.sequences; s++) {
        rows += c.lengths[s];
        longest = c.lengths[s] > longest ? c.lengths[s] : longest;
    }
    const char* name = c.op.code == LM_OP_CONVOLUTION ? "convolution" : "delta_rule";
    int64_t floats = (int64_t)rows * c.op.out.width;
    c.a = random_floats((int64_t)rows * c.op.a.width, 2, &seed);
    c.b = random_floats((int64_t)rows * c.op.b.width + 1, 3, &seed);
    c.vector = random_floats(c.op.vector_length, 1, &seed);
    for (int32_t i = 0; c.op.code == LM_OP_DELTA_RULE && i < c.layer.kv_heads; i++) {
        c.vector[i] = -fabsf(c.vector[i]); /* states decay */
    }
    float* expected = malloc((size_t)floats * 4);
    float* out = malloc((size_t)floats * 4);
    float* other = malloc((size_t)floats * 4);
    run_recurrence(&cpu, &c, longest, 0, seed, expected);
    run_recurrence(&gpu, &c, longest, 0, seed, out);
    for (int64_t i = 0; i < floats; i++) {
        CHECK(fabs(out[i] - expected[i]) <= tolerance * (1 + fabs(expected[i])),
              "%s: row %lld, element %lld is %.9g, not %.9g", name, (long long)(i / c.op.out.width),
              (long long)(i % c.op.out.width), out[i], expected[i]);
    }
    for (int32_t most = 1; most <= 5; most += 2) {
        run_recurrence(&gpu, &c, most, most % 3, seed + (uint64_t)most, other);
        CHECK(memcmp(out, other, (size_t)floats * 4) == 0, "%s: up to %d rows of a sequence give other bits", name,
              most);
    }
    free(other);
    free(out);
    free(expected);
    free(c.vector);
    free(c.b);
    free(c.a);
}

static void test_convolution(uint64_t seed, int32_t width, int32_t taps, int32_t kind, recurrence c) {
    c.op = (lm_op){.code = LM_OP_CONVOLUTION, .kind = kind, .vector_length = (int64_t)width * taps};
    c.op.a.width = c.op.out.width = width;
    c.layer = (lm_kv_layer){.kv_heads = 1, .head_dim = taps - 1, .head_dim_v = width, .kind = LM_KV_STATE};
    test_recurrence(seed, c, 8e-6);
}

/* Of heads of K floats, and value_heads of V. */
static void test_delta_rule(uint64_t seed, int32_t heads, int32_t K, int32_t value_heads, int32_t V, recurrence c) {
    c.op = (lm_op){.code = LM_OP_DELTA_RULE,
                   .vector_length = 2 * value_heads,
                   .heads = heads,
                   .scale = 0.3f,
                   .epsilon = 1e-6f};
    c.op.a.width = 2 * heads * K + value_heads * V;
    c.op.b.width = 2 * value_heads;
    c.op.out.width = value_heads * V;
    c.layer = (lm_kv_layer){.kv_heads = value_heads, .head_dim = K, .head_dim_v = V, .kind = LM_KV_STATE};
    test_recurrence(seed, c, 1e-5);
}

static void test_states(void) {
    uint64_t seed = 9000000;
    const recurrence one = {.sequences = 1, .lengths = {9}};
    const recurrence three = {.sequences = 3, .lengths = {7, 1, 12}};
    test_convolution(seed += 10, 1, 2, LM_ACTIVATION_IDENTITY, one);
    test_convolution(seed += 10, 300, 4, LM_ACTIVATION_SILU, three);
    test_convolution(seed += 10, 40, 9, LM_ACTIVATION_IDENTITY, three); /* a state of more rows than a step has */
    test_delta_rule(seed += 10, 1, 1, 1, 1, one);
    test_delta_rule(seed += 10, 2, 16, 2, 8, three);
    test_delta_rule(seed += 10, 2, 13, 6, 19, three);
    test_delta_rule(seed += 10, 1, 128, 2, 128, one);
    test_delta_rule(seed += 10, 1, 3, 3, 50, three);
    test_delta_rule(seed += 10, 1, 500, 1, 9, one); /* columns that do not fit into shared memory */
}

/* -- more of all, and larger --------------------------------------------------------------------------------------- */

static void test_round_of_products(uint64_t seed, uint64_t* shapes) {
    int32_t dtype = random_int(shapes, LM_DTYPE_F32, LM_DTYPE_MXFP4);
    int32_t rows = random_int(shapes, 1, 80);
    int32_t k = whole_blocks(dtype, random_int(shapes, 1, 1500));
    int32_t n = random_int(shapes, 1, 70);
    int32_t bias = random_int(shapes, 0, 1);
    int32_t aligned = random_int(shapes, 0, 1);
    test_linear(seed, rows, k, n, dtype, bias, aligned);
    test_product(seed + 1, LM_OP_WEIGHT_NORM, rows, k, n, dtype, 0, aligned);
    if (dtype != LM_DTYPE_MXFP4) {
        test_product(seed + 2, LM_OP_LINEAR_TRANSPOSED, rows, k, n, dtype, bias, aligned);
    }
    int32_t list_rows = random_int(shapes, 0, rows);
    test_list_rows(seed + 3, rows, list_rows, k);
    test_list_products(seed + 4, LM_OP_LINEAR, rows, dtype);
}

static void test_round_of_rows(uint64_t seed, uint64_t* shapes) {
    int32_t dtype = random_int(shapes, LM_DTYPE_F32, LM_DTYPE_BF16);
    int32_t rows = random_int(shapes, 1, 80);
    int32_t width = random_int(shapes, 1, 3000);
    int32_t groups = random_int(shapes, 1, 12);
    int32_t rotary_dim = 2 * random_int(shapes, 1, 130);
    int32_t head_dim = rotary_dim + random_int(shapes, 0, 60);
    int32_t any = random_int(shapes, 0, 1);
    int32_t some = random_int(shapes, 0, 2);
    int32_t kind = random_int(shapes, LM_ACTIVATION_SILU, LM_ACTIVATION_SOFT_CAP);
    int32_t output_rows = random_int(shapes, 1, rows);
    test_embed(seed, rows, width, dtype);
    test_norm(seed + 1, LM_OP_RMS_NORM, rows, 1, width, some, any);
    test_norm(seed + 2, LM_OP_LAYER_NORM, rows, 1, width, some, any);
    test_norm(seed + 3, any ? LM_OP_RMS_NORM : LM_OP_LAYER_NORM, rows, groups, head_dim, some, any);
    test_rope(seed + 4, rows, groups, head_dim, rotary_dim, any ? LM_ROPE_HALF : LM_ROPE_INTERLEAVED);
    test_pointwise(seed + 5, LM_OP_ACTIVATION, rows, width, kind, any, any ? some : some % 2, 1);
    test_pointwise(seed + 6, LM_OP_ACTIVATION, rows, head_dim, kind, 1, some / 2 * 2, groups);
    test_pointwise(seed + 7, LM_OP_ACTIVATION, rows, width, LM_ACTIVATION_CLAMPED_SWIGLU, 0, 0, 1);
    test_pointwise(seed + 8, LM_OP_ADD, rows, width, 0, any ? 1 : 2, any ? some : some % 2, 1);
    test_pointwise(seed + 9, LM_OP_SCALE, rows, width, 0, any * 2, some % 2, 1);
    test_gather_rows(seed + 10, rows, output_rows, width);
}

static void test_round_of_sequences(uint64_t seed, uint64_t* shapes) {
    for (int32_t several = 0; several < 2; several++) { /* segments */
        attention t = several ? random_long_attention(shapes) : random_attention(90, shapes);
        int32_t most = most_rows(&t);
        int32_t chunks[2] = {random_int(shapes, 1, 90), random_int(shapes, 200, 700)};
        int32_t chunk = chunks[several] < most ? chunks[several] : most;
        test_attention(seed + (uint64_t)several, t, &chunk, 1);
    }
    recurrence c = {.sequences = random_int(shapes, 1, 3)};
    for (int32_t s = 0; s < c.sequences; s++) {
        c.lengths[s] = random_int(shapes, 1, 40);
    }
    int32_t width = random_int(shapes, 1, 300);
    int32_t taps = random_int(shapes, 2, 65);
    int32_t silu = random_int(shapes, 0, 1);
    test_convolution(seed + 2, width, taps, silu ? LM_ACTIVATION_SILU : LM_ACTIVATION_IDENTITY, c);
    int32_t heads = random_int(shapes, 1, 3);
    int32_t value_heads = heads * random_int(shapes, 1, 3);
    int32_t K = random_int(shapes, 1, 140);
    int32_t V = random_int(shapes, 1, 140);
    test_delta_rule(seed + 3, heads, K, value_heads, V, c);
}

/* -- queues, memory, messages ------------------------------------------------------------------------------------ */

static void test_queues(void) {
    lm_queue* other;
    int64_t ticket = 0;
    MUST(lm_queue_create(gpu.device, &other));
    MUST(lm_wait(other, 0));
    float values[64];
    void* memory;
    void* copy;
    MUST(lm_device_alloc(gpu.device, sizeof values, &memory));
    MUST(lm_device_alloc(gpu.device, sizeof values, &copy));
    MUST(lm_copy_to_device(other, memory, values, 0, &ticket));
    MUST(lm_queue_after(gpu.queue, other, ticket)); /* nothing was ever done there */
    MUST(lm_wait(other, ticket));
    for (int i = 0; i < 200; i++) { /* more than a queue tells apart, some of them empty */
        values[i % 64] = (float)i;
        MUST(lm_copy_to_device(other, memory, values, i % 3 == 0 ? 0 : (int64_t)sizeof values, &ticket));
        MUST(lm_queue_after(gpu.queue, other, ticket - i % 70 > 0 ? ticket - i % 70 : 0));
        MUST(lm_wait(other, ticket));
        if (i % 3 != 0) {
            float got[64];
            to_host(&gpu, got, memory, sizeof got);
            CHECK(memcmp(got, values, sizeof got) == 0, "copy %d", i);
        }
    }
    MUST(lm_wait(other, 1));
    MUST(lm_queue_after(other, other, ticket));
    MUST(lm_device_free(gpu.device, copy, sizeof values));
    MUST(lm_device_free(gpu.device, memory, sizeof values));
    MUST(lm_queue_destroy(other));
}

/* Two queues hand memory to each other, and nobody waits but at the end. */
static void test_queues_by_turns(void) {
    enum { TURNS = 100, FLOATS = 64 };
    int64_t bytes = TURNS * FLOATS * (int64_t)sizeof(float);
    lm_queue* other;
    float* from; // (TURNS, FLOATS), page-locked like the next
    float* to;   // (TURNS, FLOATS)
    float* place; // (FLOATS) of the device
    MUST(lm_queue_create(gpu.device, &other));
    MUST(lm_host_alloc(gpu.device, bytes, (void**)&from));
    MUST(lm_host_alloc(gpu.device, bytes, (void**)&to));
    MUST(lm_device_alloc(gpu.device, FLOATS * sizeof(float), (void**)&place));
    int64_t taken = 0;
    for (int i = 0; i < TURNS; i++) {
        int64_t put;
        for (int f = 0; f < FLOATS; f++) {
            from[i * FLOATS + f] = (float)(i * FLOATS + f);
        }
        MUST(lm_queue_after(other, gpu.queue, taken));
        MUST(lm_copy_to_device(other, place, from + i * FLOATS, FLOATS * sizeof(float), &put));
        MUST(lm_queue_after(gpu.queue, other, put));
        MUST(lm_copy_to_host(gpu.queue, to + i * FLOATS, place, FLOATS * sizeof(float), &taken));
    }
    MUST(lm_wait(gpu.queue, taken));
    CHECK(memcmp(to, from, (size_t)bytes) == 0, "float %g came first, not %g", to[0], from[0]);
    MUST(lm_device_free(gpu.device, place, FLOATS * sizeof(float)));
    MUST(lm_host_free(gpu.device, to, bytes));
    MUST(lm_host_free(gpu.device, from, bytes));
    MUST(lm_queue_destroy(other));
}

/* What one GPU computed goes to the next through host memory, and nothing waits in between. */
static void test_two_devices(void) {
    enum { FLOATS = 1000, TURNS = 20 };
    int32_t count;
    MUST(lm_device_count(backend, &count));
    if (count < 2) {
        printf("test_cuda: one GPU: nothing goes from one to another\n");
        return;
    }
    machine second;
    int64_t bytes = FLOATS * (int64_t)sizeof(float);
    float* host; // (FLOATS), page-locked like the next
    float* back; // (FLOATS)
    float* here; // (FLOATS) of the first
    float* there; // (FLOATS) of the second
    MUST(lm_device_open(&(lm_device_options){.backend = backend, .ordinal = 1}, &second.device));
    MUST(lm_queue_create(second.device, &second.queue));
    MUST(lm_host_alloc(gpu.device, bytes, (void**)&host));
    MUST(lm_host_alloc(gpu.device, bytes, (void**)&back));
    MUST(lm_device_alloc(gpu.device, bytes, (void**)&here));
    MUST(lm_device_alloc(second.device, bytes, (void**)&there));
    for (int i = 0; i < FLOATS; i++) {
        host[i] = (float)i;
    }
    MUST(lm_copy_to_device(gpu.queue, here, host, bytes, NULL));
    lm_view view = {0, FLOATS, FLOATS};
    lm_op twice = {.code = LM_OP_ADD, .out = view, .a = view, .b = view, .scale = 1};
    for (int i = 0; i < TURNS; i++) { /* there and back, doubled each time */
        int64_t ticket;
        lm_step step = {.rows = 1, .generation = i + 1, .activations = here, .activations_bytes = bytes};
        MUST(lm_submit(gpu.queue, &twice, 1, &step, NULL));
        MUST(lm_copy_to_host(gpu.queue, host, here, bytes, &ticket));
        MUST(lm_queue_after(second.queue, gpu.queue, ticket));
        MUST(lm_copy_to_device(second.queue, there, host, bytes, NULL));
        step.activations = there;
        MUST(lm_submit(second.queue, &twice, 1, &step, NULL));
        MUST(lm_copy_to_host(second.queue, back, there, bytes, &ticket));
        MUST(lm_queue_after(gpu.queue, second.queue, ticket));
        MUST(lm_copy_to_device(gpu.queue, here, back, bytes, NULL));
    }
    to_host(&gpu, host, here, bytes);
    for (int i = 0; i < FLOATS; i++) {
        CHECK(host[i] == (float)i * 0x1p40f, "float %d is %g", i, host[i]);
    }
    MUST(lm_device_free(second.device, there, bytes));
    MUST(lm_device_free(gpu.device, here, bytes));
    MUST(lm_host_free(gpu.device, back, bytes));
    MUST(lm_host_free(gpu.device, host, bytes));
    MUST(lm_queue_destroy(second.queue));
    MUST(lm_device_close(second.device));
}

/* Each device reads into memory of its own alone; cuFile is open while there are files, and may have a detour only. */
static void test_files(void) {
    int emulated = backend == LM_BACKEND_CUDA_EMULATED;
    lm_device* device;
    lm_queue* queue;
    lm_device_file* file;
    if (!test_device_files(gpu.device, gpu.queue, emulated ? 1 : -1) || !emulated) {
        return;
    }
    setenv("CUFILE_FORCE_COMPAT_MODE", "true", 1);
    MUST(lm_device_open(&(lm_device_options){.backend = backend, .ordinal = 1}, &device));
    MUST(lm_queue_create(device, &queue));
    test_device_files(device, queue, 0);
    setenv("CUFILE_ALLOW_COMPAT_MODE", "false", 1);
    REFUSES(lm_device_file_open(device, library, &file), LM_ERROR_UNSUPPORTED, "the nvidia-fs driver is not loaded");
    CHECK(file == NULL, "a file beside an error");
    unsetenv("CUFILE_ALLOW_COMPAT_MODE");
    unsetenv("CUFILE_FORCE_COMPAT_MODE");
    void* memory;
    int64_t read;
    MUST(lm_device_alloc(gpu.device, 4096, &memory));
    MUST(lm_device_file_open(device, library, &file));
    INVALID(lm_device_file_read(file, memory, 4096, 0, &read), "of the file's device");
    MUST(lm_device_file_close(file));
    MUST(lm_device_free(gpu.device, memory, 4096));
    MUST(lm_queue_destroy(queue));
    MUST(lm_device_close(device));
}

/* What a step brings is kept while its generation lasts, and read anew after it, also where it has grown. */
static void test_generations(void) {
    enum { ROWS = 3, MOST = 4096 };
    static float inputs[ROWS * MOST];
    static float got[ROWS * MOST];
    void* memory;
    MUST(lm_device_alloc(gpu.device, sizeof got, &memory));
    for (int32_t width = 16; width <= MOST; width *= 16) {
        for (int32_t again = 0; again < 3; again++) {
            lm_step step = {.rows = ROWS,
                            .generation = again == 0 ? ++generation : generation,
                            .activations = memory,
                            .activations_bytes = sizeof got,
                            .inputs = inputs,
                            .inputs_bytes = ROWS * width * 4};
            lm_op op = {.code = LM_OP_EMBED, .out = {0, width, width}, .dtype = LM_DTYPE_F32};
            for (int32_t i = 0; again == 0 && i < ROWS * width; i++) {
                inputs[i] = (float)(i + width);
            }
            MUST(lm_submit(gpu.queue, &op, 1, &step, NULL));
            to_host(&gpu, got, memory, ROWS * width * 4);
            CHECK(memcmp(got, inputs, (size_t)(ROWS * width) * 4) == 0, "width %d, submission %d", width, again);
        }
    }
    lm_device_info info;
    MUST(lm_device_get_info(gpu.device, &info));
    int64_t before = info.free_bytes;
    MUST(lm_queue_trim(gpu.queue));
    MUST(lm_device_get_info(gpu.device, &info));
    CHECK(backend == LM_BACKEND_CUDA || info.free_bytes > before, "trimming gives back %lld bytes",
          (long long)(info.free_bytes - before));
    MUST(lm_queue_trim(gpu.queue)); /* nothing is there any more */
    MUST(lm_device_free(gpu.device, memory, sizeof got));
}

/*
 * A step's ops read parts of its inputs, in any order, more of them than a queue remembers, and some of them again;
 * what no op reads is not looked at: the bytes before and behind those fault.
 */
static void test_parts_of_inputs(void) {
    enum { ROWS = 3, PARTS = 20, WIDTH = 32, PART = ROWS * WIDTH, FLOATS = PARTS * PART };
    uint64_t seed = 11;
    static float got[PART];
    void* memory;
    MUST(lm_device_alloc(gpu.device, sizeof got, &memory));
    guarded readable = guarded_alloc(FLOATS * 4, 1);
    float* inputs = (float*)readable.data; // (PARTS, ROWS, WIDTH)
    int64_t before = 4096 - FLOATS * 4 % 4096; /* to the page that faults, and one byte of that */
    for (int again = 0; again < 3; again++) {
        generation++;
        for (int32_t i = 0; i < FLOATS; i++) {
            inputs[i] = random_float(&seed);
        }
        for (int i = 0; i < 60; i++) {
            int32_t row = random_int(&seed, 0, PARTS * ROWS - 1);
            int32_t rows = random_int(&seed, 1, PARTS * ROWS - row < ROWS ? PARTS * ROWS - row : ROWS);
            lm_step step = {.rows = rows,
                            .generation = generation,
                            .activations = memory,
                            .activations_bytes = sizeof got,
                            .inputs = readable.data - before - 1,
                            .inputs_bytes = before + 1 + FLOATS * 4 + 4096};
            lm_op op = {.code = LM_OP_EMBED,
                        .out = {0, WIDTH, WIDTH},
                        .input_offset = before + 1 + row * WIDTH * 4,
                        .dtype = LM_DTYPE_F32};
            MUST(lm_submit(gpu.queue, &op, 1, &step, NULL));
            to_host(&gpu, got, memory, rows * WIDTH * 4);
            CHECK(memcmp(got, inputs + row * WIDTH, (size_t)(rows * WIDTH) * 4) == 0,
                  "rows %d to %d, submission %d", row, row + rows - 1, i);
        }
    }
    guarded_free(readable);
    MUST(lm_device_free(gpu.device, memory, sizeof got));
}

/* Who says that nothing changed where something did gets what he asked for all the same, or a refusal. */
static void test_broken_promises(void) {
    enum { DIM = 4, FLOATS = 4 * DIM };
    const lm_kv_layer layer = {.kv_heads = 1, .head_dim = DIM, .head_dim_v = DIM};
    lm_kv* caches[2];
    for (int i = 0; i < 2; i++) {
        MUST(lm_kv_create(gpu.device, &layer, 1, 8, LM_DTYPE_F32, 0, &caches[i]));
    }
    float image[FLOATS] = {1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 1, 0}; // keys, values, query, out
    float* memory = on_device(&gpu, image, sizeof image);
    lm_op ops[2] = {{.code = LM_OP_KV_STORE, .a = {0, DIM, DIM}, .b = {DIM, DIM, DIM}},
                    {.code = LM_OP_ATTENTION,
                     .out = {3 * DIM, DIM, DIM},
                     .a = {2 * DIM, DIM, DIM},
                     .heads = 1,
                     .head_dim = DIM,
                     .scale = 1}};
    int32_t position = 7;
    int32_t sequence = 0;
    lm_kv* used[2] = {caches[0], caches[0]};
    lm_step step = {.rows = 1,
                    .sequences = 1,
                    .generation = ++generation,
                    .positions = &position,
                    .sequence = &sequence,
                    .kv = used,
                    .activations = memory,
                    .activations_bytes = sizeof image};
    MUST(lm_submit(gpu.queue, ops, 2, &step, NULL));
    position = 0;
    used[0] = caches[1];
    MUST(lm_submit(gpu.queue, ops, 2, &step, NULL));
    to_host(&gpu, image, memory, sizeof image);
    CHECK(memcmp(image + 3 * DIM, image + DIM, DIM * 4) == 0, "of position 0 alone, attention gives %g",
          image[3 * DIM]);

    lm_op add = {.code = LM_OP_ADD, .out = {0, DIM, DIM}, .a = {0, DIM, DIM}, .b = {DIM, DIM, DIM}, .scale = 1};
    step.kv = NULL; /* which this op does not need */
    MUST(lm_submit(gpu.queue, &add, 1, &step, NULL));
    MUST(lm_queue_trim(gpu.queue));
    lm_step bare = {
        .rows = 1, .generation = ++generation, .activations = memory, .activations_bytes = sizeof image};
    MUST(lm_submit(gpu.queue, &add, 1, &bare, NULL));
    bare.positions = &position; /* arrays that were not there before */
    bare.sequence = &sequence;
    MUST(lm_submit(gpu.queue, &add, 1, &bare, NULL));
    step.kv = used;
    used[0] = caches[0];
    step.sequences = 2;
    INVALID(lm_submit(gpu.queue, ops, 2, &step, NULL), "step.kv[0] is step.kv[1] too");
    step.sequences = 1;
    step.inputs = memory;
    step.inputs_bytes = sizeof image;
    INVALID(lm_submit(gpu.queue, ops, 2, &step, NULL), "are memory of the device");
    step.inputs = image;
    step.inputs_bytes = INT64_MAX;
    INVALID(lm_submit(gpu.queue, ops, 2, &step, NULL), "inputs_bytes is");
    MUST(lm_wait(gpu.queue, 0));
    MUST(lm_device_free(gpu.device, memory, sizeof image));
    MUST(lm_kv_destroy(caches[0]));
    MUST(lm_kv_destroy(caches[1]));
}

/*
 * Submits an op, changes some bytes of what a step brings, and submits it again as if nothing had changed: it must be
 * computed with what is there now.
 */
static void check_change(const lm_op* op, lm_step step, void* at, const void* now, size_t bytes, const char* what) {
    enum { FLOATS = 8 };
    float results[3][FLOATS]; /* before; after it, in silence; after it, told */
    uint8_t before[8];
    memcpy(before, at, bytes);
    for (int i = 0; i < 3; i++) {
        memcpy(at, i == 0 ? before : now, bytes);
        step.generation = i == 1 ? generation : ++generation;
        MUST(lm_submit(gpu.queue, op, 1, &step, NULL));
        to_host(&gpu, results[i], (float*)step.activations + op->out.offset, sizeof results[i]);
    }
    memcpy(at, before, bytes);
    CHECK(memcmp(results[1], results[2], sizeof results[1]) == 0, "what step.%s had before is used", what);
    CHECK(memcmp(results[0], results[2], sizeof results[0]) != 0, "step.%s makes no difference", what);
}

/* Each array of a step changes by itself. Two sequences have something else at each place. */
static void test_silent_changes(void) {
    enum { ROWS = 2, DIM = 4, FLOATS = ROWS * DIM, VIEWS = 5 };
    const lm_kv_layer layers[2] = {{.kv_heads = 1, .head_dim = DIM, .head_dim_v = DIM},
                                   {.kv_heads = 1, .head_dim = 1, .head_dim_v = DIM, .kind = LM_KV_STATE}};
    uint64_t seed = 15;
    float* image = random_floats(VIEWS * FLOATS, 1, &seed);
    float* memory = on_device(&gpu, image, VIEWS * FLOATS * 4);
    float* taps = on_device(&gpu, image, FLOATS * 4); // (DIM, 2)
    lm_view views[VIEWS];
    for (int32_t i = 0; i < VIEWS; i++) {
        views[i] = (lm_view){i * FLOATS, DIM, DIM};
    }
    int32_t positions[ROWS];
    int32_t sequence[ROWS] = {0, 1};
    int32_t branch[ROWS] = {1, 1};
    int32_t output_index[ROWS] = {0, 0};
    int32_t list[ROWS] = {0, 1};
    float list_weights[ROWS] = {0.5f, 2};
    int32_t states[2] = {-1, -1};
    lm_kv* kv[2];
    MUST(lm_kv_create(gpu.device, layers, 2, 4, LM_DTYPE_F32, 0, &kv[0]));
    MUST(lm_kv_create(gpu.device, layers, 2, 4, LM_DTYPE_F32, 0, &kv[1]));
    const lm_step bare = {.rows = ROWS, .activations = memory, .activations_bytes = VIEWS * FLOATS * 4};
    lm_step step = bare;
    step.sequences = 2;
    step.positions = positions;
    step.sequence = sequence;
    step.kv = kv;
    for (int32_t i = 2; i >= 0; i--) { /* fills places 0 to 2 of both */
        lm_op store = {.code = LM_OP_KV_STORE, .a = views[i], .b = views[i + 1]};
        positions[0] = positions[1] = i;
        step.generation = ++generation;
        MUST(lm_submit(gpu.queue, &store, 1, &step, NULL));
    }
    lm_op attention = {
        .code = LM_OP_ATTENTION, .out = views[4], .a = views[0], .heads = 1, .head_dim = DIM, .scale = 1};
    positions[0] = positions[1] = 1;
    check_change(&attention, step, &positions[1], &(int32_t){2}, 4, "positions");
    check_change(&attention, step, &sequence[1], &(int32_t){0}, 4, "sequence");
    check_change(&attention, step, &kv[1], &kv[0], sizeof kv[0], "kv");
    step.branch = branch;
    step.branch_width = 1;
    check_change(&attention, step, &branch[1], &(int32_t){2}, 4, "branch");

    step.branch_width = 0;
    step.states = states;
    lm_op convolution = {.code = LM_OP_CONVOLUTION,
                         .out = views[4],
                         .a = views[0],
                         .vector = taps,
                         .vector_length = FLOATS,
                         .kind = LM_ACTIVATION_IDENTITY,
                         .layer = 1};
    check_change(&convolution, step, &states[1], &(int32_t){0}, 4, "states"); /* the half that has been written */

    step = bare;
    step.output_rows = ROWS;
    step.output_index = output_index;
    lm_op gather = {.code = LM_OP_GATHER_ROWS, .row_set = LM_ROWS_OUTPUT, .out = views[4], .a = views[0]};
    check_change(&gather, step, &output_index[1], &(int32_t){1}, 4, "output_index");

    step = bare;
    step.list_length = ROWS;
    step.list_rows = 1;
    step.list = list;
    step.list_weights = list_weights;
    gather.row_set = LM_ROWS_LIST;
    gather.kind = LM_ROWS_WEIGHTED;
    check_change(&gather, step, &list[0], &(int32_t){1}, 4, "list");
    check_change(&gather, step, &list_weights[0], &(float){4}, 4, "list_weights");
    MUST(lm_device_free(gpu.device, taps, FLOATS * 4));
    MUST(lm_device_free(gpu.device, memory, VIEWS * FLOATS * 4));
    MUST(lm_kv_destroy(kv[0]));
    MUST(lm_kv_destroy(kv[1]));
    free(image);
}

static void test_memory(void) {
    static const int64_t sizes[] = {1, 4096, 100001, 5000000};
    for (int i = 0; i < 4; i++) {
        uint8_t* memory;
        uint8_t* of_host;
        uint8_t* bytes = malloc((size_t)sizes[i]);
        MUST(lm_device_alloc(gpu.device, sizes[i], (void**)&memory));
        MUST(lm_host_alloc(gpu.device, sizes[i], (void**)&of_host));
        CHECK((uintptr_t)memory % 4096 == 0, "device memory of %lld bytes at %p", (long long)sizes[i], (void*)memory);
        CHECK((uintptr_t)of_host % 4096 == 0, "host memory of %lld bytes at %p", (long long)sizes[i], (void*)of_host);
        memset(of_host, 1, (size_t)sizes[i]);
        to_host(&gpu, of_host, memory, sizes[i]);
        memset(bytes, 0, (size_t)sizes[i]);
        CHECK(memcmp(of_host, bytes, (size_t)sizes[i]) == 0, "device memory is not zeroed");
        memset(bytes, 0xff, (size_t)sizes[i]); /* for the next one that gets it */
        MUST(lm_copy_to_device(gpu.queue, memory, bytes, sizes[i], NULL));
        MUST(lm_host_free(gpu.device, of_host, sizes[i]));
        MUST(lm_wait(gpu.queue, 0));
        to_host(&gpu, bytes, memory, sizes[i]);
        MUST(lm_device_free(gpu.device, memory, sizes[i]));
        free(bytes);
    }
    void* none;
    REFUSES(lm_device_alloc(gpu.device, INT64_MAX / 2, &none), LM_ERROR_OUT_OF_MEMORY,
            "bytes of GPU memory asked for, there are");
}

/* Memory of the wrong side is refused: a kernel that used it would end the GPU for this process. */
static void test_sides(void) {
    enum { FLOATS = 64, BYTES = FLOATS * 4 };
    float* memory;
    float* other;
    void* host;
    _Alignas(64) float mine[FLOATS] = {0};
    MUST(lm_device_alloc(gpu.device, BYTES, (void**)&memory));
    MUST(lm_device_alloc(gpu.device, BYTES, (void**)&other));
    MUST(lm_host_alloc(gpu.device, BYTES, &host));
    lm_op op = {.code = LM_OP_LINEAR,
                .out = {32, 4, 4},
                .a = {0, 8, 8},
                .vector = other,
                .vector_length = 4,
                .weight_rows = 4,
                .weight_stride = 32,
                .dtype = LM_DTYPE_F32};
    lm_step good = {.rows = 2,
                    .generation = ++generation,
                    .activations = memory,
                    .activations_bytes = BYTES,
                    .panel = other + 16,
                    .panel_bytes = 32 * 4};
    void* const wrong[] = {mine, host, memory + FLOATS};
    for (int i = 0; i < 3; i++) {
        lm_step step = good;
        step.activations = wrong[i];
        INVALID(lm_submit(gpu.queue, &op, 1, &step, NULL), "step.activations, 256 bytes at");
        step = good;
        step.panel = wrong[i];
        INVALID(lm_submit(gpu.queue, &op, 1, &step, NULL), "op 0 (linear): step.panel, 128 bytes at");
        lm_op bad = op;
        bad.vector = wrong[i];
        INVALID(lm_submit(gpu.queue, &bad, 1, &good, NULL), "op 0 (linear): vector, 16 bytes at");
        bad = op;
        bad.dtype = LM_DTYPE_F8_E4M3;
        bad.scales = wrong[i];
        bad.scales_length = 1;
        bad.scale_stride = 1;
        INVALID(lm_submit(gpu.queue, &bad, 1, &good, NULL), "op 0 (linear): scales, 4 bytes at");
        INVALID(lm_copy_to_device(gpu.queue, wrong[i], mine, BYTES, NULL), "lm_copy_to_device: the destination, 256");
        INVALID(lm_copy_to_host(gpu.queue, mine, wrong[i], BYTES, NULL), "lm_copy_to_host: the source, 256 bytes");
    }
    lm_step step = good;
    step.activations_bytes = BYTES + 4;
    INVALID(lm_submit(gpu.queue, &op, 1, &step, NULL), "step.activations, 260 bytes at");
    step = good;
    step.panel = other + 33; /* of its 32 floats the last one is beyond */
    INVALID(lm_submit(gpu.queue, &op, 1, &step, NULL), "not all within one lm_device_alloc");
    INVALID(lm_copy_to_device(gpu.queue, memory + 1, mine, BYTES, NULL), "not all within one lm_device_alloc");
    INVALID(lm_copy_to_device(gpu.queue, memory, other, BYTES, NULL), "the source, 256 bytes");
    INVALID(lm_copy_to_host(gpu.queue, memory, other, BYTES, NULL), "the destination, 256 bytes");
    MUST(lm_copy_to_device(gpu.queue, memory, mine, 0, NULL));
    step = good;
    step.panel = mine; /* which no op reads */
    lm_op add = {.code = LM_OP_ADD, .out = op.a, .a = op.a, .b = op.a, .scale = 1};
    MUST(lm_submit(gpu.queue, &add, 1, &step, NULL));
    step = good;
    step.panel = other + 32; /* and just so it fits */
    step.generation = ++generation;
    MUST(lm_submit(gpu.queue, &op, 1, &step, NULL));
    to_host(&gpu, host, memory + 63, 4);
    MUST(lm_host_free(gpu.device, host, BYTES));
    MUST(lm_device_free(gpu.device, other, BYTES));
    INVALID(lm_submit(gpu.queue, &op, 1, &good, NULL), "step.panel, 128 bytes at"); /* it was freed */
    MUST(lm_device_free(gpu.device, memory, BYTES));
}

static void test_devices(void) {
    lm_device* device;
    lm_device_info info;
    MUST(lm_device_get_info(gpu.device, &info));
    CHECK(info.backend == backend && info.unified == 0 && info.memory_bytes > 0 && info.threads == 0
              && info.simd == 0 && info.simd_supported == 0 && info.name[0] != 0,
          "%s: backend %d, %lld bytes", info.name, info.backend, (long long)info.memory_bytes);
    int64_t free_before = info.free_bytes;
    void* taken;
    MUST(lm_device_alloc(gpu.device, 64 << 20, &taken));
    MUST(lm_device_get_info(gpu.device, &info));
    /* others may free memory of a GPU meanwhile */
    CHECK(free_before <= info.memory_bytes
              && (backend == LM_BACKEND_CUDA || info.free_bytes <= free_before - (64 << 20)),
          "%lld bytes free, then %lld", (long long)free_before, (long long)info.free_bytes);
    MUST(lm_device_free(gpu.device, taken, 64 << 20));
    INVALID(lm_device_open(&(lm_device_options){.backend = backend, .ordinal = 1000}, &device), "there is no GPU 1000");
    MUST(lm_backend_load(backend, "loaded already"));

    void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    lm_backend_entry entry = NULL;
    if (handle != NULL) {
        *(void**)&entry = dlsym(handle, LM_BACKEND_ENTRY);
    }
    CHECK(entry != NULL, "%s", library);
    lm_host others[] = {
        {.abi = LM_ABI_VERSION + 1, .backend = backend, .size_backend = sizeof(lm_backend)},
        {.abi = LM_ABI_VERSION, .backend = backend + 1, .size_backend = sizeof(lm_backend)},
        {.abi = LM_ABI_VERSION, .backend = backend, .size_backend = sizeof(lm_backend) + 8},
    };
    for (int i = 0; i < 3; i++) {
        CHECK(entry != NULL && entry(&others[i]) == NULL, "a library for another host is taken (%d)", i);
    }
}

int main(int argc, char** argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "few") == 0) {
            step_of_shapes = 7;
        } else {
            library = argv[i];
            backend = LM_BACKEND_CUDA;
        }
    }
    MUST(lm_backend_load(backend, library));
    open_machine(&cpu, LM_BACKEND_CPU, 0, LM_MODE_EXACT);
    open_machine(&gpu, backend, 0, LM_MODE_EXACT);
    open_machine(&fast, backend, 0, LM_MODE_FAST);
    test_devices();
    test_memory();
    test_sides();
    test_queues();
    test_queues_by_turns();
    test_two_devices();
    test_files();
    test_generations();
    test_parts_of_inputs();
    test_broken_promises();
    test_silent_changes();
    test_row_ops();
    test_lists();
    test_linears();
    test_other_products();
    test_all_nans();
    test_fast_linears();
    test_attentions();
    test_further_attentions();
    test_all_branches();
    test_states();
    uint64_t shapes = 6;
    for (int round = 0; round < asked_rounds(); round++) {
        uint64_t seed = 3000000 + 100 * (uint64_t)round;
        test_round_of_products(seed, &shapes);
        test_round_of_rows(seed + 20, &shapes);
        test_round_of_sequences(seed + 40, &shapes);
    }
    close_machine(&fast);
    close_machine(&gpu);
    close_machine(&cpu);
    return finish_tests("test_cuda");
}
