/* test_api.c: every wrong argument that can be noticed gives a status and a message, and right ones work. */
#define _GNU_SOURCE
#include "test.h"

#include <math.h>

static lm_device* device;
static lm_queue* queue;

static void test_abi(void) {
    lm_abi abi;
    MUST(lm_get_abi(&abi));
    CHECK(abi.version == LM_ABI_VERSION && abi.size_abi == sizeof(lm_abi)
              && abi.size_device_options == sizeof(lm_device_options) && abi.size_device_info == sizeof(lm_device_info)
              && abi.size_kv_layer == sizeof(lm_kv_layer) && abi.size_view == sizeof(lm_view)
              && abi.size_op == sizeof(lm_op) && abi.size_step == sizeof(lm_step) && abi.size_read == sizeof(lm_read)
              && abi.size_read_result == sizeof(lm_read_result),
          "sizes");
    INVALID(lm_get_abi(NULL), "out is null");
    INVALID(lm_last_error(NULL, 5), "out is null");
    char small[8] = "1234567";
    INVALID(lm_last_error(small, 0), "capacity");
    MUST(lm_last_error(small, 8));
    CHECK(strcmp(small, "lm_last") == 0, "cut to %s", small);
}

static void test_devices(void) {
    lm_device* d;
    lm_device_options options = {0};
    INVALID(lm_device_open(NULL, &d), "options is null");
    INVALID(lm_device_open(&options, NULL), "out is null");
    MUST(lm_backend_load(LM_BACKEND_CPU, ""));
    INVALID(lm_backend_load(9, "x"), "no backend 9");
    INVALID(lm_backend_load(LM_BACKEND_CUDA_EMULATED, NULL), "path is null");
    REFUSES(lm_backend_load(LM_BACKEND_CUDA_EMULATED, "/no/such.so"), LM_ERROR_UNSUPPORTED, "/no/such.so");
    REFUSES(lm_device_open(&(lm_device_options){.backend = 9}, &d), LM_ERROR_UNSUPPORTED, "backend 9 is not loaded");
    INVALID(lm_device_open(&(lm_device_options){.ordinal = 1}, &d), "no device 1");
    INVALID(lm_device_open(&(lm_device_options){.ordinal = -1}, &d), "ordinal is -1");
    INVALID(lm_device_open(&(lm_device_options){.threads = -1}, &d), "-1 threads");
    INVALID(lm_device_open(&(lm_device_options){.threads = 100000}, &d), "100000 threads");
    REFUSES(lm_device_open(&(lm_device_options){.simd = 77}, &d), LM_ERROR_UNSUPPORTED, "77");
    int32_t supported = supported_simd();
    for (int32_t simd = LM_SIMD_PLAIN; simd <= LM_SIMD_NEON; simd++) {
        static const char* const names[] = {"", "plain", "avx2", "avx512", "neon"};
        setenv("LAMINA_SIMD", names[simd], 1);
        for (int by_name = 0; by_name < 2; by_name++) {
            options = (lm_device_options){.threads = 1, .simd = by_name ? LM_SIMD_AUTO : simd};
            if (supported & 1 << simd) {
                lm_device_info info;
                MUST(lm_device_open(&options, &d));
                MUST(lm_device_get_info(d, &info));
                CHECK(info.simd == simd && info.threads == 1 && info.unified == 1 && info.name[0] != 0, "%d",
                      info.simd);
                MUST(lm_device_close(d));
            } else {
                REFUSES(lm_device_open(&options, &d), LM_ERROR_UNSUPPORTED, names[simd]);
                CHECK(d == NULL, "a device beside an error");
            }
        }
    }
    setenv("LAMINA_SIMD", "sse9", 1);
    REFUSES(lm_device_open(&(lm_device_options){0}, &d), LM_ERROR_UNSUPPORTED, "LAMINA_SIMD=sse9");
    MUST(lm_device_open(&(lm_device_options){.simd = LM_SIMD_PLAIN}, &d)); /* asked for in the options: it counts */
    MUST(lm_device_close(d));
    unsetenv("LAMINA_SIMD");
    MUST(lm_device_close(NULL));
    lm_device_info info;
    INVALID(lm_device_get_info(NULL, &info), "device is null");
    INVALID(lm_device_get_info(device, NULL), "out is null");
}

static void test_memory(void) {
    void* p;
    INVALID(lm_host_alloc(NULL, 1, &p), "device is null");
    INVALID(lm_host_alloc(device, 1, NULL), "out is null");
    INVALID(lm_host_alloc(device, 0, &p), "0 bytes");
    INVALID(lm_device_alloc(device, -1, &p), "-1 bytes");
    REFUSES(lm_device_alloc(device, INT64_MAX, &p), LM_ERROR_OUT_OF_MEMORY, "could not be had");
    REFUSES(lm_host_alloc(device, INT64_C(1) << 60, &p), LM_ERROR_OUT_OF_MEMORY, "could not be had");
    CHECK(p == NULL, "memory beside an error");
    static const int64_t sizes[] = {1, 4096, 5000, (2 << 20) - 1, 2 << 20, (5 << 20) + 3};
    for (int i = 0; i < 6; i++) {
        MUST(lm_host_alloc(device, sizes[i], &p));
        CHECK((uintptr_t)p % (sizes[i] >= 2 << 20 ? 2 << 20 : 4096) == 0, "%lld bytes at %p", (long long)sizes[i], p);
        memset(p, 1, (size_t)sizes[i]);
        INVALID(lm_host_free(device, p, sizes[i] + 1), "no open allocation");
        INVALID(lm_host_free(device, (char*)p + 1, sizes[i]), "no open allocation");
        INVALID(lm_device_free(device, p, sizes[i]), "no open allocation");
        MUST(lm_host_free(device, p, sizes[i]));
        INVALID(lm_host_free(device, p, sizes[i]), "no open allocation");
        MUST(lm_device_alloc(device, sizes[i], &p));
        for (int64_t b = 0; b < sizes[i]; b++) {
            CHECK(((uint8_t*)p)[b] == 0, "byte %lld is not zero", (long long)b);
        }
        MUST(lm_device_free(device, p, sizes[i]));
    }
    MUST(lm_host_free(device, NULL, 0));
    INVALID(lm_device_free(NULL, p, 1), "device is null");
}

static void test_lifetimes(void) {
    lm_device* d;
    lm_queue* q;
    lm_kv* kv;
    void* p;
    lm_kv_layer layer = {.kv_heads = 1, .head_dim = 1, .head_dim_v = 1};
    MUST(lm_device_open(&(lm_device_options){.threads = 2}, &d));
    MUST(lm_queue_create(d, &q));
    INVALID(lm_device_close(d), "1 queues, KV caches or files and 0 allocations");
    MUST(lm_queue_destroy(q));
    MUST(lm_kv_create(d, &layer, 1, 1, LM_DTYPE_F32, 0, &kv));
    MUST(lm_host_alloc(d, 10, &p));
    INVALID(lm_device_close(d), "1 queues, KV caches or files and 1 allocations");
    MUST(lm_host_free(d, p, 10));
    MUST(lm_kv_destroy(kv));
    MUST(lm_device_close(d));
    MUST(lm_queue_destroy(NULL));
    MUST(lm_kv_destroy(NULL));
    INVALID(lm_queue_create(NULL, &q), "device is null");
    INVALID(lm_queue_create(device, NULL), "out is null");
}

