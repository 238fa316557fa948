/*
 * test_faults.c: what goes wrong with a GPU gives a status and one line, and everything can be given back after it:
 * each call of the emulated CUDA fails once, in each way, on a device in fast mode, which makes more of them.
 */
#define _GNU_SOURCE
#include "cuda/faults.h"
#include "ops.h"

enum { CUDA = LM_BACKEND_CUDA_EMULATED, ROWS = 4, WIDTH = 48, SUMS = 20, CAPACITY = 1028, FLOATS = 4096 };

enum { WEIGHT = 512 }; /* elements from the start of a place to a weight of (SUMS, WIDTH) ones in bf16 */

static const int64_t BYTES = FLOATS * (int64_t)sizeof(float);
static const lm_kv_layer LAYERS[2] = {{.kv_heads = 1, .head_dim = 4, .head_dim_v = 4},
                                       {.kv_heads = 1, .head_dim = 4, .head_dim_v = 4}};

/* All that a device can have. */
typedef struct session {
    lm_device* device;
    lm_queue* queue;
    lm_queue* copies;
    lm_kv* kv;
    float* host;        // (FLOATS), page-locked
    float* activations; // (FLOATS)
    float* place;       // (FLOATS)
} session;

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        int32_t status_ = (call);                                                                                      \
        if (status_ != LM_OK) {                                                                                        \
            return status_;                                                                                            \
        }                                                                                                              \
    } while (0)

static int32_t begin(session* s) {
    *s = (session){0};
    TRY(lm_device_open(&(lm_device_options){.backend = CUDA, .mode = LM_MODE_FAST}, &s->device));
    lm_device_info info;
    TRY(lm_device_get_info(s->device, &info));
    TRY(lm_queue_create(s->device, &s->queue));
    TRY(lm_queue_create(s->device, &s->copies));
    TRY(lm_device_alloc(s->device, BYTES, (void**)&s->activations));
    TRY(lm_host_alloc(s->device, BYTES, (void**)&s->host));
    TRY(lm_kv_create(s->device, LAYERS, 2, CAPACITY, LM_DTYPE_F32, 1, &s->kv));
    return lm_device_alloc(s->device, BYTES, (void**)&s->place);
}

/* Every op by which the backend takes memory of its own, in submissions that nobody waits for but at the end. */
static int32_t compute(session* s, float seed) {
    lm_view view = {0, WIDTH, WIDTH};
    lm_view result = {1024, WIDTH, WIDTH};
    lm_view heads = {2048, 4, 4};
    lm_view attended = {3072, 4, 4};
    lm_view sums = {3584, SUMS, SUMS};
    float inputs[ROWS * WIDTH];
    memset(s->host, 0, (size_t)BYTES);
    for (int32_t i = 0; i < ROWS * WIDTH; i++) {
        inputs[i] = seed + (float)i; /* bf16 can hold it */
    }
    for (int32_t i = 0; i < SUMS * WIDTH; i++) {
        ((uint16_t*)s->host)[WEIGHT + i] = 0x3f80; /* 1 */
    }
    int64_t there;
    TRY(lm_copy_to_device(s->copies, s->place, s->host, BYTES, &there));
    TRY(lm_queue_after(s->queue, s->copies, there));
    TRY(lm_copy_to_device(s->queue, s->activations, s->host, BYTES, NULL));
    int32_t positions[ROWS];
    int32_t sequence[ROWS] = {0};
    lm_step step = {.activations = s->activations,
                    .activations_bytes = BYTES,
                    .positions = positions,
                    .sequence = sequence,
                    .sequences = 1,
                    .kv = &s->kv,
                    .inputs = inputs,
                    .panel = s->place,
                    .panel_bytes = BYTES};
    lm_op ops[] = {
        {.code = LM_OP_EMBED, .out = view, .dtype = LM_DTYPE_F32},
        {.code = LM_OP_ADD, .out = result, .a = view, .b = view, .scale = 1},
        {.code = LM_OP_KV_STORE, .a = heads, .b = heads, .layer = 1},
        {.code = LM_OP_ATTENTION, .out = attended, .a = heads, .layer = 1, .heads = 1, .head_dim = 4, .scale = 1},
        {.code = LM_OP_LINEAR,
         .out = sums,
         .a = view,
         .weight_offset = WEIGHT * 2,
         .weight_stride = WIDTH * 2,
         .weight_rows = SUMS,
         .dtype = LM_DTYPE_BF16},
    };
    for (step.rows = 1; step.rows <= ROWS; step.rows *= ROWS) { /* what it brings grows, and what attention needs */
        step.generation = ++generation;
        step.inputs_bytes = step.rows * WIDTH * (int64_t)sizeof(float);
        for (int32_t i = 0; i < step.rows; i++) {
            positions[i] = step.rows == 1 ? 0 : CAPACITY - ROWS + i;
        }
        TRY(lm_submit(s->queue, ops, sizeof ops / sizeof *ops, &step, NULL));
        TRY(lm_submit(s->queue, ops + 1, 1, &step, NULL));
    }
    int64_t done;
    TRY(lm_copy_to_host(s->queue, s->host, s->activations, BYTES, &done));
    TRY(lm_wait(s->queue, done));
    for (int32_t i = 0; i < ROWS * WIDTH; i++) {
        CHECK(s->host[1024 + i] == 2 * inputs[i], "float %d is %g, not %g", i, s->host[1024 + i], 2 * inputs[i]);
    }
    for (int32_t i = 0; i < ROWS * SUMS; i++) {
        float sum = 0;
        for (int32_t j = 0; j < WIDTH; j++) {
            sum += inputs[i / SUMS * WIDTH + j];
        }
        CHECK(s->host[sums.offset + i] == sum, "sum %d is %g, not %g", i, s->host[sums.offset + i], sum);
    }
    return LM_OK;
}

