/* api.c: the functions of lamina.h: argument checks, status codes, last error. The arithmetic is behind backend.h,
   reading files is in io/. */
#include "check.h"
#include "io/io.h"

#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        int32_t status_ = (call);                                                                                      \
        if (status_ != LM_OK) {                                                                                        \
            return status_;                                                                                            \
        }                                                                                                              \
    } while (0)

static _Thread_local char last_error[512];

int32_t lm_fail(int32_t status, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return status;
}

int32_t lm_get_abi(lm_abi* out) {
    REQUIRE_POINTER(out);
    *out = (lm_abi){
        .version = LM_ABI_VERSION,
        .size_abi = sizeof(lm_abi),
        .size_device_options = sizeof(lm_device_options),
        .size_device_info = sizeof(lm_device_info),
        .size_kv_layer = sizeof(lm_kv_layer),
        .size_view = sizeof(lm_view),
        .size_op = sizeof(lm_op),
        .size_step = sizeof(lm_step),
        .size_read = sizeof(lm_read),
        .size_read_result = sizeof(lm_read_result),
    };
    return LM_OK;
}

int32_t lm_last_error(char* out, int64_t capacity) {
    REQUIRE_POINTER(out);
    REQUIRE(capacity > 0, "lm_last_error: capacity is %lld, it must be above 0", LL(capacity));
    snprintf(out, (size_t)capacity, "%s", last_error);
    return LM_OK;
}

/* -- devices and memory ------------------------------------------------------------------------------------------ */

static int32_t find_backend(const char* call, int32_t number, const lm_backend** out) {
    *out = lm_find_backend(number);
    return *out != NULL ? LM_OK
                        : lm_fail(LM_ERROR_UNSUPPORTED, "%s: backend %d is not loaded, or there is none of that number",
                                  call, number);
}

int32_t lm_device_count(int32_t backend, int32_t* out) {
    REQUIRE_POINTER(out);
    *out = 0;
    const lm_backend* found;
    TRY(find_backend(__func__, backend, &found));
    return found->count(out);
}

int32_t lm_device_open(const lm_device_options* options, lm_device** out) {
    REQUIRE_POINTER(options);
    REQUIRE_POINTER(out);
    *out = NULL;
    REQUIRE(options->ordinal >= 0, "lm_device_open: ordinal is %d, it must not be negative", options->ordinal);
    REQUIRE(options->mode == LM_MODE_EXACT || options->mode == LM_MODE_FAST, "lm_device_open: unknown mode %d",
            options->mode);
    const lm_backend* backend;
    TRY(find_backend(__func__, options->backend, &backend));
    return backend->open(options, out);
}

int32_t lm_device_close(lm_device* device) {
    if (device == NULL) {
        return LM_OK;
    }
    pthread_mutex_lock(&device->lock);
    int32_t children = device->children;
    int32_t allocations = device->allocation_count;
    pthread_mutex_unlock(&device->lock);
    REQUIRE(
        children == 0 && allocations == 0,
        "lm_device_close: %d queues, KV caches or files and %d allocations of this device are open; close them first",
        children, allocations);
    free(device->allocations);
    device->backend->close(device);
    return LM_OK;
}

int32_t lm_device_get_info(const lm_device* device, lm_device_info* out) {
    REQUIRE_POINTER(device);
    REQUIRE_POINTER(out);
    *out = device->info;
    return device->backend->free_bytes(device, &out->free_bytes);
}