static void test_kv(void) {
    int64_t bytes;
    lm_kv* kv;
    lm_kv_layer layers[2] = {{.kv_heads = 2, .head_dim = 64, .head_dim_v = 32},
                             {.kv_heads = 1, .head_dim = 16, .head_dim_v = 16}};
    MUST(lm_kv_bytes(layers, 2, 10, LM_DTYPE_F32, &bytes));
    CHECK(bytes == (2 * 10 * 64 + 2 * 10 * 32 + 2 * 10 * 16) * 4, "%lld bytes", (long long)bytes);
    MUST(lm_kv_bytes(layers, 2, 10, LM_DTYPE_F16, &bytes));
    CHECK(bytes == (2 * 10 * 64 + 2 * 10 * 32 + 2 * 10 * 16) * 2, "%lld bytes", (long long)bytes);
    static const struct {
        lm_kv_layer layer;
        int64_t floats; /* of 10 positions */
    } further[] = {
        {{.kv_heads = 2, .head_dim = 64, .head_dim_v = 32, .places = 4}, 2 * 4 * (64 + 32)},
        {{.kv_heads = 2, .head_dim = 64, .head_dim_v = 32, .places = 11}, 2 * 10 * (64 + 32)},
        {{.kv_heads = 2, .head_dim = 64, .head_dim_v = 32, .kind = LM_KV_LATENT}, 2 * 10 * 64},
        {{.kv_heads = 2, .head_dim = 64, .head_dim_v = 64, .kind = LM_KV_LATENT, .places = 3}, 2 * 3 * 64},
        {{.kv_heads = 2, .head_dim = 3, .head_dim_v = 64, .kind = LM_KV_STATE}, 2 * 2 * 3 * 64},
    };
    for (int i = 0; i < 5; i++) {
        MUST(lm_kv_bytes(&further[i].layer, 1, 10, LM_DTYPE_F32, &bytes));
        CHECK(bytes == further[i].floats * 4, "%d: %lld bytes", i, (long long)bytes);
        MUST(lm_kv_bytes(&further[i].layer, 1, 10, LM_DTYPE_F16, &bytes));
        CHECK(bytes == further[i].floats * (further[i].layer.kind == LM_KV_STATE ? 4 : 2), "%d: %lld bytes", i,
              (long long)bytes);
        lm_kv_layer bad = further[i].layer;
        bad.places = -1;
        INVALID(lm_kv_bytes(&bad, 1, 10, LM_DTYPE_F32, &bytes), "layer 0 has -1 places");
        bad.places = 0;
        bad.kind = i < 2 ? -1 : 3;
        INVALID(lm_kv_bytes(&bad, 1, 10, LM_DTYPE_F32, &bytes), "unknown kind");
    }
    lm_kv_layer state = further[4].layer;
    state.places = 1;
    INVALID(lm_kv_bytes(&state, 1, 10, LM_DTYPE_F32, &bytes), "a state has none");
    lm_kv_layer latent = further[2].layer;
    latent.head_dim_v = 65;
    INVALID(lm_kv_bytes(&latent, 1, 10, LM_DTYPE_F32, &bytes), "head_dim_v 65 above head_dim 64");
    lm_kv_layer large = {.kv_heads = 65536, .head_dim = 65536, .head_dim_v = 65536, .kind = LM_KV_STATE};
    MUST(lm_kv_bytes(&large, 1, 1, LM_DTYPE_F16, &bytes));
    CHECK(bytes == INT64_C(1) << 51, "%lld bytes", (long long)bytes);
    INVALID(lm_kv_bytes(NULL, 2, 10, LM_DTYPE_F32, &bytes), "layers is null");
    INVALID(lm_kv_bytes(layers, 0, 10, LM_DTYPE_F32, &bytes), "layer_count is 0");
    INVALID(lm_kv_bytes(layers, 2, 0, LM_DTYPE_F32, &bytes), "capacity is 0");
    INVALID(lm_kv_bytes(layers, 2, 10, LM_DTYPE_BF16, &bytes), "dtype 2");
    INVALID(lm_kv_bytes(layers, 2, 10, LM_DTYPE_F32, NULL), "out is null");
    INVALID(lm_kv_create(NULL, layers, 2, 10, LM_DTYPE_F32, 0, &kv), "device is null");
    INVALID(lm_kv_create(device, layers, 2, 10, LM_DTYPE_F32, 0, NULL), "out is null");
    for (int field = 0; field < 3; field++) {
        static const int32_t wrong[] = {0, -1, INT32_MAX};
        for (int i = 0; i < 3; i++) {
            lm_kv_layer bad = layers[0];
            *(field == 0 ? &bad.kv_heads : field == 1 ? &bad.head_dim : &bad.head_dim_v) = wrong[i];
            INVALID(lm_kv_create(device, &bad, 1, 10, LM_DTYPE_F32, 0, &kv), "layer 0 has");
            CHECK(kv == NULL, "a cache beside an error");
        }
    }
    INVALID(lm_kv_create(device, layers, 2, 10, LM_DTYPE_F32, -1, &kv), "host_layers is -1");
    INVALID(lm_kv_create(device, layers, 2, 10, LM_DTYPE_F32, 3, &kv), "host_layers is 3");
    lm_kv_layer huge = {.kv_heads = 65536, .head_dim = 65536, .head_dim_v = 65536};
    INVALID(lm_kv_bytes(&huge, 1, INT32_MAX, LM_DTYPE_F32, &bytes), "64 bits");
    REFUSES(lm_kv_create(device, &huge, 1, 100000, LM_DTYPE_F32, 0, &kv), LM_ERROR_OUT_OF_MEMORY, "could not be had");
}

static void test_queue(void) {
    int64_t ticket;
    char from[8] = "lamina";
    char to[8] = "";
    MUST(lm_copy_to_device(queue, to, from, 8, &ticket));
    CHECK(strcmp(to, from) == 0, "%s", to);
    MUST(lm_wait(queue, ticket));
    INVALID(lm_wait(queue, ticket + 1), "ticket");
    INVALID(lm_wait(queue, -1), "ticket -1");
    INVALID(lm_wait(NULL, 0), "queue is null");
    MUST(lm_queue_after(queue, queue, ticket));
    INVALID(lm_queue_after(queue, queue, ticket + 1), "ticket");
    INVALID(lm_queue_after(queue, NULL, 0), "other is null");
    MUST(lm_copy_to_host(queue, NULL, NULL, 0, NULL));
    INVALID(lm_copy_to_host(queue, NULL, from, 8, NULL), "destination memory is null");
    INVALID(lm_copy_to_host(queue, to, NULL, 8, NULL), "source memory is null");
    INVALID(lm_copy_to_device(queue, to, from, -8, NULL), "-8 bytes");
    INVALID(lm_copy_to_device(NULL, to, from, 8, NULL), "queue is null");
}