/* Whatever happened before, it is all given back, and nobody waits for ever; a queue tells how its work ended. */
static void end(session* s, int32_t expected) {
    MUST(lm_host_free(s->device, s->host, BYTES));
    MUST(lm_device_free(s->device, s->place, BYTES));
    MUST(lm_kv_destroy(s->kv));
    lm_queue* queues[2] = {s->copies, s->queue};
    for (int i = 0; i < 2; i++) {
        int32_t status = lm_queue_destroy(queues[i]);
        CHECK(status == LM_OK || status == expected, "destroying a queue gave %d: %s", status, last_error());
    }
    MUST(lm_device_free(s->device, s->activations, BYTES));
    MUST(lm_device_close(s->device));
}

static void check_all_given_back(const char* what) {
    CHECK(emulated_used(0) == 0 && emulated_pinned() == 0 && emulated_handles() == 0,
          "%s: %lld bytes of the device, %lld page-locked ones, %lld handles are left", what,
          (long long)emulated_used(0), (long long)emulated_pinned(), (long long)emulated_handles());
}

/* -- each call fails once ------------------------------------------------------------------------------------------ */

typedef struct fault {
    int32_t error;
    int32_t status;
    int lost; /* the device is gone for good */
    const char* message;
} fault;

static const fault FAULTS[] = {
    {EMULATED_OUT_OF_MEMORY, LM_ERROR_OUT_OF_MEMORY, 0, "out of memory"},
    {EMULATED_INVALID_VALUE, LM_ERROR_DEVICE, 0, "invalid argument"},
    {EMULATED_UNAVAILABLE, LM_ERROR_DEVICE, 1, "busy or unavailable"},
    {EMULATED_ILLEGAL_ADDRESS, LM_ERROR_DEVICE, 1, "an illegal memory access was encountered"},
    {EMULATED_LAUNCH_FAILURE, LM_ERROR_DEVICE, 1, "unspecified launch failure"},
};