/* How many allocations begin at or before this address; the lock is held. */
static int32_t allocations_up_to(const lm_device* device, const void* address) {
    int32_t low = 0;
    int32_t high = device->allocation_count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if ((uintptr_t)device->allocations[middle].memory <= (uintptr_t)address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

enum { NONE, SOME, ALL };

/* How many of these bytes, more than 0, lie in one lm_device_alloc; searched, for thousands of panels may be there. */
static int bytes_on_device(lm_device* device, const void* memory, int64_t bytes) {
    uintptr_t start = (uintptr_t)memory;
    uintptr_t last = start + (uintptr_t)bytes - 1;
    int found = NONE;
    pthread_mutex_lock(&device->lock);
    for (int32_t i = allocations_up_to(device, (const void*)last) - 1; i >= 0; i--) {
        const lm_allocation* allocation = &device->allocations[i];
        uintptr_t from = (uintptr_t)allocation->memory;
        uintptr_t to = from + (uintptr_t)allocation->bytes;
        if (to <= start) {
            break;
        }
        if (!allocation->host) {
            found = from <= start && last < to ? ALL : SOME;
        }
    }
    pthread_mutex_unlock(&device->lock);
    return found;
}

/* Puts an allocation in its place; 0 if there is no memory for that. The lock is held. */
static int note_allocation(lm_device* device, lm_allocation allocation) {
    if (device->allocation_count == device->allocation_room) {
        int32_t room = device->allocation_room == 0 ? 16 : device->allocation_room * 2;
        lm_allocation* larger = room < 0 ? NULL : realloc(device->allocations, (size_t)room * sizeof *larger);
        if (larger == NULL) {
            return 0;
        }
        device->allocations = larger;
        device->allocation_room = room;
    }
    int32_t place = allocations_up_to(device, allocation.memory);
    lm_allocation* at = &device->allocations[place];
    memmove(at + 1, at, (size_t)(device->allocation_count - place) * sizeof *at);
    *at = allocation;
    device->allocation_count++;
    return 1;
}

static int32_t allocate(const char* call, lm_device* device, int32_t host, int64_t bytes, void** out) {
    REQUIRE(device != NULL && out != NULL, "%s: %s is null", call, device == NULL ? "device" : "out");
    *out = NULL;
    REQUIRE(bytes > 0, "%s: %lld bytes asked for, it must be above 0", call, LL(bytes));
    int32_t use = host ? LM_MEMORY_HOST : LM_MEMORY_DEVICE;
    lm_allocation allocation = {NULL, bytes, host};
    TRY(device->backend->alloc(device, use, bytes, &allocation.memory));
    pthread_mutex_lock(&device->lock);
    int noted = note_allocation(device, allocation);
    pthread_mutex_unlock(&device->lock);
    if (!noted) {
        device->backend->free(device, use, allocation.memory, bytes);
        return lm_fail(LM_ERROR_OUT_OF_MEMORY, "%s: no memory", call);
    }
    *out = allocation.memory;
    return LM_OK;
}

static int32_t release(const char* call, lm_device* device, int32_t host, void* memory, int64_t bytes) {
    REQUIRE(device != NULL, "%s: device is null", call);
    if (memory == NULL) {
        return LM_OK;
    }
    pthread_mutex_lock(&device->lock);
    int32_t place = allocations_up_to(device, memory) - 1;
    lm_allocation* found = place < 0 ? NULL : &device->allocations[place];
    int matches = found != NULL && found->memory == memory && found->bytes == bytes && found->host == host;
    if (matches) {
        device->allocation_count--;
        memmove(found, found + 1, (size_t)(device->allocation_count - place) * sizeof *found);
    }
    pthread_mutex_unlock(&device->lock);
    REQUIRE(matches, "%s: %lld bytes at %p are no open allocation of this device", call, LL(bytes), memory);
    device->backend->free(device, host ? LM_MEMORY_HOST : LM_MEMORY_DEVICE, memory, bytes);
    return LM_OK;
}

int32_t lm_host_alloc(lm_device* device, int64_t bytes, void** out) {
    return allocate(__func__, device, 1, bytes, out);
}

int32_t lm_host_free(lm_device* device, void* memory, int64_t bytes) {
    return release(__func__, device, 1, memory, bytes);
}

int32_t lm_device_alloc(lm_device* device, int64_t bytes, void** out) {
    return allocate(__func__, device, 0, bytes, out);
}

int32_t lm_device_free(lm_device* device, void* memory, int64_t bytes) {
    return release(__func__, device, 0, memory, bytes);
}

static void add_children(lm_device* device, int32_t n) {
    pthread_mutex_lock(&device->lock);
    device->children += n;
    pthread_mutex_unlock(&device->lock);
}

/* -- queues and KV caches ---------------------------------------------------------------------------------------- */

int32_t lm_queue_create(lm_device* device, lm_queue** out) {
    REQUIRE_POINTER(device);
    REQUIRE_POINTER(out);
    *out = NULL;
    lm_queue* queue = NULL;
    int32_t status = device->backend->queue_create(device, &queue);
    if (status != LM_OK) {
        return status;
    }
    queue->device = device;
    *out = queue;
    add_children(device, 1);
    return LM_OK;
}

int32_t lm_queue_destroy(lm_queue* queue) {
    if (queue == NULL) {
        return LM_OK;
    }
    lm_device* device = queue->device;
    int32_t status = device->backend->wait(queue, queue->last_ticket);
    device->backend->queue_destroy(queue);
    add_children(device, -1);
    return status;
}

int32_t lm_queue_trim(lm_queue* queue) {
    REQUIRE_POINTER(queue);
    int32_t status = queue->device->backend->wait(queue, queue->last_ticket);
    queue->device->backend->queue_trim(queue);
    return status;
}

/* Far above any model and any tree; they keep all products of these sizes within 64 bits. */
#define LM_HEADS_MOST 65536
#define LM_HEAD_DIM_MOST 65536
#define LM_BRANCH_MOST 65536

/* Adds kv_heads * places * dim elements to *bytes, rounded up to 64 bytes; 0 if that does not fit. */
static int add_tensor(int64_t* bytes, int64_t kv_heads, int64_t places, int64_t dim, int64_t element_bytes) {
    int64_t size;
    return !__builtin_mul_overflow(kv_heads * dim, places, &size) && !__builtin_mul_overflow(size, element_bytes, &size)
           && !__builtin_add_overflow(size, 63, &size) && !__builtin_add_overflow(*bytes, size & ~INT64_C(63), bytes);
}

/* Lays out a cache: fills slots where they are wanted, and the bytes it takes. */
static int32_t kv_layout(const char* call, const lm_kv_layer* layers, int32_t layer_count, int32_t capacity,
                         int32_t dtype, lm_kv_slot* slots, int64_t* bytes) {
    REQUIRE(layers != NULL, "%s: layers is null", call);
    REQUIRE(layer_count > 0, "%s: layer_count is %d, it must be above 0", call, layer_count);
    REQUIRE(capacity > 0, "%s: capacity is %d, it must be above 0", call, capacity);
    REQUIRE(dtype == LM_DTYPE_F32 || dtype == LM_DTYPE_F16,
            "%s: a KV cache of dtype %d, it must be f32 (%d) or f16 (%d)", call, dtype, LM_DTYPE_F32, LM_DTYPE_F16);
    *bytes = 0;
    for (int32_t i = 0; i < layer_count; i++) {
        lm_kv_layer shape = layers[i];
        REQUIRE(shape.kv_heads > 0 && shape.head_dim > 0 && shape.head_dim_v > 0 && shape.kv_heads <= LM_HEADS_MOST
                    && shape.head_dim <= LM_HEAD_DIM_MOST && shape.head_dim_v <= LM_HEAD_DIM_MOST,
                "%s: layer %d has kv_heads %d, head_dim %d, head_dim_v %d; these must be 1 to %d, 1 to %d, 1 to %d",
                call, i, shape.kv_heads, shape.head_dim, shape.head_dim_v, LM_HEADS_MOST, LM_HEAD_DIM_MOST,
                LM_HEAD_DIM_MOST);
        REQUIRE(shape.kind >= LM_KV_HEADS && shape.kind <= LM_KV_STATE, "%s: layer %d is of the unknown kind %d", call,
                i, shape.kind);
        REQUIRE(shape.places >= 0 && (shape.places == 0 || shape.kind != LM_KV_STATE), "%s: layer %d has %d places%s",
                call, i, shape.places, shape.kind == LM_KV_STATE ? ", a state has none" : "");
        REQUIRE(shape.kind != LM_KV_LATENT || shape.head_dim_v <= shape.head_dim,
                "%s: layer %d has head_dim_v %d above head_dim %d, but values are parts of keys", call, i,
                shape.head_dim_v, shape.head_dim);
        lm_kv_slot slot = {.shape = shape, .keys = *bytes};
        int fits;
        if (shape.kind == LM_KV_STATE) {
            fits = add_tensor(bytes, shape.kv_heads, shape.head_dim, shape.head_dim_v, sizeof(float));
            slot.values = *bytes;
            fits = fits && add_tensor(bytes, shape.kv_heads, shape.head_dim, shape.head_dim_v, sizeof(float));
        } else {
            slot.places = shape.places > 0 && shape.places < capacity ? shape.places : capacity;
            fits = add_tensor(bytes, shape.kv_heads, slot.places, shape.head_dim, lm_dtype_bytes(dtype));
            slot.values = shape.kind == LM_KV_LATENT ? slot.keys : *bytes;
            fits = fits
                   && (shape.kind == LM_KV_LATENT
                       || add_tensor(bytes, shape.kv_heads, slot.places, shape.head_dim_v, lm_dtype_bytes(dtype)));
        }
        REQUIRE(fits, "%s: layer %d with %d positions takes more bytes than 64 bits hold", call, i, capacity);
        if (slots != NULL) {
            slots[i] = slot;
        }
    }
    return LM_OK;
}

int32_t lm_kv_bytes(const lm_kv_layer* layers, int32_t layer_count, int32_t capacity, int32_t dtype, int64_t* out) {
    REQUIRE_POINTER(out);
    *out = 0;
    int64_t bytes = 0;
    int32_t status = kv_layout(__func__, layers, layer_count, capacity, dtype, NULL, &bytes);
    if (status == LM_OK) {
        *out = bytes;
    }
    return status;
}

static void free_kv(lm_kv* kv) {
    const lm_backend* backend = kv->device->backend;
    if (kv->memory != NULL) {
        backend->free(kv->device, LM_MEMORY_KV, kv->memory, kv->bytes);
    }
    if (kv->host_memory != NULL) {
        backend->free(kv->device, LM_MEMORY_HOST_KV, kv->host_memory, kv->host_bytes);
    }
    free(kv);
}

int32_t lm_kv_create(lm_device* device, const lm_kv_layer* layers, int32_t layer_count, int32_t capacity, int32_t dtype,
                     int32_t host_layers, lm_kv** out) {
    REQUIRE_POINTER(device);
    REQUIRE_POINTER(out);
    *out = NULL;
    int64_t bytes = 0;
    TRY(kv_layout(__func__, layers, layer_count, capacity, dtype, NULL, &bytes));
    REQUIRE(host_layers >= 0 && host_layers <= layer_count, "lm_kv_create: host_layers is %d, it must be 0 to %d",
            host_layers, layer_count);
    lm_kv* kv = calloc(1, sizeof(lm_kv) + (size_t)layer_count * sizeof(lm_kv_slot));
    if (kv == NULL) {
        return lm_fail(LM_ERROR_OUT_OF_MEMORY, "lm_kv_create: no memory");
    }
    kv->device = device;
    kv->capacity = capacity;
    kv->dtype = dtype;
    kv->layer_count = layer_count;
    int32_t on_device = layer_count - host_layers;
    int32_t status = LM_OK;
    if (on_device > 0) {
        kv_layout(__func__, layers, on_device, capacity, dtype, kv->layers, &kv->bytes);
        status = device->backend->alloc(device, LM_MEMORY_KV, kv->bytes, &kv->memory);
    }
    if (host_layers > 0 && status == LM_OK) {
        kv_layout(__func__, layers + on_device, host_layers, capacity, dtype, kv->layers + on_device, &kv->host_bytes);
        status = device->backend->alloc(device, LM_MEMORY_HOST_KV, kv->host_bytes, &kv->host_memory);
    }
    if (status != LM_OK) {
        free_kv(kv);
        return status;
    }
    for (int32_t i = 0; i < layer_count; i++) {
        kv->layers[i].memory = i < on_device ? kv->memory : kv->host_memory;
    }
    add_children(device, 1);
    *out = kv;
    return LM_OK;
}

int32_t lm_kv_destroy(lm_kv* kv) {
    if (kv == NULL) {
        return LM_OK;
    }
    lm_device* device = kv->device;
    free_kv(kv);
    add_children(device, -1);
    return LM_OK;
}

/* -- checks of a submission -------------------------------------------------------------------------------------- */

#define LM_STRIDE_MOST (INT64_MAX / 64) /* so that kernels may look a few rows ahead */
#define LM_INPUTS_MOST (INT64_C(1) << 40) /* bytes: far above any step, far below where sums of sizes overflow */

/* The op under check, for messages. */
typedef struct checked {
    const lm_op* op;
    const lm_step* step;
    lm_device* device;
    int32_t index;
    const char* name;
    int32_t rows; /* of the op's row set */
} checked;

#define REQUIRE_OP(condition, format, ...)                                                                             \
    REQUIRE(condition, "lm_submit: op %d (%s): " format, c->index, c->name, __VA_ARGS__)

static const char* op_name(int32_t code) {
    static const char* const names[] = {
        [LM_OP_EMBED] = "embed",
        [LM_OP_RMS_NORM] = "rms_norm",
        [LM_OP_LINEAR] = "linear",
        [LM_OP_ROPE] = "rope",
        [LM_OP_KV_STORE] = "kv_store",
        [LM_OP_ATTENTION] = "attention",
        [LM_OP_ACTIVATION] = "activation",
        [LM_OP_ADD] = "add",
        [LM_OP_GATHER_ROWS] = "gather_rows",
        [LM_OP_LINEAR_TRANSPOSED] = "linear_transposed",
        [LM_OP_WEIGHT_NORM] = "weight_norm",
        [LM_OP_LAYER_NORM] = "layer_norm",
        [LM_OP_SCALE] = "scale",
        [LM_OP_SCATTER_ADD] = "scatter_add",
        [LM_OP_CONVOLUTION] = "convolution",
        [LM_OP_DELTA_RULE] = "delta_rule",
    };
    return code >= LM_OP_EMBED && code < (int32_t)(sizeof names / sizeof names[0]) ? names[code] : NULL;
}

/* A kernel that reads host memory as if it were its own ends the device for the whole process. */
static int on_device(lm_device* device, const void* memory, int64_t bytes) {
    return device->info.unified || bytes == 0 || bytes_on_device(device, memory, bytes) == ALL;
}

#define NOT_ON_DEVICE "%lld bytes at %p, are not all within one lm_device_alloc of this device: copy them there first"

static int32_t check_view(const checked* c, const char* which, const lm_view* view, int32_t rows, int64_t width) {
    REQUIRE_OP(view->width > 0 && view->width == width, "%s is %d wide, it must be %lld", which, view->width,
               LL(width));
    REQUIRE_OP(view->stride >= view->width, "%s has a stride of %d below its width %d", which, view->stride,
               view->width);
    int64_t floats = c->step->activations_bytes / (int64_t)sizeof(float);
    int64_t span = rows == 0 ? 0 : (int64_t)(rows - 1) * view->stride + view->width;
    REQUIRE_OP(view->offset >= 0 && view->offset <= floats && span <= floats - view->offset,
               "%s at float %lld, %d rows, stride %d, width %d: ends beyond the %lld floats of the activations", which,
               LL(view->offset), rows, view->stride, view->width, LL(floats));
    return LM_OK;
}

static int same_view(const lm_view* x, const lm_view* y, int32_t rows) {
    return x->offset == y->offset && x->width == y->width && (rows <= 1 || x->stride == y->stride);
}

/* Whether two views share a float: exact for equal strides, by their whole extent for others. */
static int views_overlap(const lm_view* x, int32_t x_rows, const lm_view* y, int32_t y_rows) {
    if (x_rows == 0 || y_rows == 0) {
        return 0;
    }
    if (x->offset > y->offset) {
        return views_overlap(y, y_rows, x, x_rows);
    }
    int64_t distance = y->offset - x->offset;
    if (distance >= (int64_t)(x_rows - 1) * x->stride + x->width) {
        return 0;
    }
    if (x->stride != y->stride) {
        return 1;
    }
    int64_t row = distance / x->stride;
    int64_t column = distance % x->stride; /* where rows of y begin within rows of x */
    return column < x->width || (column + y->width > x->stride && row + 1 < x_rows);
}

/* out may be exactly `in` where in_place allows it, and shares nothing with it otherwise. */
static int32_t check_apart(const checked* c, const char* which, const lm_view* in, int32_t in_rows, int in_place) {
    const lm_view* out = &c->op->out;
    REQUIRE_OP((in_place && same_view(out, in, in_rows)) || !views_overlap(out, c->rows, in, in_rows),
               "out (float %lld, stride %d, width %d) overlaps %s (float %lld, stride %d, width %d)", LL(out->offset),
               out->stride, out->width, which, LL(in->offset), in->stride, in->width);
    return LM_OK;
}

static int32_t check_inputs(const checked* c, int64_t row_bytes) {
    int64_t offset = c->op->input_offset;
    int64_t bytes; /* row_bytes is below 2^33 and rows below 2^31: their product can leave 63 bits only by overflow */
    int overflow = __builtin_mul_overflow(row_bytes, (int64_t)c->rows, &bytes);
    REQUIRE_OP(c->step->inputs != NULL || bytes == 0, "%s", "step.inputs is null");
    REQUIRE_OP(!overflow && offset >= 0 && offset <= c->step->inputs_bytes && bytes <= c->step->inputs_bytes - offset,
               "reads %d rows of %lld bytes at byte %lld of inputs that have %lld", c->rows, LL(row_bytes), LL(offset),
               LL(c->step->inputs_bytes));
    return LM_OK;
}

static int32_t check_vector(const checked* c, int64_t length) {
    REQUIRE_OP(c->op->vector != NULL, "%s", "vector is null");
    REQUIRE_OP((uintptr_t)c->op->vector % sizeof(float) == 0, "vector at %p is not aligned to 4 bytes",
               (const void*)c->op->vector);
    REQUIRE_OP(c->op->vector_length == length, "vector has %lld floats, it must have %lld", LL(c->op->vector_length),
               LL(length));
    REQUIRE_OP(on_device(c->device, c->op->vector, length * (int64_t)sizeof(float)), "vector, " NOT_ON_DEVICE,
               LL(length * (int64_t)sizeof(float)), (const void*)c->op->vector);
    return LM_OK;
}

/* weight_rows rows of row_bytes bytes in the panel, stride bytes apart, from an offset on. */
static int32_t check_panel(const checked* c, const char* which, int64_t offset, int64_t stride, int64_t row_bytes) {
    int32_t rows = c->op->weight_rows;
    int64_t panel_bytes = c->step->panel_bytes;
    REQUIRE_OP(stride >= row_bytes, "%s_stride of %lld bytes is below a row of %lld", which, LL(stride), LL(row_bytes));
    int64_t span;
    int overflow = stride > LM_STRIDE_MOST || __builtin_mul_overflow((int64_t)(rows - 1), stride, &span)
                   || __builtin_add_overflow(span, row_bytes, &span);
    REQUIRE_OP(!overflow && offset >= 0 && offset <= panel_bytes && span <= panel_bytes - offset,
               "%s of %d rows, %lld bytes apart, at byte %lld ends beyond the %lld bytes of the panel", which, rows,
               LL(stride), LL(offset), LL(panel_bytes));
    return LM_OK;
}

/* The scales of weight_rows rows of so many columns, one for each 128 x 128 of them. */
static int32_t check_block_scales(const checked* c, int64_t columns) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->scales != NULL, "%s", "scales is null");
    REQUIRE_OP((uintptr_t)op->scales % sizeof(float) == 0, "scales at %p is not aligned to 4 bytes",
               (const void*)op->scales);
    REQUIRE_OP(op->scale_row >= 0 && op->scale_row < 128, "scale_row is %d, it must be 0 to 127", op->scale_row);
    int64_t row_blocks = ((int64_t)op->scale_row + op->weight_rows + 127) / 128;
    int64_t column_blocks = (columns + 127) / 128;
    REQUIRE_OP(op->scale_stride >= column_blocks, "scale_stride of %lld floats is below a row of %lld",
               LL(op->scale_stride), LL(column_blocks));
    int64_t floats;
    int overflow = op->scale_stride > LM_STRIDE_MOST
                   || __builtin_mul_overflow(row_blocks - 1, op->scale_stride, &floats)
                   || __builtin_add_overflow(floats, column_blocks, &floats);
    REQUIRE_OP(!overflow && floats <= op->scales_length && floats <= INT64_MAX / (int64_t)sizeof(float),
               "%lld rows of scales, %lld floats apart, end beyond the %lld floats of scales", LL(row_blocks),
               LL(op->scale_stride), LL(op->scales_length));
    REQUIRE_OP(on_device(c->device, op->scales, floats * (int64_t)sizeof(float)), "scales, " NOT_ON_DEVICE,
               LL(floats * (int64_t)sizeof(float)), (const void*)op->scales);
    return LM_OK;
}