/* -- submissions: a right one for each op, and one thing wrong at a time ----------------------------------------- */

enum { FLOATS = 4096, ROWS = 4 };

static _Alignas(64) float activations[FLOATS];
static uint8_t inputs[1024];
static uint8_t panel[1024];
static float vector[64];
static const int32_t positions[ROWS] = {0, 1, 2, 7};
static const int32_t sequence[ROWS] = {0, 0, 1, 1};
static const int32_t output_index[2] = {3, 1};
static const int32_t list[4] = {-1, 3, 1, 99};
static lm_kv* caches[2];
static lm_kv* other_shape;
static lm_kv* other_device;

static const int32_t codes[] = {
    LM_OP_EMBED,      LM_OP_RMS_NORM, LM_OP_LINEAR,      LM_OP_ROPE,       LM_OP_KV_STORE, LM_OP_ATTENTION,
    LM_OP_ACTIVATION, LM_OP_ADD,      LM_OP_GATHER_ROWS, LM_OP_LAYER_NORM, LM_OP_SCALE,    LM_OP_LINEAR_TRANSPOSED,
    LM_OP_WEIGHT_NORM, LM_OP_SCATTER_ADD,
};

enum { CODES = sizeof codes / sizeof codes[0] };

static lm_step good_step(void) {
    return (lm_step){.rows = ROWS,
                     .output_rows = 2,
                     .sequences = 2,
                     .positions = positions,
                     .sequence = sequence,
                     .output_index = output_index,
                     .list_length = 4,
                     .list_first = 1,
                     .list_rows = 2,
                     .list = list,
                     .list_weights = vector,
                     .kv = caches,
                     .activations = activations,
                     .activations_bytes = sizeof activations,
                     .inputs = inputs,
                     .inputs_bytes = sizeof inputs,
                     .panel = panel,
                     .panel_bytes = sizeof panel};
}

static lm_op good_op(int32_t code) {
    lm_op op = {.code = code,
                .out = {0, 100, 32},
                .a = {400, 100, 32},
                .b = {800, 100, 32},
                .vector = vector,
                .heads = 4,
                .head_dim = 8,
                .rotary_dim = 8,
                .layer = 0,
                .scale = 1,
                .epsilon = 1e-5f};
    switch (code) {
    case LM_OP_RMS_NORM:
    case LM_OP_LAYER_NORM:
        op.vector_length = 8;
        break;
    case LM_OP_SCALE:
        op.vector_length = 32;
        break;
    case LM_OP_LINEAR:
        op.out.width = 4;
        op.weight_rows = 4;
        op.weight_stride = 128;
        op.weight_offset = 512;
        op.vector_length = 4;
        break;
    case LM_OP_LINEAR_TRANSPOSED:
        op.weight_rows = 4;
        op.weight_stride = 128;
        op.weight_offset = 512;
        op.a.width = 4;
        op.vector_length = 32;
        break;
    case LM_OP_WEIGHT_NORM:
        op.out.width = op.a.width = op.weight_rows = 4;
        op.columns = 32;
        op.weight_stride = 128;
        op.weight_offset = 512;
        break;
    case LM_OP_ROPE:
        op.a = op.out;
        break;
    case LM_OP_KV_STORE:
        op.a.width = op.b.width = 16;
        break;
    case LM_OP_GATHER_ROWS:
        op.row_set = LM_ROWS_OUTPUT;
        break;
    case LM_OP_SCATTER_ADD:
        op.row_set = LM_ROWS_LIST;
        break;
    }
    return op;
}

/* Runs the op `code` with changes made to op or step, and looks for the message. */
#define WRONG(op_code, change, text)                                                                                   \
    do {                                                                                                               \
        lm_op op = good_op(op_code);                                                                                   \
        lm_step step = good_step();                                                                                    \
        change;                                                                                                        \
        (void)step;                                                                                                    \
        int64_t ticket = 0;                                                                                            \
        INVALID(lm_submit(queue, &op, 1, &step, &ticket), text);                                                       \
        CHECK(ticket == 0, "a ticket beside an error");                                                                \
    } while (0)

/* The places of the rows' last three positions; -1 is of positions below 0. */
static const int32_t good_branch[ROWS * 3] = {7, -1, -1, 0, 7, -1, 3, 2, 1, 0, 6, 7};

/* WRONG for a step with branches, of which something is changed. */
#define WRONG_BRANCH(op_code, change, text)                                                                            \
    do {                                                                                                               \
        int32_t branch[ROWS * 3];                                                                                      \
        memcpy(branch, good_branch, sizeof branch);                                                                    \
        WRONG(op_code, (step.branch_width = 3, step.branch = branch, change), text);                                   \
    } while (0)