/* Whoever goes on with a lost device gets an error from every call, at once. */
static void check_lost(session* s, const char* message) {
    void* memory;
    lm_queue* queue;
    lm_kv* kv;
    REFUSES(lm_device_alloc(s->device, 64, &memory), LM_ERROR_DEVICE, message);
    REFUSES(lm_host_alloc(s->device, 64, &memory), LM_ERROR_DEVICE, message);
    CHECK(memory == NULL, "memory of a lost device");
    REFUSES(lm_queue_create(s->device, &queue), LM_ERROR_DEVICE, message);
    REFUSES(lm_kv_create(s->device, LAYERS, 2, 10, LM_DTYPE_F16, 1, &kv), LM_ERROR_DEVICE, message);
    CHECK(queue == NULL && kv == NULL, "a queue or a KV cache of a lost device");
    if (s->place != NULL) {
        int64_t ticket;
        lm_view view = {0, 4, 4};
        lm_op op = {.code = LM_OP_ADD, .out = view, .a = view, .b = view, .scale = 1};
        lm_step step = {
            .rows = 1, .generation = ++generation, .activations = s->activations, .activations_bytes = BYTES};
        float floats[4];
        int32_t status = lm_submit(s->queue, &op, 1, &step, &ticket);
        status = status == LM_OK ? lm_wait(s->queue, ticket) : status;
        CHECK(status == LM_ERROR_DEVICE && strstr(last_error(), message) != NULL, "gave %d: %s", status, last_error());
        REFUSES(lm_copy_to_host(s->queue, floats, s->activations, sizeof floats, NULL), LM_ERROR_DEVICE, message);
    }
}

/* Returns whether the call came at all. */
static int fail_once(int32_t call, int64_t after, const fault* f) {
    session s;
    emulated_reset();
    emulated_alignment(256); /* so that memory is moved to where lamina.h promises it */
    emulated_fail(call, after, f->error);
    int32_t status = begin(&s);
    int begun = status == LM_OK;
    status = begun ? compute(&s, 1) : status;
    int came = emulated_calls(call) > after;
    CHECK(status == (came ? f->status : LM_OK), "call %d, after %lld, error %d: gave %d: %s", call, (long long)after,
          f->error, status, last_error());
    if (came) {
        CHECK(strstr(last_error(), f->message) != NULL && strchr(last_error(), '\n') == NULL, "%s", last_error());
    }
    if (came && f->lost && s.device != NULL) {
        check_lost(&s, f->message);
    } else if (came && begun) { /* it was that call alone */
        status = compute(&s, 60);
        CHECK(status == LM_OK, "call %d, after %lld, error %d: and then %d: %s", call, (long long)after, f->error,
              status, last_error());
    }
    if (s.device != NULL) {
        end(&s, f->status);
    }
    check_all_given_back(f->message);
    return came;
}

static void test_each_call(void) {
    for (int32_t call = 0; call < EMULATED_CALLS; call++) {
        for (size_t f = 0; f < sizeof FAULTS / sizeof *FAULTS; f++) {
            int64_t after = 0;
            while (fail_once(call, after, &FAULTS[f])) {
                after++;
            }
            CHECK(after > 0, "nothing makes call %d", call);
        }
    }
    emulated_reset();
}

/* -- a device without memory --------------------------------------------------------------------------------------- */

/* A little more memory each time, until it is enough. */
static void test_out_of_memory(void) {
    session s;
    emulated_reset();
    MUST(begin(&s));
    MUST(compute(&s, 1));
    end(&s, LM_OK);
    int64_t enough = emulated_peak(0);
    CHECK(enough > 2 * BYTES, "%lld bytes", (long long)enough);
    int refused = 0;
    int grown = 0;
    for (int64_t bytes = 1000; bytes <= enough; bytes += bytes < enough - 6000 ? 2999 : 61) {
        emulated_reset();
        emulated_memory(0, bytes);
        int32_t status = begin(&s);
        int begun = status == LM_OK;
        status = begun ? compute(&s, 1) : status;
        if (status != LM_OK) {
            CHECK(status == LM_ERROR_OUT_OF_MEMORY && strstr(last_error(), "bytes of GPU memory") != NULL,
                  "%lld bytes: gave %d: %s", (long long)bytes, status, last_error());
            refused++;
            grown += begun;
            if (begun) { /* more was made free: it goes on */
                emulated_memory(0, enough);
                MUST(compute(&s, 2));
            }
        }
        CHECK(emulated_peak(0) <= enough, "%lld bytes were taken", (long long)emulated_peak(0));
        end(&s, LM_OK);
        check_all_given_back("out of memory");
    }
    CHECK(refused > grown + 9 && grown > 9, "%d sizes were refused, %d of them by a submission", refused, grown);
    emulated_memory(0, enough);
    MUST(begin(&s));
    lm_device_info info;
    MUST(lm_device_get_info(s.device, &info));
    CHECK(info.memory_bytes == enough && info.free_bytes == enough - emulated_used(0), "%lld of %lld bytes are free",
          (long long)info.free_bytes, (long long)info.memory_bytes);
    MUST(compute(&s, 3));
    end(&s, LM_OK);
    emulated_reset();
}