/* The weight in the panel: weight_rows rows of so many columns, and its scales. */
static int32_t check_weight(const checked* c, int64_t columns) {
    const lm_op* op = c->op;
    const lm_step* step = c->step;
    int64_t block = lm_scale_block(op->dtype);
    REQUIRE_OP(block != 0 || lm_dtype_bytes(op->dtype) != 0, "unknown weight dtype %d", op->dtype);
    REQUIRE_OP(op->weight_rows > 0, "weight_rows is %d, it must be above 0", op->weight_rows);
    REQUIRE_OP(step->panel != NULL, "%s", "step.panel is null");
    TRY(check_panel(c, "weight", op->weight_offset, op->weight_stride, lm_weight_bytes(op->dtype, columns)));
    if (op->dtype == LM_DTYPE_F8_E4M3) {
        TRY(check_block_scales(c, columns));
    } else if (op->dtype == LM_DTYPE_MXFP4) {
        REQUIRE_OP(columns % block == 0, "a weight row has %lld elements, it must be a multiple of %lld", LL(columns),
                   LL(block));
        TRY(check_panel(c, "scale", op->scale_offset, op->scale_stride, columns / block));
    }
    REQUIRE_OP(on_device(c->device, step->panel, step->panel_bytes), "step.panel, " NOT_ON_DEVICE,
               LL(step->panel_bytes), step->panel);
    return LM_OK;
}