static void test_good_ops(void) {
    for (int i = 0; i < CODES; i++) {
        lm_op op = good_op(codes[i]);
        lm_step step = good_step();
        int64_t ticket;
        MUST(lm_submit(queue, &op, 1, &step, &ticket));
        MUST(lm_wait(queue, ticket));
    }
    static const int32_t of_list[] = {LM_OP_GATHER_ROWS, LM_OP_LINEAR,   LM_OP_LINEAR_TRANSPOSED,
                                      LM_OP_WEIGHT_NORM, LM_OP_ADD,      LM_OP_ACTIVATION,
                                      LM_OP_SCALE,       LM_OP_RMS_NORM, LM_OP_LAYER_NORM};
    lm_step step = good_step();
    for (int i = 0; i < 9; i++) {
        lm_op op = good_op(of_list[i]);
        op.row_set = LM_ROWS_LIST;
        step.list_weights = NULL;
        MUST(lm_submit(queue, &op, 1, &step, NULL));
        step.list_rows = 0;
        MUST(lm_submit(queue, &op, 1, &step, NULL));
        step = good_step();
    }
    MUST(lm_submit(queue, NULL, 0, &step, NULL));
    lm_op op = good_op(LM_OP_LINEAR); /* rows of two views that alternate in memory do not overlap */
    op.out = (lm_view){0, 64, 4};
    op.a = (lm_view){32, 64, 32};
    MUST(lm_submit(queue, &op, 1, &step, NULL));
    op = good_op(LM_OP_GATHER_ROWS); /* two rows right before the rows that they come from */
    op.out = (lm_view){0, 32, 32};
    op.a = (lm_view){64, 32, 32};
    MUST(lm_submit(queue, &op, 1, &step, NULL));
    step.output_rows = 0;
    MUST(lm_submit(queue, &op, 1, &step, NULL));
    for (int i = 0; i < 3; i++) { /* a vector may be absent, and for norms as wide as a row */
        op = good_op(((const int32_t[]){LM_OP_RMS_NORM, LM_OP_LAYER_NORM, LM_OP_SCALE})[i]);
        op.vector_length = 32;
        MUST(lm_submit(queue, &op, 1, &step, NULL));
        op.vector = NULL;
        MUST(lm_submit(queue, &op, 1, &step, NULL));
    }
    op = good_op(LM_OP_ADD);
    op.b.width = 0;
    op.vector_length = 32;
    MUST(lm_submit(queue, &op, 1, &step, NULL));
    op = good_op(LM_OP_ROPE); /* the last 4 floats of each head, and the first 4 of the next */
    op.out.width = op.a.width = 28;
    op.rotary_dim = 4;
    MUST(lm_submit(queue, &op, 1, &step, NULL));
    op = good_op(LM_OP_ACTIVATION);
    op.a.width = 4;
    MUST(lm_submit(queue, &op, 1, &step, NULL));
    op = good_op(LM_OP_ACTIVATION);
    op.kind = LM_ACTIVATION_CLAMPED_SWIGLU;
    op.a.width = 64;
    op.b.width = 0;
    MUST(lm_submit(queue, &op, 1, &step, NULL));
    for (int32_t code = LM_OP_KV_STORE; code <= LM_OP_ATTENTION; code++) { /* rows that no op uses may be wrong */
        int32_t branch[ROWS * 3];
        memcpy(branch, good_branch, sizeof branch);
        op = good_op(code);
        step = good_step();
        step.branch_width = 3;
        step.branch = branch;
        MUST(lm_submit(queue, &op, 1, &step, NULL));
        branch[0] = branch[6] = 8;
        op.row_set = LM_ROWS_OUTPUT;
        MUST(lm_submit(queue, &op, 1, &step, NULL));
    }
}

static void test_steps(void) {
    lm_step step = good_step();
    lm_op op = good_op(LM_OP_ADD);
    INVALID(lm_submit(NULL, &op, 1, &step, NULL), "queue is null");
    INVALID(lm_submit(queue, NULL, 1, &step, NULL), "ops is null");
    INVALID(lm_submit(queue, &op, -1, &step, NULL), "count is -1");
    INVALID(lm_submit(queue, &op, 1, NULL, NULL), "step is null");
    WRONG(LM_OP_ADD, step.rows = 0, "step.rows is 0");
    WRONG(LM_OP_ADD, step.branch_width = -1, "branch_width is -1, it must be 0 to 65536");
    WRONG(LM_OP_ADD, step.branch_width = 65537, "branch_width is 65537");
    WRONG(LM_OP_ADD, step.output_rows = -1, "output_rows is -1");
    WRONG(LM_OP_ADD, step.output_rows = ROWS + 1, "output_rows is 5");
    WRONG(LM_OP_ADD, step.output_index = NULL, "output_index is null");
    WRONG(LM_OP_ADD, step.output_index = ((const int32_t[]){0, 4}), "output_index[1] is 4");
    WRONG(LM_OP_ADD, step.output_index = ((const int32_t[]){-1, 0}), "output_index[0] is -1");
    WRONG(LM_OP_ADD, step.activations = NULL, "activations is null");
    WRONG(LM_OP_ADD, step.activations = (char*)activations + 4, "64 bytes");
    WRONG(LM_OP_ADD, step.activations_bytes = -1, "-1 activations_bytes");
    WRONG(LM_OP_ADD, step.panel_bytes = -1, "-1 panel_bytes");
    WRONG(LM_OP_ADD, step.inputs_bytes = -1, "-1 inputs_bytes");
    WRONG(LM_OP_ADD, op.code = 0, "unknown code 0");
    WRONG(LM_OP_ADD, op.code = 99, "unknown code 99");
    WRONG(LM_OP_ADD, op.row_set = 3, "unknown row_set 3");
    WRONG(LM_OP_ADD, op.row_set = -1, "unknown row_set -1");
    WRONG(LM_OP_ADD, step.list_length = -1, "step.list, which has -1");
    WRONG(LM_OP_ADD, step.list_length = 2, "2 rows from number 1 on of step.list, which has 2");
    WRONG(LM_OP_ADD, step.list_first = -1, "from number -1");
    WRONG(LM_OP_ADD, step.list_first = 0, "step.list[0] is -1");
    WRONG(LM_OP_ADD, step.list_first = 2, "step.list[3] is 99");
    WRONG(LM_OP_ADD, step.list_first = INT32_MAX, "from number 2147483647");
    WRONG(LM_OP_ADD, step.list_rows = -1, "-1 rows");
    WRONG(LM_OP_ADD, step.list_rows = INT32_MAX, "2147483647 rows");
    WRONG(LM_OP_ADD, (step.list_rows = 2, step.rows = 1, step.output_rows = 0), "for step.rows 1");
    WRONG(LM_OP_ADD, step.list = NULL, "step.list is null");
    lm_op ops[3] = {good_op(LM_OP_ADD), good_op(LM_OP_ADD), good_op(LM_OP_ADD)};
    ops[2].b.offset = -1;
    activations[0] = 42;
    INVALID(lm_submit(queue, ops, 3, &step, NULL), "op 2 (add)");
    CHECK(activations[0] == 42, "an op ran before all were checked");
}