/* -- no GPU -------------------------------------------------------------------------------------------------------- */

static void check_no_gpu(int32_t driver, int32_t devices, const char* message) {
    int32_t count;
    lm_device* device;
    emulated_driver(driver, devices);
    REFUSES(lm_device_count(CUDA, &count), LM_ERROR_UNSUPPORTED, message);
    CHECK(count == 0, "%d devices", count);
    REFUSES(lm_device_open(&(lm_device_options){.backend = CUDA}, &device), LM_ERROR_UNSUPPORTED, message);
    CHECK(device == NULL, "a device beside an error");
}

static void test_no_gpu(void) {
    int32_t count;
    lm_device* device;
    check_no_gpu(0, 2, "this machine has no NVIDIA driver: install one");
    check_no_gpu(12080, 2, "the NVIDIA driver is one for CUDA 12.8, it must be one for 13.0 or newer: update it");
    check_no_gpu(13000, 0, "the NVIDIA driver finds no GPU");
    emulated_driver(13010, 1);
    MUST(lm_device_count(CUDA, &count));
    CHECK(count == 1, "%d devices", count);
    INVALID(lm_device_open(&(lm_device_options){.backend = CUDA, .ordinal = 1}, &device), "there is no GPU 1");
    MUST(lm_device_open(&(lm_device_options){.backend = CUDA}, &device));
    MUST(lm_device_close(device));
    emulated_reset();
    MUST(lm_device_count(CUDA, &count));
    CHECK(count == 2, "%d devices", count);
}

/* -- the other GPU ------------------------------------------------------------------------------------------------- */

/* One that is lost takes nothing with it: neither the other one, which waits for its work, nor the CPU. */
static void test_other_device(void) {
    session s;
    lm_device* other;
    lm_device* cpu;
    lm_queue* queue;
    float* memory;
    float got[4];
    int64_t ticket;
    emulated_reset();
    MUST(begin(&s));
    MUST(lm_device_open(&(lm_device_options){.backend = CUDA, .ordinal = 1}, &other));
    MUST(lm_queue_create(other, &queue));
    MUST(lm_device_alloc(other, sizeof got, (void**)&memory));
    emulated_fail(EMULATED_COPY, 0, EMULATED_LAUNCH_FAILURE);
    MUST(lm_copy_to_device(s.queue, s.place, s.host, BYTES, &ticket));
    MUST(lm_queue_after(queue, s.queue, ticket));
    MUST(lm_copy_to_device(queue, memory, (float[]){1, 2, 3, 4}, sizeof got, NULL));
    MUST(lm_copy_to_host(queue, got, memory, sizeof got, &ticket));
    MUST(lm_wait(queue, ticket));
    CHECK(got[0] == 1 && got[3] == 4, "%g", got[0]);
    check_lost(&s, "unspecified launch failure");
    MUST(lm_device_open(&(lm_device_options){.threads = 1}, &cpu));
    MUST(lm_device_close(cpu));
    MUST(lm_device_free(other, memory, sizeof got));
    MUST(lm_queue_destroy(queue));
    MUST(lm_device_close(other));
    end(&s, LM_ERROR_DEVICE);
    check_all_given_back("the other device");
    CHECK(emulated_used(1) == 0, "%lld bytes of the other device", (long long)emulated_used(1));
    emulated_reset();
    MUST(begin(&s));
    MUST(compute(&s, 4));
    end(&s, LM_OK);
}

int main(void) {
    MUST(lm_backend_load(CUDA, LIBRARY));
    test_no_gpu();
    test_each_call();
    test_out_of_memory();
    test_other_device();
    return finish_tests("test_faults");
}