/* Where the positions of a row's branch lie. */
static int32_t check_branch(const checked* c, int32_t row) {
    const lm_step* step = c->step;
    const int32_t* places = step->branch + (int64_t)row * step->branch_width; // (branch_width)
    int32_t position = step->positions[row];
    int32_t capacity = step->kv[step->sequence[row]]->capacity;
    for (int32_t j = 0; j < step->branch_width && j <= position; j++) {
        REQUIRE_OP(places[j] >= 0 && places[j] < capacity,
                   "position %d of row %d's branch is at place %d of a KV cache for %d positions", position - j, row,
                   places[j], capacity);
    }
    return LM_OK;
}

/* The rows' caches, positions and places, and the shape of the op's layer in each of them; *out is that shape. */
static int32_t check_kv(const checked* c, lm_kv_layer* out) {
    const lm_op* op = c->op;
    const lm_step* step = c->step;
    REQUIRE_OP(step->positions != NULL && step->sequence != NULL && step->kv != NULL, "step.%s is null",
               step->positions == NULL  ? "positions"
               : step->sequence == NULL ? "sequence"
                                        : "kv");
    REQUIRE_OP(step->sequences > 0, "step.sequences is %d, it must be above 0", step->sequences);
    REQUIRE_OP(step->branch != NULL || step->branch_width == 0, "step.branch is null, step.branch_width is %d",
               step->branch_width);
    for (int32_t i = 0; i < step->sequences; i++) {
        const lm_kv* kv = step->kv[i];
        REQUIRE_OP(kv != NULL, "step.kv[%d] is null", i);
        REQUIRE_OP(kv->device == c->device, "step.kv[%d] belongs to another device than the queue", i);
        REQUIRE_OP(op->layer >= 0 && op->layer < kv->layer_count, "layer %d of a KV cache that has %d", op->layer,
                   kv->layer_count);
        for (int32_t other = 0; op->code == LM_OP_KV_STORE && other < i; other++) {
            REQUIRE_OP(step->kv[other] != kv, "step.kv[%d] is step.kv[%d] too", other, i);
        }
        lm_kv_layer shape = kv->layers[op->layer].shape;
        REQUIRE_OP(shape.kind != LM_KV_STATE, "layer %d of step.kv[%d] is a state, without keys", op->layer, i);
        if (i == 0) {
            *out = shape;
        }
        REQUIRE_OP(shape.kv_heads == out->kv_heads && shape.head_dim == out->head_dim
                       && shape.head_dim_v == out->head_dim_v && shape.kind == out->kind && shape.places == out->places,
                   "layer %d of step.kv[%d] has another shape than that of step.kv[0]", op->layer, i);
    }
    for (int32_t i = 0; i < c->rows; i++) {
        int32_t row = lm_step_row(step, op->row_set, i);
        int32_t sequence = step->sequence[row];
        REQUIRE_OP(sequence >= 0 && sequence < step->sequences, "row %d is of sequence %d, step.sequences is %d", row,
                   sequence, step->sequences);
        int32_t position = step->positions[row];
        REQUIRE_OP(position >= 0 && position < step->kv[sequence]->capacity,
                   "row %d is at position %d of a KV cache for %d positions", row, position,
                   step->kv[sequence]->capacity);
        TRY(check_branch(c, row));
    }
    return LM_OK;
}