static void test_views(void) {
    for (int i = 0; i < CODES; i++) {
        int32_t code = codes[i];
        if (code != LM_OP_KV_STORE) { /* it has no out */
            WRONG(code, op.out.width = 0, "out is 0 wide");
            WRONG(code, op.out.offset = -1, "out");
            WRONG(code, op.out.offset = INT64_MAX, "out");
            WRONG(code, op.out.stride = op.out.width - 1, "out has a stride");
            WRONG(code, op.out.stride = INT32_MAX, "out");
            WRONG(code, op.out.offset = FLOATS - 20, "out");
            WRONG(code, step.activations_bytes = 16, "out");
        }
        if (code == LM_OP_EMBED) {
            continue;
        }
        WRONG(code, op.a.width = 0, "a is 0 wide");
        WRONG(code, op.a.offset = INT64_MAX - 10, "a at float");
        WRONG(code, op.a.stride = 1, "a has a stride");
        WRONG(code, op.a.offset = FLOATS - 20, "a at float");
    }
    WRONG(LM_OP_ADD, op.a.width = 31, "wide");
    WRONG(LM_OP_ADD, op.b.width = 31, "b is 31 wide");
    WRONG(LM_OP_ADD, op.b.width = 0, "vector has 0 floats, it must have 32");
    WRONG(LM_OP_ADD, (op.b.width = 0, op.vector = NULL), "vector is null");
    WRONG(LM_OP_ADD, op.b.offset = FLOATS, "b at float");
    WRONG(LM_OP_ADD, op.a.offset = 1, "overlaps a");
    WRONG(LM_OP_ADD, op.b.offset = 31, "overlaps b");
    WRONG(LM_OP_ADD, op.a.offset = 70, "overlaps a"); /* by rows that reach into the next */
    WRONG(LM_OP_ADD, op.a.offset = 170, "overlaps a");
    WRONG(LM_OP_ADD, (op.a.offset = 0, op.a.stride = 101), "overlaps a");
    WRONG(LM_OP_LINEAR, op.a.offset = 0, "overlaps a");
    for (int i = 0; i < 2; i++) {
        int32_t code = i == 0 ? LM_OP_RMS_NORM : LM_OP_LAYER_NORM;
        WRONG(code, op.a.offset = 31, "overlaps a");
        WRONG(code, op.a.width = 28, "a 28");
        WRONG(code, op.heads = 0, "0 groups");
        WRONG(code, op.heads = 5, "5 groups");
        WRONG(code, op.vector_length = 9, "vector has 9 floats, it must have 8");
        WRONG(code, op.vector_length = 31, "vector has 31 floats, it must have 8");
        WRONG(code, op.vector = (const float*)((const char*)vector + 2), "aligned");
    }
    WRONG(LM_OP_SCALE, op.a.offset = 31, "overlaps a");
    WRONG(LM_OP_SCALE, op.a.width = 31, "a 31");
    WRONG(LM_OP_SCALE, op.vector_length = 8, "vector has 8 floats, it must have 32");
    WRONG(LM_OP_ACTIVATION, op.b.offset = 31, "overlaps b");
    WRONG(LM_OP_ACTIVATION, op.a.width = 31, "no whole factor");
    WRONG(LM_OP_ACTIVATION, op.a.width = 64, "no whole factor");
    WRONG(LM_OP_ACTIVATION, (op.a.width = 16, op.b.width = 0), "out is 32 wide, a 16");
    WRONG(LM_OP_ACTIVATION, (op.a = op.out, op.a.width = 16), "overlaps a");
    WRONG(LM_OP_ACTIVATION, op.b.width = 16, "b is 16 wide");
    WRONG(LM_OP_ACTIVATION, (op.kind = LM_ACTIVATION_CLAMPED_SWIGLU, op.a.width = 64), "b is 32 wide");
    WRONG(LM_OP_ACTIVATION, (op.kind = LM_ACTIVATION_CLAMPED_SWIGLU, op.b.width = 0), "it must be twice that");
    WRONG(LM_OP_ACTIVATION, (op.kind = LM_ACTIVATION_CLAMPED_SWIGLU, op.b.width = 0, op.a.width = 64, op.a.offset = 0),
          "overlaps a");
    WRONG(LM_OP_ATTENTION, op.a.offset = 0, "overlaps a");
    WRONG(LM_OP_GATHER_ROWS, op.a.offset = 100, "overlaps a");
    WRONG(LM_OP_SCATTER_ADD, op.a.offset = 0, "overlaps a");
    WRONG(LM_OP_SCATTER_ADD, op.a.offset = 300, "overlaps a"); /* with a row that this list does not name */
    WRONG(LM_OP_SCATTER_ADD, op.out.offset = FLOATS - 332 + 1, "out at float 3765, 4 rows");
    WRONG(LM_OP_SCATTER_ADD, op.a.width = 31, "a 31");
}

/* Weights with scales: of 4 rows of 32 elements, in the four ops that have them. */
static void test_scales(void) {
    static float scales[4];
    for (int i = 0; i < 3; i++) {
        int32_t code = (const int32_t[]){LM_OP_LINEAR, LM_OP_LINEAR_TRANSPOSED, LM_OP_WEIGHT_NORM}[i];
        lm_op good = good_op(code);
        lm_step good_one = good_step();
        good.dtype = LM_DTYPE_F8_E4M3;
        good.scales = scales;
        good.scales_length = 4;
        good.scale_stride = 3;
        good.scale_row = 125; /* two blocks of rows, three floats apart */
        MUST(lm_submit(queue, &good, 1, &good_one, NULL));
        WRONG(code, (op = good, op.scales = NULL), "scales is null");
        WRONG(code, (op = good, op.scales = (const float*)((const char*)scales + 2)), "aligned");
        WRONG(code, (op = good, op.scale_row = 128), "scale_row is 128");
        WRONG(code, (op = good, op.scale_row = -1), "scale_row is -1");
        WRONG(code, (op = good, op.scale_stride = 0), "scale_stride of 0 floats");
        WRONG(code, (op = good, op.scale_stride = INT64_MIN), "scale_stride of");
        WRONG(code, (op = good, op.scale_stride = INT64_MAX), "end beyond the 4 floats");
        WRONG(code, (op = good, op.scales_length = 3), "2 rows of scales, 3 floats apart, end beyond the 3 floats");
        WRONG(code, (op = good, op.scales_length = INT64_MIN), "end beyond");
        WRONG(code, (op = good, op.scale_stride = INT64_MAX - 1, op.scales_length = INT64_MAX), "end beyond");
        WRONG(code, (op = good, op.weight_stride = 31), "weight_stride of 31 bytes is below a row of 32");
        WRONG(code, (op = good, op.weight_offset = 609), "weight of 4 rows, 128 bytes apart, at byte 609");
        good.scale_row = 124; /* one block */
        good.scales_length = 1;
        MUST(lm_submit(queue, &good, 1, &good_one, NULL));
        good.dtype = LM_DTYPE_MXFP4;
        good.scales = NULL;
        good.scale_offset = 1024 - 10;
        if (code == LM_OP_LINEAR_TRANSPOSED) {
            WRONG(code, op = good, "unknown weight dtype 4");
            continue;
        }
        MUST(lm_submit(queue, &good, 1, &good_one, NULL));
        WRONG(code, (op = good, op.scale_offset = 1024 - 9), "scale of 4 rows, 3 bytes apart, at byte 1015");
        WRONG(code, (op = good, op.scale_offset = -1), "at byte -1");
        WRONG(code, (op = good, op.scale_offset = INT64_MAX), "beyond");
        WRONG(code, (op = good, op.scale_stride = 0), "scale_stride of 0 bytes is below a row of 1");
        WRONG(code, (op = good, op.scale_stride = INT64_MAX), "beyond");
        WRONG(code, (op = good, op.weight_stride = 15), "weight_stride of 15 bytes is below a row of 16");
        WRONG(code, (op = good, op.a.width = op.columns = 31, op.out.width = op.weight_rows = 31), "31");
    }
    WRONG(LM_OP_EMBED, op.dtype = LM_DTYPE_F8_E4M3, "unknown dtype 3");
    WRONG(LM_OP_EMBED, op.dtype = LM_DTYPE_MXFP4, "unknown dtype 4");
}

/* The ops with a state: one of three rows of 32, and two value heads of 8 x 8. */
static void test_states(void) {
    static float long_vector[4 * 32];
    const lm_kv_layer layers[3] = {{1, 3, 32, LM_KV_STATE, 0, 0}, {2, 8, 8, LM_KV_STATE, 0, 0}, {2, 8, 8, 0, 0, 0}};
    const lm_kv_layer others[3] = {{1, 2, 32, LM_KV_STATE, 0, 0}, {2, 8, 7, LM_KV_STATE, 0, 0}, {2, 8, 8, 0, 0, 0}};
    lm_kv* kv[4];
    for (int i = 0; i < 4; i++) {
        MUST(lm_kv_create(device, i < 3 ? layers : others, 3, 8, LM_DTYPE_F16, i == 1 ? 3 : 0, &kv[i]));
    }
    int64_t bytes;
    MUST(lm_kv_bytes(layers, 2, 8, LM_DTYPE_F16, &bytes));
    CHECK(bytes == (3 * 32 + 2 * 8 * 8) * 2 * 4, "%lld bytes of states", (long long)bytes);
    static const int32_t states[] = {-1, 1};
    for (int i = 0; i < 2; i++) {
        int32_t code = i == 0 ? LM_OP_CONVOLUTION : LM_OP_DELTA_RULE;
        lm_op good = good_op(code);
        lm_step good_one = good_step();
        good_one.kv = kv;
        good_one.states = states;
        good_one.positions = NULL;
        good.layer = i;
        good.kind = LM_ACTIVATION_SILU;
        good.vector = long_vector;
        good.vector_length = i == 0 ? 4 * 32 : 4;
        if (i == 1) {
            good.heads = 1;
            good.b.width = 4;
            good.out.width = 16;
        }
        MUST(lm_submit(queue, &good, 1, &good_one, NULL));
        good.row_set = LM_ROWS_OUTPUT;
        MUST(lm_submit(queue, &good, 1, &good_one, NULL));
        good_one.output_rows = 0;
        MUST(lm_submit(queue, &good, 1, &good_one, NULL));
        good_one.output_rows = 2;
        good.row_set = LM_ROWS_ALL;
#define WRONG_STATE(change, text) WRONG(code, (op = good, step = good_one, change), text)
        WRONG_STATE(step.sequence = NULL, "sequence is null");
        WRONG_STATE(step.states = NULL, "states is null");
        WRONG_STATE(step.kv = NULL, "kv is null");
        WRONG_STATE(step.sequences = 0, "sequences is 0");
        WRONG_STATE(step.sequences = 1, "row 2 is of sequence 1");
        WRONG_STATE(step.sequence = ((const int32_t[]){0, -1, 0, 0}), "row 1 is of sequence -1");
        WRONG_STATE((step.branch_width = 1, step.branch = positions), "branch_width is 1");
        WRONG_STATE(step.states = ((const int32_t[]){0, 2}), "states[1] is 2");
        WRONG_STATE(step.states = ((const int32_t[]){-2, 0}), "states[0] is -2");
        WRONG_STATE(step.kv = ((lm_kv* const[]){kv[0], NULL}), "kv[1] is null");
        WRONG_STATE(step.kv = ((lm_kv* const[]){kv[0], kv[0]}), "kv[0] is step.kv[1] too");
        WRONG_STATE(step.kv = ((lm_kv* const[]){kv[0], kv[3]}), "another shape");
        WRONG_STATE(step.kv = ((lm_kv* const[]){other_device, kv[1]}), "another device");
        WRONG_STATE(op.layer = 2, "layer 2 of step.kv[0] is no state");
        WRONG_STATE(op.layer = 3, "layer 3 of a KV cache that has 3");
        WRONG_STATE(op.layer = -1, "layer -1");
        WRONG_STATE(op.a.width = 31, "31");
        WRONG_STATE(op.out.width = 31, "out is 31 wide");
        WRONG_STATE(op.a.offset = op.out.offset, "overlaps a");
        WRONG_STATE(op.vector = NULL, "vector is null");
        WRONG_STATE(op.vector_length++, "floats, it must have");
        if (code == LM_OP_CONVOLUTION) {
            WRONG_STATE(op.kind = LM_ACTIVATION_GELU, "unknown kind 1");
            WRONG_STATE(op.layer = 1, "a state of 2 x 8 x 8 floats");
        } else {
            WRONG_STATE(op.heads = 0, "0 heads");
            WRONG_STATE(op.heads = 3, "3 heads cannot be shared by 2 value heads");
            WRONG_STATE(op.b.width = 3, "b is 3 wide, it must be 4");
            WRONG_STATE(op.b.offset = 15, "overlaps b");
        }
    }
    for (int32_t code = LM_OP_KV_STORE; code <= LM_OP_ATTENTION; code++) {
        WRONG(code, (step.kv = kv, op.layer = 1), "layer 1 of step.kv[0] is a state");
    }
    for (int i = 0; i < 4; i++) {
        MUST(lm_kv_destroy(kv[i]));
    }
}