/* Groups of a norm, and its vector: null, as wide as a group, or as wide as a row. */
static int32_t check_norm(const checked* c) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->heads > 0 && op->a.width % op->heads == 0, "a row of %d floats cannot be cut into %d groups",
               op->a.width, op->heads);
    REQUIRE_OP(op->out.width == op->a.width, "out is %d wide, a %d", op->out.width, op->a.width);
    TRY(check_apart(c, "a", &op->a, c->rows, 1));
    if (op->vector == NULL) {
        return LM_OK;
    }
    return check_vector(c, op->vector_length == op->a.width ? op->a.width : op->a.width / op->heads);
}

/* The rows' sequences and their states, and the shape of the op's layer in each of them; *out is that shape. */
static int32_t check_states(const checked* c, lm_kv_layer* out) {
    const lm_op* op = c->op;
    const lm_step* step = c->step;
    REQUIRE_OP(step->sequence != NULL && step->states != NULL && step->kv != NULL, "step.%s is null",
               step->sequence == NULL ? "sequence"
               : step->states == NULL ? "states"
                                      : "kv");
    REQUIRE_OP(step->sequences > 0, "step.sequences is %d, it must be above 0", step->sequences);
    REQUIRE_OP(step->branch_width == 0, "step.branch_width is %d, a state has no branches", step->branch_width);
    for (int32_t i = 0; i < step->sequences; i++) {
        const lm_kv* kv = step->kv[i];
        REQUIRE_OP(kv != NULL, "step.kv[%d] is null", i);
        REQUIRE_OP(kv->device == c->device, "step.kv[%d] belongs to another device than the queue", i);
        REQUIRE_OP(op->layer >= 0 && op->layer < kv->layer_count, "layer %d of a KV cache that has %d", op->layer,
                   kv->layer_count);
        for (int32_t other = 0; other < i; other++) {
            REQUIRE_OP(step->kv[other] != kv, "step.kv[%d] is step.kv[%d] too", other, i);
        }
        lm_kv_layer shape = kv->layers[op->layer].shape;
        REQUIRE_OP(shape.kind == LM_KV_STATE, "layer %d of step.kv[%d] is no state", op->layer, i);
        if (i == 0) {
            *out = shape;
        }
        REQUIRE_OP(shape.kv_heads == out->kv_heads && shape.head_dim == out->head_dim
                       && shape.head_dim_v == out->head_dim_v,
                   "layer %d of step.kv[%d] has another shape than that of step.kv[0]", op->layer, i);
        REQUIRE_OP(step->states[i] >= -1 && step->states[i] <= 1, "step.states[%d] is %d, it must be -1, 0 or 1", i,
                   step->states[i]);
    }
    for (int32_t i = 0; i < c->rows; i++) {
        int32_t row = lm_step_row(step, op->row_set, i);
        int32_t sequence = step->sequence[row];
        REQUIRE_OP(sequence >= 0 && sequence < step->sequences, "row %d is of sequence %d, step.sequences is %d", row,
                   sequence, step->sequences);
    }
    return LM_OK;
}

static int32_t check_convolution(const checked* c) {
    const lm_op* op = c->op;
    lm_kv_layer shape;
    TRY(check_states(c, &shape));
    REQUIRE_OP(op->kind == LM_ACTIVATION_SILU || op->kind == LM_ACTIVATION_IDENTITY, "unknown kind %d", op->kind);
    REQUIRE_OP(shape.kv_heads == 1 && shape.head_dim < LM_TAPS_MOST && shape.head_dim_v == op->a.width,
               "a state of %d x %d x %d floats; it must be 1 x 1 to %d x %d, as wide as a", shape.kv_heads,
               shape.head_dim, shape.head_dim_v, LM_TAPS_MOST - 1, op->a.width);
    REQUIRE_OP(op->out.width == op->a.width, "out is %d wide, a %d", op->out.width, op->a.width);
    TRY(check_apart(c, "a", &op->a, c->rows, 0));
    return check_vector(c, (int64_t)op->a.width * (shape.head_dim + 1));
}

static int32_t check_delta_rule(const checked* c) {
    const lm_op* op = c->op;
    lm_kv_layer shape;
    TRY(check_states(c, &shape));
    REQUIRE_OP(op->heads > 0 && shape.kv_heads % op->heads == 0, "%d heads cannot be shared by %d value heads",
               op->heads, shape.kv_heads);
    int64_t values = (int64_t)shape.kv_heads * shape.head_dim_v;
    TRY(check_view(c, "a", &op->a, c->rows, 2 * (int64_t)op->heads * shape.head_dim + values));
    TRY(check_view(c, "b", &op->b, c->rows, 2 * (int64_t)shape.kv_heads));
    TRY(check_view(c, "out", &op->out, c->rows, values));
    TRY(check_apart(c, "a", &op->a, c->rows, 0));
    TRY(check_apart(c, "b", &op->b, c->rows, 0));
    return check_vector(c, 2 * (int64_t)shape.kv_heads);
}

static int32_t check_linear(const checked* c) {
    const lm_op* op = c->op;
    TRY(check_weight(c, op->a.width));
    REQUIRE_OP(op->out.width == op->weight_rows, "out is %d wide, weight_rows is %d", op->out.width, op->weight_rows);
    TRY(check_apart(c, "a", &op->a, c->rows, 0));
    return op->vector == NULL ? LM_OK : check_vector(c, op->weight_rows);
}

static int32_t check_linear_transposed(const checked* c) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->dtype != LM_DTYPE_MXFP4, "unknown weight dtype %d", op->dtype);
    TRY(check_weight(c, op->out.width));
    REQUIRE_OP(op->a.width == op->weight_rows, "a is %d wide, weight_rows is %d", op->a.width, op->weight_rows);
    REQUIRE_OP(op->accumulate == 0 || op->accumulate == 1, "accumulate is %d, it must be 0 or 1", op->accumulate);
    TRY(check_apart(c, "a", &op->a, c->rows, 0));
    return op->accumulate || op->vector == NULL ? LM_OK : check_vector(c, op->out.width);
}