static void test_ops(void) {
    WRONG(LM_OP_EMBED, op.dtype = 5, "unknown dtype 5");
    WRONG(LM_OP_EMBED, step.inputs = NULL, "inputs is null");
    WRONG(LM_OP_EMBED, op.input_offset = 513, "reads 4 rows of 128 bytes at byte 513");
    WRONG(LM_OP_EMBED, op.input_offset = -1, "at byte -1");
    WRONG(LM_OP_EMBED, op.input_offset = INT64_MAX, "at byte");
    WRONG(LM_OP_EMBED, step.inputs_bytes = 511, "511");
    for (int i = 0; i < 3; i++) {
        int32_t code = (const int32_t[]){LM_OP_LINEAR, LM_OP_LINEAR_TRANSPOSED, LM_OP_WEIGHT_NORM}[i];
        WRONG(code, op.dtype = -1, "unknown weight dtype -1");
        WRONG(code, op.weight_rows = 0, "weight_rows is 0");
        WRONG(code, op.weight_rows = 3, "weight_rows is 3");
        WRONG(code, step.panel = NULL, "panel is null");
        WRONG(code, op.weight_stride = 127, "weight_stride of 127");
        WRONG(code, op.weight_stride = INT64_MAX, "beyond");
        WRONG(code, op.weight_stride = INT64_MAX / 3, "beyond");
        WRONG(code, op.weight_offset = 513, "beyond the 1024 bytes");
        WRONG(code, op.weight_offset = -1, "at byte -1");
        WRONG(code, op.weight_offset = INT64_MAX, "beyond");
        WRONG(code, step.panel_bytes = 1023, "beyond the 1023 bytes");
    }
    WRONG(LM_OP_LINEAR, op.vector_length = 5, "vector has 5 floats");
    WRONG(LM_OP_LINEAR_TRANSPOSED, op.vector_length = 31, "vector has 31 floats");
    WRONG(LM_OP_LINEAR_TRANSPOSED, op.accumulate = 2, "accumulate is 2");
    WRONG(LM_OP_LINEAR_TRANSPOSED, op.accumulate = -1, "accumulate is -1");
    WRONG(LM_OP_LINEAR_TRANSPOSED, op.a.offset = 31, "overlaps a");
    WRONG(LM_OP_LINEAR_TRANSPOSED, op.out.width = 33, "weight_stride of 128 bytes is below a row of 132");
    WRONG(LM_OP_WEIGHT_NORM, op.columns = 0, "columns is 0");
    WRONG(LM_OP_WEIGHT_NORM, op.columns = 33, "weight_stride of 128 bytes is below a row of 132");
    WRONG(LM_OP_WEIGHT_NORM, op.columns = INT32_MIN, "columns is -2147483648");
    WRONG(LM_OP_WEIGHT_NORM, op.out.width = 3, "out is 3 wide, a 4");
    WRONG(LM_OP_WEIGHT_NORM, op.a.offset = 3, "overlaps a");
    WRONG(LM_OP_ROPE, op.kind = 2, "unknown kind 2");
    WRONG(LM_OP_ROPE, op.heads = 3, "do not make rows");
    WRONG(LM_OP_ROPE, op.heads = 0, "do not make rows");
    WRONG(LM_OP_ROPE, op.heads = -1, "do not make rows");
    WRONG(LM_OP_ROPE, (op.out.width = op.a.width = 31), "do not make rows");
    WRONG(LM_OP_ROPE, (op.out.width = op.a.width = 27, op.rotary_dim = 4), "do not make rows of 27");
    WRONG(LM_OP_ROPE, (op.out.width = op.a.width = 33, op.rotary_dim = 4), "do not make rows of 33");
    WRONG(LM_OP_ROPE, (op.heads = INT32_MAX, op.head_dim = INT32_MAX), "do not make rows");
    WRONG(LM_OP_ROPE, op.rotary_dim = 7, "rotary_dim is 7");
    WRONG(LM_OP_ROPE, op.rotary_dim = 10, "rotary_dim is 10");
    WRONG(LM_OP_ROPE, op.rotary_dim = 0, "rotary_dim is 0");
    WRONG(LM_OP_ROPE, op.a.offset = 400, "in place");
    WRONG(LM_OP_ROPE, op.input_offset = 1020, "reads 4 rows");
    WRONG(LM_OP_ACTIVATION, op.kind = 10, "unknown kind 10");
    WRONG(LM_OP_ACTIVATION, (op.kind = LM_ACTIVATION_SOFT_CAP, op.scale = 0), "scale of 0");
    WRONG(LM_OP_ACTIVATION, (op.kind = LM_ACTIVATION_CLAMPED_SWIGLU, op.scale = -1), "scale of -1");
    WRONG(LM_OP_ACTIVATION, op.kind = -1, "unknown kind -1");
    WRONG(LM_OP_GATHER_ROWS, op.row_set = LM_ROWS_ALL, "row_set is 0");
    WRONG(LM_OP_SCATTER_ADD, op.row_set = LM_ROWS_OUTPUT, "row_set is 1");
    for (int i = 0; i < 2; i++) {
        int32_t code = i == 0 ? LM_OP_GATHER_ROWS : LM_OP_SCATTER_ADD;
        WRONG(code, (op.row_set = LM_ROWS_LIST, op.kind = 2), "unknown kind 2");
        WRONG(code, (op.row_set = LM_ROWS_LIST, op.kind = LM_ROWS_WEIGHTED, step.list_weights = NULL),
              "list_weights is null");
    }
    static const int32_t without_list[] = {LM_OP_EMBED,     LM_OP_ROPE,        LM_OP_KV_STORE,
                                           LM_OP_ATTENTION, LM_OP_CONVOLUTION, LM_OP_DELTA_RULE};
    for (int i = 0; i < 6; i++) {
        WRONG(without_list[i], op.row_set = LM_ROWS_LIST, "takes no rows of the list");
    }
    for (int32_t code = LM_OP_KV_STORE; code <= LM_OP_ATTENTION; code++) {
        WRONG(code, step.positions = NULL, "positions is null");
        WRONG(code, step.sequence = NULL, "sequence is null");
        WRONG(code, step.kv = NULL, "kv is null");
        WRONG(code, step.sequences = 0, "sequences is 0");
        WRONG(code, step.sequences = 1, "row 2 is of sequence 1");
        WRONG(code, (op.row_set = LM_ROWS_OUTPUT, step.sequences = 1), "row 3 is of sequence 1");
        WRONG(code, op.layer = 1, "layer 1 of a KV cache that has 1");
        WRONG(code, op.layer = -1, "layer -1");
        WRONG(code, step.positions = ((const int32_t[]){0, 1, 2, 8}), "row 3 is at position 8");
        WRONG(code, step.positions = ((const int32_t[]){-1, 1, 2, 3}), "row 0 is at position -1");
        WRONG(code, step.sequence = ((const int32_t[]){0, -1, 0, 0}), "row 1 is of sequence -1");
        WRONG(code, step.kv = ((lm_kv* const[]){caches[0], NULL}), "kv[1] is null");
        WRONG(code, step.kv = ((lm_kv* const[]){caches[0], other_shape}), "another shape");
        WRONG(code, step.kv = ((lm_kv* const[]){other_device, caches[1]}), "another device");
        WRONG(code, op.a.width = 17, "a is 17 wide");
        WRONG(code, step.branch_width = 3, "step.branch is null, step.branch_width is 3");
        WRONG_BRANCH(code, branch[0] = -1, "position 0 of row 0's branch is at place -1 of a KV cache for 8");
        WRONG_BRANCH(code, branch[2 * 3 + 2] = 8, "position 0 of row 2's branch is at place 8");
        WRONG_BRANCH(code, branch[3 * 3 + 2] = 8, "position 5 of row 3's branch is at place 8");
        WRONG_BRANCH(code, branch[3 * 3 + 1] = INT32_MAX, "position 6 of row 3's branch is at place 2147483647");
        WRONG_BRANCH(code, (op.row_set = LM_ROWS_OUTPUT, branch[3] = INT32_MIN), "position 1 of row 1's branch");
    }
    WRONG(LM_OP_KV_STORE, op.b.width = 17, "b is 17 wide");
    WRONG(LM_OP_KV_STORE, op.b.offset = FLOATS, "b at float");
    WRONG(LM_OP_ATTENTION, op.out.width = 31, "out is 31 wide");
    WRONG(LM_OP_ATTENTION, op.heads = 3, "3 heads cannot be shared by 2");
    WRONG(LM_OP_ATTENTION, op.heads = 0, "0 heads");
    WRONG(LM_OP_ATTENTION, op.head_dim = 4, "head_dim is 4");
    WRONG(LM_OP_ATTENTION, op.window = -1, "window is -1");
    WRONG(LM_OP_ATTENTION, op.chunk = -1, "chunk is -1");
    WRONG(LM_OP_ATTENTION, op.softcap = -1, "softcap is -1");
    WRONG(LM_OP_ATTENTION, op.softcap = NAN, "softcap is nan");
    WRONG(LM_OP_ATTENTION, op.kind = 3, "unknown kind 3");
    WRONG(LM_OP_ATTENTION, op.kind = -1, "unknown kind -1");
    WRONG(LM_OP_ATTENTION, op.kind = LM_ATTENTION_ALIBI, "vector has 0 floats, it must have 4");
    WRONG(LM_OP_ATTENTION, (op.kind = LM_ATTENTION_SINKS, op.vector = NULL), "vector is null");
}