static int32_t check_weight_norm(const checked* c) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->columns > 0, "columns is %d, it must be above 0", op->columns);
    TRY(check_weight(c, op->columns));
    REQUIRE_OP(op->out.width == op->weight_rows && op->a.width == op->weight_rows,
               "out is %d wide, a %d, weight_rows is %d", op->out.width, op->a.width, op->weight_rows);
    return check_apart(c, "a", &op->a, c->rows, 1);
}

static int32_t check_rope(const checked* c) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->kind == LM_ROPE_HALF || op->kind == LM_ROPE_INTERLEAVED, "unknown kind %d", op->kind);
    REQUIRE_OP(op->rotary_dim > 0 && op->rotary_dim % 2 == 0 && op->rotary_dim <= op->head_dim,
               "rotary_dim is %d, it must be even, above 0 and at most head_dim %d", op->rotary_dim, op->head_dim);
    int64_t width = (int64_t)op->heads * op->head_dim;
    REQUIRE_OP(op->heads > 0 && op->a.width <= width && op->a.width >= width - op->head_dim + op->rotary_dim,
               "%d heads of %d floats, of which %d are rotated, do not make rows of %d", op->heads, op->head_dim,
               op->rotary_dim, op->a.width);
    REQUIRE_OP(same_view(&op->out, &op->a, c->rows), "%s", "it works in place: out must be the same view as a");
    return check_inputs(c, op->rotary_dim * (int64_t)sizeof(float));
}

/*
 * Of a layer that keeps some places only: all that the rows of a sequence store, or see, must be there at the same
 * time, for which it is enough that the first and the last of these places are less than all apart.
 */
static int32_t check_places(const checked* c, int32_t sequence) {
    const lm_op* op = c->op;
    const lm_step* step = c->step;
    int32_t kept = step->kv[sequence]->layers[op->layer].places;
    int32_t low = INT32_MAX;
    int32_t high = 0;
    for (int32_t i = 0; i < c->rows; i++) {
        int32_t row = lm_step_row(step, op->row_set, i);
        if (step->sequence[row] != sequence) {
            continue;
        }
        int32_t position = step->positions[row];
        int32_t first = op->code == LM_OP_ATTENTION ? lm_first_visible(op, position) : position;
        int32_t p = position;
        for (; p >= first && position - p < step->branch_width; p--) {
            int32_t place = step->branch[(int64_t)row * step->branch_width + position - p];
            low = place < low ? place : low;
            high = place > high ? place : high;
        }
        if (p >= first) { /* at the places of their numbers */
            low = first < low ? first : low;
            high = p > high ? p : high;
        }
    }
    REQUIRE_OP(high < low || high - low < kept,
               "rows of sequence %d need the places %d to %d of layer %d, which has %d", sequence, low, high, op->layer,
               kept);
    return LM_OK;
}

static int32_t check_all_places(const checked* c, const lm_kv_layer* shape) {
    for (int32_t s = 0; shape->places > 0 && s < c->step->sequences; s++) {
        if (shape->places < c->step->kv[s]->capacity) {
            TRY(check_places(c, s));
        }
    }
    return LM_OK;
}

static int32_t check_kv_store(const checked* c) {
    lm_kv_layer shape;
    TRY(check_kv(c, &shape));
    TRY(check_all_places(c, &shape));
    TRY(check_view(c, "a", &c->op->a, c->rows, (int64_t)shape.kv_heads * shape.head_dim));
    if (shape.kind == LM_KV_LATENT) {
        REQUIRE_OP(c->op->b.width == 0, "b is %d wide, layer %d has no values of their own", c->op->b.width,
                   c->op->layer);
        return LM_OK;
    }
    return check_view(c, "b", &c->op->b, c->rows, (int64_t)shape.kv_heads * shape.head_dim_v);
}

static int32_t check_attention(const checked* c) {
    const lm_op* op = c->op;
    lm_kv_layer shape;
    TRY(check_kv(c, &shape));
    REQUIRE_OP(op->heads > 0 && op->heads % shape.kv_heads == 0, "%d heads cannot be shared by %d KV heads", op->heads,
               shape.kv_heads);
    REQUIRE_OP(op->head_dim == shape.head_dim, "head_dim is %d, the KV cache has %d", op->head_dim, shape.head_dim);
    REQUIRE_OP(op->window >= 0, "window is %d, it must not be negative", op->window);
    REQUIRE_OP(op->chunk >= 0, "chunk is %d, it must not be negative", op->chunk);
    REQUIRE_OP(op->softcap >= 0 && op->softcap <= FLT_MAX, "softcap is %g, it must not be negative, and finite",
               (double)op->softcap);
    REQUIRE_OP(op->kind >= LM_ATTENTION_PLAIN && op->kind <= LM_ATTENTION_SINKS, "unknown kind %d", op->kind);
    if (op->kind != LM_ATTENTION_PLAIN) {
        TRY(check_vector(c, op->heads));
    }
    TRY(check_all_places(c, &shape));
    TRY(check_view(c, "a", &op->a, c->rows, (int64_t)op->heads * shape.head_dim));
    TRY(check_view(c, "out", &op->out, c->rows, (int64_t)op->heads * shape.head_dim_v));
    return check_apart(c, "a", &op->a, c->rows, 0);
}

static int32_t check_activation(const checked* c) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->kind >= LM_ACTIVATION_SILU && op->kind <= LM_ACTIVATION_CLAMPED_SWIGLU, "unknown kind %d", op->kind);
    if (op->kind == LM_ACTIVATION_SOFT_CAP || op->kind == LM_ACTIVATION_CLAMPED_SWIGLU) {
        REQUIRE_OP(op->scale > 0 && op->scale <= FLT_MAX, "kind %d with a scale of %g, it must be above 0, and finite",
                   op->kind, (double)op->scale);
    }
    if (op->kind == LM_ACTIVATION_CLAMPED_SWIGLU) {
        REQUIRE_OP(op->b.width == 0, "b is %d wide, kind %d has none", op->b.width, op->kind);
        REQUIRE_OP(op->a.width == 2 * (int64_t)op->out.width, "out is %d wide, a %d: it must be twice that",
                   op->out.width, op->a.width);
        return check_apart(c, "a", &op->a, c->rows, 0);
    }
    if (op->b.width == 0) {
        REQUIRE_OP(op->out.width == op->a.width, "out is %d wide, a %d", op->out.width, op->a.width);
        return check_apart(c, "a", &op->a, c->rows, 1);
    }
    REQUIRE_OP(op->out.width % op->a.width == 0, "out is %d wide, a %d: no whole factor", op->out.width, op->a.width);
    TRY(check_apart(c, "a", &op->a, c->rows, 1));
    TRY(check_view(c, "b", &op->b, c->rows, op->out.width));
    return check_apart(c, "b", &op->b, c->rows, 1);
}

static int32_t check_add(const checked* c) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->out.width == op->a.width, "out is %d wide, a %d", op->out.width, op->a.width);
    TRY(check_apart(c, "a", &op->a, c->rows, 1));
    if (op->b.width == 0) {
        return check_vector(c, op->a.width);
    }
    TRY(check_view(c, "b", &op->b, c->rows, op->a.width));
    return check_apart(c, "b", &op->b, c->rows, 1);
}