/* Layers of other kinds, and with few places. */
static void test_layers(void) {
    const lm_kv_layer layers[] = {
        {.kv_heads = 2, .head_dim = 8, .head_dim_v = 8, .kind = LM_KV_STATE},
        {.kv_heads = 2, .head_dim = 8, .head_dim_v = 8, .kind = LM_KV_LATENT},
        {.kv_heads = 2, .head_dim = 8, .head_dim_v = 8, .places = 4},
        {.kv_heads = 2, .head_dim = 8, .head_dim_v = 8},
    };
    lm_kv* kv[3];
    MUST(lm_kv_create(device, layers, 4, 8, LM_DTYPE_F32, 1, &kv[0]));
    MUST(lm_kv_create(device, layers, 4, 8, LM_DTYPE_F16, 2, &kv[1]));
    MUST(lm_kv_create(device, layers + 1, 3, 8, LM_DTYPE_F32, 0, &kv[2]));
    const int32_t near[ROWS] = {1, 4, 5, 7};
    const int32_t far[ROWS] = {1, 5, 5, 7};
#define OF_LAYERS(number) step.kv = kv, op.layer = (number), step.positions = near
    for (int32_t code = LM_OP_KV_STORE; code <= LM_OP_ATTENTION; code++) {
        int store = code == LM_OP_KV_STORE;
        WRONG(code, OF_LAYERS(0), "layer 0 of step.kv[0] is a state");
        WRONG(code, (OF_LAYERS(1), op.b.width = 0, step.kv = ((lm_kv* const[]){kv[0], kv[2]})), "another shape");
        WRONG(code, (OF_LAYERS(2), step.kv = ((lm_kv* const[]){kv[0], kv[2]})), "another shape");
        WRONG(code, (OF_LAYERS(2), step.positions = far),
              store ? "rows of sequence 0 need the places 1 to 5 of layer 2, which has 4" : "the places 0 to 5");
        for (int32_t layer = 1; layer < 3; layer++) {
            lm_op op = good_op(code);
            lm_step step = good_step();
            OF_LAYERS(layer);
            op.window = 1;
            op.b.width = layer == 1 ? 0 : 16;
            MUST(lm_submit(queue, &op, 1, &step, NULL));
        }
        int32_t branch[ROWS * 2] = {3, 0, 2, 3, 4, 3, 6, 5};
        lm_op op = good_op(code);
        lm_step step = good_step();
        OF_LAYERS(2);
        step.branch_width = 2;
        step.branch = branch;
        op.window = 2;
        MUST(lm_submit(queue, &op, 1, &step, NULL));
        branch[4] = 2; /* the own place of row 2, 2 to 6 with that of row 3 */
        INVALID(lm_submit(queue, &op, 1, &step, NULL), "rows of sequence 1 need the places 2 to 6");
        branch[4] = 4;
        branch[7] = 1; /* of the position before that of row 3 */
        if (store) {
            MUST(lm_submit(queue, &op, 1, &step, NULL));
        } else {
            INVALID(lm_submit(queue, &op, 1, &step, NULL), "rows of sequence 1 need the places 1 to 6");
        }
        op.row_set = LM_ROWS_OUTPUT; /* rows 3 and 1 */
        branch[7] = 3;
        branch[4] = branch[5] = 7;
        MUST(lm_submit(queue, &op, 1, &step, NULL));
    }
    WRONG(LM_OP_KV_STORE, OF_LAYERS(1), "b is 16 wide, layer 1 has no values of their own");
    WRONG(LM_OP_ATTENTION, OF_LAYERS(2), "rows of sequence 0 need the places 0 to 4 of layer 2, which has 4");
    WRONG(LM_OP_ATTENTION, (OF_LAYERS(2), op.window = 2), "rows of sequence 0 need the places 0 to 4");
    WRONG(LM_OP_ATTENTION, (OF_LAYERS(2), op.chunk = 6), "rows of sequence 0 need the places 0 to 4");
    lm_op op = good_op(LM_OP_ATTENTION);
    lm_step step = good_step();
    OF_LAYERS(2);
    op.chunk = 1;
    MUST(lm_submit(queue, &op, 1, &step, NULL));
    for (int i = 0; i < 3; i++) {
        MUST(lm_kv_destroy(kv[i]));
    }
}

int main(void) {
    lm_device* second;
    MUST(lm_device_open(&(lm_device_options){.threads = 2}, &device));
    MUST(lm_device_open(&(lm_device_options){.threads = 1}, &second));
    MUST(lm_queue_create(device, &queue));
    lm_kv_layer layer = {.kv_heads = 2, .head_dim = 8, .head_dim_v = 8};
    lm_kv_layer wider = {.kv_heads = 2, .head_dim = 16, .head_dim_v = 8};
    MUST(lm_kv_create(device, &layer, 1, 8, LM_DTYPE_F32, 0, &caches[0]));
    MUST(lm_kv_create(device, &layer, 1, 8, LM_DTYPE_F16, 0, &caches[1]));
    MUST(lm_kv_create(device, &wider, 1, 8, LM_DTYPE_F32, 0, &other_shape));
    MUST(lm_kv_create(second, &layer, 1, 8, LM_DTYPE_F32, 0, &other_device));
    test_abi();
    test_devices();
    test_memory();
    test_lifetimes();
    test_kv();
    test_queue();
    test_good_ops();
    test_steps();
    test_views();
    test_ops();
    test_layers();
    test_scales();
    test_states();
    MUST(lm_kv_destroy(other_device));
    MUST(lm_kv_destroy(other_shape));
    MUST(lm_kv_destroy(caches[0]));
    MUST(lm_kv_destroy(caches[1]));
    MUST(lm_queue_destroy(queue));
    MUST(lm_device_close(second));
    MUST(lm_device_close(device));
    return finish_tests("test_api");
}