static int32_t check_scale(const checked* c) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->out.width == op->a.width, "out is %d wide, a %d", op->out.width, op->a.width);
    TRY(check_apart(c, "a", &op->a, c->rows, 1));
    return op->vector == NULL ? LM_OK : check_vector(c, op->a.width);
}

/* Whether rows of the list are taken times their weights. */
static int32_t check_list_kind(const checked* c) {
    REQUIRE_OP(c->op->kind == LM_ROWS_PLAIN || c->op->kind == LM_ROWS_WEIGHTED, "unknown kind %d", c->op->kind);
    REQUIRE_OP(c->op->kind == LM_ROWS_PLAIN || c->step->list_weights != NULL || c->rows == 0, "%s",
               "step.list_weights is null");
    return LM_OK;
}

static int32_t check_gather_rows(const checked* c) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->row_set != LM_ROWS_ALL, "row_set is %d, it must be LM_ROWS_OUTPUT or LM_ROWS_LIST", op->row_set);
    REQUIRE_OP(op->out.width == op->a.width, "out is %d wide, a %d", op->out.width, op->a.width);
    if (op->row_set == LM_ROWS_LIST) {
        TRY(check_list_kind(c));
    }
    return check_apart(c, "a", &op->a, c->step->rows, 0);
}

static int32_t check_scatter_add(const checked* c) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->row_set == LM_ROWS_LIST, "row_set is %d, it must be LM_ROWS_LIST", op->row_set);
    REQUIRE_OP(op->out.width == op->a.width, "out is %d wide, a %d", op->out.width, op->a.width);
    TRY(check_list_kind(c));
    TRY(check_view(c, "out", &op->out, c->step->rows, op->out.width));
    REQUIRE_OP(!views_overlap(&op->out, c->step->rows, &op->a, c->rows), "%s", "out overlaps a");
    return LM_OK;
}

/* Rows of the list have neither inputs nor a place in a sequence. */
static int serves_list(int32_t code) {
    return code == LM_OP_GATHER_ROWS || code == LM_OP_SCATTER_ADD || code == LM_OP_LINEAR
           || code == LM_OP_LINEAR_TRANSPOSED || code == LM_OP_WEIGHT_NORM || code == LM_OP_ACTIVATION
           || code == LM_OP_ADD || code == LM_OP_SCALE || code == LM_OP_RMS_NORM || code == LM_OP_LAYER_NORM;
}

static int32_t check_op(const checked* c) {
    const lm_op* op = c->op;
    REQUIRE_OP(op->row_set >= LM_ROWS_ALL && op->row_set <= LM_ROWS_LIST, "unknown row_set %d", op->row_set);
    REQUIRE_OP(op->row_set != LM_ROWS_LIST || serves_list(op->code), "%s", "it takes no rows of the list");
    if (op->code != LM_OP_KV_STORE) { /* it writes to the cache alone */
        TRY(check_view(c, "out", &op->out, c->rows, op->out.width));
    }
    if (op->code == LM_OP_EMBED) {
        REQUIRE_OP(lm_dtype_bytes(op->dtype) != 0, "unknown dtype %d", op->dtype);
        return check_inputs(c, op->out.width * lm_dtype_bytes(op->dtype));
    }
    TRY(check_view(c, "a", &op->a, op->code == LM_OP_GATHER_ROWS ? c->step->rows : c->rows, op->a.width));
    switch (op->code) {
    case LM_OP_RMS_NORM:
    case LM_OP_LAYER_NORM:
        return check_norm(c);
    case LM_OP_LINEAR:
        return check_linear(c);
    case LM_OP_LINEAR_TRANSPOSED:
        return check_linear_transposed(c);
    case LM_OP_WEIGHT_NORM:
        return check_weight_norm(c);
    case LM_OP_CONVOLUTION:
        return check_convolution(c);
    case LM_OP_DELTA_RULE:
        return check_delta_rule(c);
    case LM_OP_ROPE:
        return check_rope(c);
    case LM_OP_KV_STORE:
        return check_kv_store(c);
    case LM_OP_ATTENTION:
        return check_attention(c);
    case LM_OP_ACTIVATION:
        return check_activation(c);
    case LM_OP_ADD:
        return check_add(c);
    case LM_OP_SCALE:
        return check_scale(c);
    case LM_OP_SCATTER_ADD:
        return check_scatter_add(c);
    default: /* LM_OP_GATHER_ROWS: check_submission knows no other code */
        return check_gather_rows(c);
    }
}

/* The rows of the list that this submission is about. */
static int32_t check_list(const lm_step* step) {
    REQUIRE(step->list_length >= 0 && step->list_first >= 0 && step->list_rows >= 0
                && step->list_rows <= step->list_length - step->list_first && step->list_rows <= step->rows,
            "lm_submit: %d rows from number %d on of step.list, which has %d, for step.rows %d", step->list_rows,
            step->list_first, step->list_length, step->rows);
    REQUIRE(step->list != NULL || step->list_rows == 0, "lm_submit: step.list is null");
    for (int32_t i = step->list_first; i < step->list_first + step->list_rows; i++) {
        REQUIRE(step->list[i] >= 0 && step->list[i] < step->rows, "lm_submit: step.list[%d] is %d, step.rows is %d", i,
                step->list[i], step->rows);
    }
    return LM_OK;
}

static int32_t check_submission(lm_device* device, const lm_op* ops, int32_t count, const lm_step* step) {
    REQUIRE(count >= 0, "lm_submit: count is %d, it must not be negative", count);
    REQUIRE(ops != NULL || count == 0, "lm_submit: ops is null");
    REQUIRE(step != NULL, "lm_submit: step is null");
    REQUIRE(step->rows > 0, "lm_submit: step.rows is %d, it must be above 0", step->rows);
    REQUIRE(step->output_rows >= 0 && step->output_rows <= step->rows,
            "lm_submit: step.output_rows is %d, it must be 0 to step.rows = %d", step->output_rows, step->rows);
    REQUIRE(step->sequences >= 0, "lm_submit: step.sequences is %d, it must not be negative", step->sequences);
    REQUIRE(step->branch_width >= 0 && step->branch_width <= LM_BRANCH_MOST,
            "lm_submit: step.branch_width is %d, it must be 0 to %d", step->branch_width, LM_BRANCH_MOST);
    REQUIRE(step->output_index != NULL || step->output_rows == 0, "lm_submit: step.output_index is null");
    for (int32_t i = 0; i < step->output_rows; i++) {
        REQUIRE(step->output_index[i] >= 0 && step->output_index[i] < step->rows,
                "lm_submit: step.output_index[%d] is %d, step.rows is %d", i, step->output_index[i], step->rows);
    }
    TRY(check_list(step));
    REQUIRE(step->activations != NULL, "lm_submit: step.activations is null");
    REQUIRE((uintptr_t)step->activations % 64 == 0, "lm_submit: step.activations at %p is not aligned to 64 bytes",
            step->activations);
    REQUIRE(step->activations_bytes >= 0 && step->inputs_bytes >= 0 && step->panel_bytes >= 0,
            "lm_submit: step has %lld activations_bytes, %lld inputs_bytes, %lld panel_bytes; none may be negative",
            LL(step->activations_bytes), LL(step->inputs_bytes), LL(step->panel_bytes));
    REQUIRE(step->inputs_bytes <= LM_INPUTS_MOST, "lm_submit: step.inputs_bytes is %lld, it must be at most %lld",
            LL(step->inputs_bytes), LL(LM_INPUTS_MOST));
    REQUIRE(device->info.unified || step->inputs == NULL || step->inputs_bytes == 0
                || bytes_on_device(device, step->inputs, step->inputs_bytes) == NONE,
            "lm_submit: step.inputs, %lld bytes at %p, are memory of the device, they must be of the host",
            LL(step->inputs_bytes), step->inputs);
    REQUIRE(on_device(device, step->activations, step->activations_bytes),
            "lm_submit: step.activations, " NOT_ON_DEVICE, LL(step->activations_bytes), step->activations);
    for (int32_t i = 0; i < count; i++) {
        const char* name = op_name(ops[i].code);
        REQUIRE(name != NULL, "lm_submit: op %d has the unknown code %d", i, ops[i].code);
        checked c = {&ops[i], step, device, i, name, lm_row_count(step, ops[i].row_set)};
        TRY(check_op(&c));
    }
    return LM_OK;
}

/* -- work -------------------------------------------------------------------------------------------------------- */

static void give_ticket(lm_queue* queue, int64_t* ticket) {
    queue->last_ticket++;
    if (ticket != NULL) {
        *ticket = queue->last_ticket;
    }
}

int32_t lm_submit(lm_queue* queue, const lm_op* ops, int32_t count, const lm_step* step, int64_t* ticket) {
    REQUIRE_POINTER(queue);
    TRY(check_submission(queue->device, ops, count, step));
    TRY(queue->device->backend->submit(queue, ops, count, step, queue->last_ticket + 1));
    give_ticket(queue, ticket);
    return LM_OK;
}

static int32_t copy(const char* call, lm_queue* queue, int32_t to_device, void* to, const void* from, int64_t bytes,
                    int64_t* ticket) {
    REQUIRE(queue != NULL, "%s: queue is null", call);
    REQUIRE(bytes >= 0, "%s: %lld bytes, it must not be negative", call, LL(bytes));
    REQUIRE(bytes == 0 || (to != NULL && from != NULL), "%s: the %s memory is null", call,
            to == NULL ? "destination" : "source");
    lm_device* device = queue->device;
    if (bytes > 0 && !device->info.unified) {
        const void* of_device = to_device ? to : from;
        const void* of_host = to_device ? from : to;
        REQUIRE(bytes_on_device(device, of_device, bytes) == ALL,
                "%s: the %s, %lld bytes at %p, are not all within one lm_device_alloc of this device", call,
                to_device ? "destination" : "source", LL(bytes), of_device);
        REQUIRE(bytes_on_device(device, of_host, bytes) == NONE,
                "%s: the %s, %lld bytes at %p, are memory of the device, they must be of the host", call,
                to_device ? "source" : "destination", LL(bytes), of_host);
    }
    if (bytes > 0) {
        TRY(device->backend->copy(queue, to_device, to, from, bytes, queue->last_ticket + 1));
    }
    give_ticket(queue, ticket);
    return LM_OK;
}

int32_t lm_copy_to_device(lm_queue* queue, void* device_memory, const void* host_memory, int64_t bytes,
                          int64_t* ticket) {
    return copy(__func__, queue, 1, device_memory, host_memory, bytes, ticket);
}

int32_t lm_copy_to_host(lm_queue* queue, void* host_memory, const void* device_memory, int64_t bytes, int64_t* ticket) {
    return copy(__func__, queue, 0, host_memory, device_memory, bytes, ticket);
}

int32_t lm_queue_after(lm_queue* queue, lm_queue* other, int64_t ticket) {
    REQUIRE_POINTER(queue);
    REQUIRE_POINTER(other);
    REQUIRE(queue->device->backend == other->device->backend, "lm_queue_after: the queues are of two backends");
    REQUIRE(ticket >= 0 && ticket <= other->last_ticket, "lm_queue_after: ticket %lld, the last one given was %lld",
            LL(ticket), LL(other->last_ticket));
    return queue->device->backend->after(queue, other, ticket);
}

int32_t lm_wait(lm_queue* queue, int64_t ticket) {
    REQUIRE_POINTER(queue);
    REQUIRE(ticket >= 0 && ticket <= queue->last_ticket, "lm_wait: ticket %lld, the last one given was %lld",
            LL(ticket), LL(queue->last_ticket));
    return queue->device->backend->wait(queue, ticket);
}

/* -- files ------------------------------------------------------------------------------------------------------- */

int32_t lm_device_file_open(lm_device* device, const char* path, lm_device_file** out) {
    REQUIRE_POINTER(device);
    REQUIRE_POINTER(path);
    REQUIRE_POINTER(out);
    *out = NULL;
    lm_device_file* file = NULL;
    TRY(device->backend->file_open(device, path, &file));
    file->device = device;
    add_children(device, 1);
    *out = file;
    return LM_OK;
}

int32_t lm_device_file_close(lm_device_file* file) {
    if (file == NULL) {
        return LM_OK;
    }
    lm_device* device = file->device;
    device->backend->file_close(file);
    add_children(device, -1);
    return LM_OK;
}

int32_t lm_device_file_direct(const lm_device_file* file, int32_t* out) {
    REQUIRE_POINTER(file);
    REQUIRE_POINTER(out);
    *out = file->direct;
    return LM_OK;
}

/* The start of the device allocation in which all of these bytes lie; null if there is none. */
static void* find_allocation(lm_device* device, const void* memory, int64_t bytes) {
    pthread_mutex_lock(&device->lock);
    int32_t place = allocations_up_to(device, memory) - 1;
    const lm_allocation* i = place < 0 ? NULL : &device->allocations[place];
    uintptr_t at = i == NULL ? 0 : (uintptr_t)memory - (uintptr_t)i->memory;
    int within = i != NULL && !i->host && bytes <= i->bytes && at <= (uintptr_t)(i->bytes - bytes);
    void* found = within ? i->memory : NULL;
    pthread_mutex_unlock(&device->lock);
    return found;
}

int32_t lm_device_file_read(lm_device_file* file, void* device_memory, int64_t bytes, int64_t offset, int64_t* read) {
    REQUIRE_POINTER(read);
    *read = 0;
    REQUIRE_POINTER(file);
    REQUIRE(bytes >= 0 && bytes <= LM_LARGEST_READ, "lm_device_file_read: %lld bytes, it must be 0 to %lld", LL(bytes),
            LL(LM_LARGEST_READ));
    REQUIRE(offset >= 0 && offset <= INT64_MAX - bytes, "lm_device_file_read: offset %lld", LL(offset));
    if (bytes == 0) {
        return LM_OK;
    }
    char* allocation = find_allocation(file->device, device_memory, bytes);
    REQUIRE(allocation != NULL,
            "lm_device_file_read: %lld bytes at %p do not lie in one device allocation of the file's device", LL(bytes),
            device_memory);
    return file->device->backend->file_read(file, allocation, (char*)device_memory - allocation, bytes, offset, read);
}
