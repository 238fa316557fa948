/* backend.cu: the table of the CUDA backend: devices, memory, queues, and what a step needs on the device. */
#include "file.h"
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__CUDACC__)
#define THIS_BACKEND LM_BACKEND_CUDA
#else
#define THIS_BACKEND LM_BACKEND_CUDA_EMULATED
#endif

enum {
    EVENTS = 64,           /* tickets of a queue that can be told apart */
    MEMORY_ALIGN = 4096,   /* what lamina.h promises; cudaMalloc gives 256 */
    INPUT_RANGES = 8,      /* of a step's inputs that a queue remembers: one of embedding rows, one a table of rope */
    OLDEST_CAPABILITY = 75 /* major * 10 + minor of the oldest GPU that the kernels are compiled for */
};

/* Memory that was handed out at another address than CUDA gave. */
struct moved_memory {
    moved_memory* next;
    void* memory;
    void* base;
};

struct cuda_device {
    lm_device base;
    int32_t ordinal;
    gpu properties;
    moved_memory* moved; /* guarded by moving */
    pthread_mutex_t moving;
};

/* A range of the device's memory that grows. */
struct cuda_buffer {
    uint8_t* memory;
    int64_t bytes;
};

/* Byte offsets of a step's arrays in a queue's inputs. */
struct step_layout {
    int64_t inputs;
    int64_t positions;
    int64_t sequence;
    int64_t branch;
    int64_t output_index;
    int64_t list;
    int64_t list_weights;
    int64_t states;
    int64_t caches;
    int64_t bytes;
    int32_t layers; /* that all caches have */
    int32_t rows;
    int32_t output_rows;
    int32_t sequences;
    int32_t branch_width;
};

/* Bytes of a step's inputs. */
struct input_range {
    int64_t begin;
    int64_t end;
};

struct cuda_queue {
    lm_queue base;
    cudaStream_t stream;
    cudaEvent_t events[EVENTS];
    int64_t tickets[EVENTS]; /* after which each event was recorded; 0: it never was */
    cudaEvent_t staged;      /* when the staging buffer has been read */
    uint8_t* staging;        /* page-locked, of staging_bytes */
    int64_t staging_bytes;
    cuda_buffer inputs;      /* what lies on the device of the step of generation, as laid out by lay_out */
    cuda_buffer scratch;
    cuda_buffer arrivals;    /* zeros, whenever no op is at work */
    int64_t generation;
    step_layout layout; /* of inputs */
    bool has_step;      /* inputs are those of generation, ... */
    input_range ranges[INPUT_RANGES]; /* ... but of the step's inputs only these */
    int32_t range_count;
};

static lm_host host_functions;
static const lm_host* host = &host_functions;

static cuda_device* cuda(lm_device* device) {
    return (cuda_device*)device;
}

static cuda_queue* cuda(lm_queue* queue) {
    return (cuda_queue*)queue;
}

/* What a call reports that nobody looks at must not be taken for the error of the next launch. */
static void forget_error(void) {
    (void)cudaGetLastError();
}

static int32_t check(cudaError_t error, const char* call, const char* what) {
    if (error == cudaSuccess) {
        return LM_OK;
    }
    forget_error();
    return host->fail(error == cudaErrorMemoryAllocation ? LM_ERROR_OUT_OF_MEMORY : LM_ERROR_DEVICE, "%s: %s: %s", call,
                      what, cudaGetErrorString(error));
}

static int32_t check_memory(cudaError_t error, int64_t bytes, const char* kind) {
    if (error == cudaSuccess) {
        return LM_OK;
    }
    forget_error();
    if (error == cudaErrorMemoryAllocation) {
        return host->fail(LM_ERROR_OUT_OF_MEMORY,
                          "%lld bytes of %s memory could not be had (%s): lower %s or --context, or end other programs "
                          "that use it",
                          (long long)bytes, kind, cudaGetErrorString(error),
                          strcmp(kind, "GPU") == 0 ? "--device-memory" : "--memory");
    }
    return host->fail(LM_ERROR_DEVICE, "%lld bytes of %s memory could not be had: %s", (long long)bytes, kind,
                      cudaGetErrorString(error));
}

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        int32_t status_ = (call);                                                                                      \
        if (status_ != LM_OK) {                                                                                        \
            return status_;                                                                                            \
        }                                                                                                              \
    } while (0)

/* The current device belongs to the thread, and a device may be used by any. */
static int32_t choose(lm_device* device, const char* call) {
    return check(cudaSetDevice(cuda(device)->ordinal), call, "the GPU could not be used");
}

/* -- devices ------------------------------------------------------------------------------------------------------ */

static int32_t count_devices(const char* call, int32_t* out) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0) {
        *out = count;
        return LM_OK;
    }
    (void)cudaGetLastError();
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    if (error == cudaErrorInsufficientDriver && driver == 0) {
        return host->fail(LM_ERROR_UNSUPPORTED, "%s: this machine has no NVIDIA driver: install one", call);
    }
    if (error == cudaErrorInsufficientDriver) {
        return host->fail(LM_ERROR_UNSUPPORTED,
                          "%s: the NVIDIA driver is one for CUDA %d.%d, it must be one for %d.%d or newer: update it",
                          call, driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    }
    if (error == cudaSuccess || error == cudaErrorNoDevice) {
        return host->fail(LM_ERROR_UNSUPPORTED,
                          "%s: the NVIDIA driver finds no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES", call);
    }
    return check(error, call, "the GPUs could not be counted");
}

static int32_t cuda_count(int32_t* out) {
    return count_devices("lm_device_count", out);
}

extern const lm_backend cuda_backend;

static int32_t cuda_open(const lm_device_options* options, lm_device** out) {
    int32_t count = 0;
    TRY(count_devices("lm_device_open", &count));
    if (options->ordinal >= count) {
        return host->fail(LM_ERROR_INVALID_ARGUMENT,
                          "lm_device_open: there is no GPU %d, this machine has %d, numbered from 0", options->ordinal,
                          count);
    }
    cudaDeviceProp properties;
    TRY(check(cudaGetDeviceProperties(&properties, options->ordinal), "lm_device_open", "the GPU could not be asked"));
    if (properties.major * 10 + properties.minor < OLDEST_CAPABILITY) {
        return host->fail(LM_ERROR_UNSUPPORTED,
                          "lm_device_open: %s has compute capability %d.%d, it must be %d.%d or newer", properties.name,
                          properties.major, properties.minor, OLDEST_CAPABILITY / 10, OLDEST_CAPABILITY % 10);
    }
    cuda_device* device = (cuda_device*)calloc(1, sizeof *device);
    if (device == nullptr) {
        return host->fail(LM_ERROR_OUT_OF_MEMORY, "lm_device_open: no memory");
    }
    device->base.backend = &cuda_backend;
    device->base.info.backend = THIS_BACKEND;
    device->base.info.mode = options->mode;
    device->base.info.memory_bytes = (int64_t)properties.totalGlobalMem;
    snprintf(device->base.info.name, sizeof device->base.info.name, "%.127s", properties.name);
    device->ordinal = options->ordinal;
    device->properties.processors = properties.multiProcessorCount;
    device->properties.fast = options->mode == LM_MODE_FAST;
    int32_t status = choose(&device->base, "lm_device_open");
    if (status == LM_OK && device->properties.fast) {
        int32_t compiled_for = 0;
        status = check(linear_fast_prepare(&compiled_for), "lm_device_open", "the GPU gives no shared memory");
        /* An older GPU's code, compiled by the driver for this one, has the older one's instructions. */
        int32_t capability = properties.major * 10 + properties.minor;
        device->properties.capability = compiled_for < capability ? compiled_for : capability;
    }
    if (status != LM_OK) {
        free(device);
        return status;
    }
    pthread_mutex_init(&device->base.lock, nullptr);
    pthread_mutex_init(&device->moving, nullptr);
    *out = &device->base;
    return LM_OK;
}

static void cuda_close(lm_device* device) {
    pthread_mutex_destroy(&cuda(device)->moving);
    pthread_mutex_destroy(&device->lock);
    free(device);
}

/* -- memory ------------------------------------------------------------------------------------------------------- */

static int32_t cuda_free_bytes(const lm_device* device, int64_t* out) {
    size_t free_memory = 0;
    size_t total = 0;
    TRY(choose((lm_device*)device, "lm_device_get_info"));
    TRY(check(cudaMemGetInfo(&free_memory, &total), "lm_device_get_info", "the GPU's memory could not be asked for"));
    *out = (int64_t)free_memory;
    return LM_OK;
}

/* Device memory at a multiple of MEMORY_ALIGN; one that CUDA gave elsewhere is replaced by a larger one. */
static int32_t alloc_aligned(cuda_device* device, int64_t bytes, void** out) {
    void* base = nullptr;
    TRY(check_memory(cudaMalloc(&base, (size_t)bytes), bytes, "GPU"));
    if ((uintptr_t)base % MEMORY_ALIGN == 0) {
        *out = base;
        return LM_OK;
    }
    cudaFree(base);
    moved_memory* moved = (moved_memory*)malloc(sizeof *moved);
    if (moved == nullptr) {
        return host->fail(LM_ERROR_OUT_OF_MEMORY, "%lld bytes of GPU memory could not be noted: no memory",
                          (long long)bytes);
    }
    int32_t status = check_memory(cudaMalloc(&base, (size_t)bytes + MEMORY_ALIGN), bytes, "GPU");
    if (status != LM_OK) {
        free(moved);
        return status;
    }
    moved->base = base;
    moved->memory = (void*)(((uintptr_t)base + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN);
    pthread_mutex_lock(&device->moving);
    moved->next = device->moved;
    device->moved = moved;
    pthread_mutex_unlock(&device->moving);
    *out = moved->memory;
    return LM_OK;
}

static void free_aligned(cuda_device* device, void* memory) {
    pthread_mutex_lock(&device->moving);
    moved_memory** link = &device->moved;
    while (*link != nullptr && (*link)->memory != memory) {
        link = &(*link)->next;
    }
    moved_memory* moved = *link;
    if (moved != nullptr) {
        *link = moved->next;
        memory = moved->base;
    }
    pthread_mutex_unlock(&device->moving);
    free(moved);
    cudaFree(memory);
}

static int32_t cuda_alloc(lm_device* device, int32_t use, int64_t bytes, void** out) {
    if (use == LM_MEMORY_HOST) {
        TRY(choose(device, "lm_host_alloc"));
        TRY(host->memory_alloc(bytes, out));
        int32_t status =
            check_memory(cudaHostRegister(*out, (size_t)bytes, cudaHostRegisterPortable), bytes, "page-locked");
        if (status != LM_OK) {
            host->memory_free(*out, bytes);
            *out = nullptr;
        }
        return status;
    }
    if (use == LM_MEMORY_HOST_KV) { /* kernels read it at the same address */
        TRY(choose(device, "lm_kv_create"));
        TRY(check_memory(cudaHostAlloc(out, (size_t)bytes, cudaHostAllocPortable | cudaHostAllocMapped), bytes,
                         "page-locked"));
        memset(*out, 0, (size_t)bytes);
        return LM_OK;
    }
    TRY(choose(device, "lm_device_alloc"));
    if (bytes > device->info.memory_bytes) {
        return host->fail(LM_ERROR_OUT_OF_MEMORY,
                          "%lld bytes of GPU memory asked for, there are %lld: lower --device-memory or --context",
                          (long long)bytes, (long long)device->info.memory_bytes);
    }
    TRY(alloc_aligned(cuda(device), bytes, out));
    cudaError_t error = cudaMemsetAsync(*out, 0, (size_t)bytes, nullptr);
    if (error == cudaSuccess) {
        error = cudaStreamSynchronize(nullptr); /* the queues' streams do not wait for this one */
    }
    int32_t status = check(error, "lm_device_alloc", "device memory could not be zeroed");
    if (status != LM_OK) {
        free_aligned(cuda(device), *out);
        *out = nullptr;
    }
    return status;
}

/* A GPU that is lost fails all of these calls: what can be given back is, whatever they say. */
static void cuda_free(lm_device* device, int32_t use, void* memory, int64_t bytes) {
    cudaSetDevice(cuda(device)->ordinal);
    if (use == LM_MEMORY_HOST) {
        cudaHostUnregister(memory);
        host->memory_free(memory, bytes);
    } else if (use == LM_MEMORY_HOST_KV) {
        cudaFreeHost(memory);
    } else {
        free_aligned(cuda(device), memory);
    }
    forget_error();
}

/* -- queues ------------------------------------------------------------------------------------------------------- */

static void cuda_queue_trim(lm_queue* base) {
    cuda_queue* queue = cuda(base);
    cudaSetDevice(cuda(base->device)->ordinal);
    if (queue->stream != nullptr) {
        cudaStreamSynchronize(queue->stream); /* a submission that failed midway has no ticket */
    }
    cuda_buffer* buffers[] = {&queue->inputs, &queue->scratch, &queue->arrivals};
    for (cuda_buffer* buffer : buffers) {
        cudaFree(buffer->memory);
        *buffer = {};
    }
    cudaFreeHost(queue->staging);
    queue->staging = nullptr;
    queue->staging_bytes = 0;
    queue->has_step = false;
    queue->range_count = 0;
    forget_error();
}

static void cuda_queue_destroy(lm_queue* base) {
    cuda_queue* queue = cuda(base);
    cuda_queue_trim(base);
    for (int32_t i = 0; i < EVENTS; i++) {
        if (queue->events[i] != nullptr) {
            cudaEventDestroy(queue->events[i]);
        }
    }
    if (queue->staged != nullptr) {
        cudaEventDestroy(queue->staged);
    }
    if (queue->stream != nullptr) {
        cudaStreamDestroy(queue->stream);
    }
    free(queue);
    forget_error();
}

static cudaError_t make_queue(cuda_queue* queue) {
    cudaError_t error = cudaStreamCreateWithFlags(&queue->stream, cudaStreamNonBlocking);
    if (error == cudaSuccess) {
        error = cudaEventCreateWithFlags(&queue->staged, cudaEventDisableTiming | cudaEventBlockingSync);
    }
    for (int32_t i = 0; i < EVENTS && error == cudaSuccess; i++) {
        error = cudaEventCreateWithFlags(&queue->events[i], cudaEventDisableTiming | cudaEventBlockingSync);
    }
    return error;
}

static int32_t cuda_queue_create(lm_device* device, lm_queue** out) {
    TRY(choose(device, "lm_queue_create"));
    cuda_queue* queue = (cuda_queue*)calloc(1, sizeof *queue);
    if (queue == nullptr) {
        return host->fail(LM_ERROR_OUT_OF_MEMORY, "lm_queue_create: no memory");
    }
    queue->base.device = device;
    int32_t status = check(make_queue(queue), "lm_queue_create", "a stream could not be made");
    if (status != LM_OK) {
        cuda_queue_destroy(&queue->base);
        return status;
    }
    *out = &queue->base;
    return LM_OK;
}

static int32_t record(cuda_queue* queue, const char* call, int64_t ticket) {
    int32_t status = check(cudaEventRecord(queue->events[ticket % EVENTS], queue->stream), call,
                           "an event could not be recorded");
    if (status != LM_OK) { /* nobody could wait for what was begun */
        cudaStreamSynchronize(queue->stream);
        forget_error();
        return status;
    }
    queue->tickets[ticket % EVENTS] = ticket;
    return LM_OK;
}

/*
 * Which event comes first of those after the work of a ticket; -1 if there was no work. A copy of no bytes has a ticket
 * without an event: where none comes after it, the last event is the one.
 */
static int32_t event_after(const cuda_queue* queue, int64_t ticket) {
    int32_t after = -1;
    int32_t last = -1;
    for (int32_t i = 0; ticket > 0 && i < EVENTS; i++) {
        int64_t has = queue->tickets[i];
        if (has >= ticket && (after < 0 || has < queue->tickets[after])) {
            after = i;
        }
        if (has > 0 && (last < 0 || has > queue->tickets[last])) {
            last = i;
        }
    }
    return after >= 0 ? after : last;
}

static int32_t cuda_after(lm_queue* queue, lm_queue* other, int64_t ticket) {
    int32_t event = event_after(cuda(other), ticket);
    if (queue == other || event < 0) {
        return LM_OK;
    }
    TRY(choose(queue->device, "lm_queue_after"));
    return check(cudaStreamWaitEvent(cuda(queue)->stream, cuda(other)->events[event], 0), "lm_queue_after",
                 "the queue could not be made to wait");
}

static int32_t cuda_wait(lm_queue* queue, int64_t ticket) {
    int32_t event = event_after(cuda(queue), ticket);
    if (event < 0) {
        return LM_OK;
    }
    TRY(choose(queue->device, "lm_wait"));
    return check(cudaEventSynchronize(cuda(queue)->events[event]), "lm_wait", "the GPU failed");
}

static int32_t cuda_copy(lm_queue* base, int32_t to_device, void* to, const void* from, int64_t bytes, int64_t ticket) {
    const char* call = to_device ? "lm_copy_to_device" : "lm_copy_to_host";
    cuda_queue* queue = cuda(base);
    TRY(choose(base->device, call));
    TRY(check(cudaMemcpyAsync(to, from, (size_t)bytes, to_device ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost,
                              queue->stream),
              call, "the copy could not be made"));
    return record(queue, call, ticket);
}

/* -- steps -------------------------------------------------------------------------------------------------------- */

/* Makes a buffer at least this large, once what the queue does with it is done; its content is lost. */
static int32_t grow(cuda_queue* queue, cuda_buffer* buffer, int64_t bytes) {
    if (bytes <= buffer->bytes) {
        return LM_OK;
    }
    TRY(check(cudaStreamSynchronize(queue->stream), "lm_submit", "the GPU failed"));
    cudaFree(buffer->memory);
    *buffer = {};
    void* memory = nullptr;
    TRY(check_memory(cudaMalloc(&memory, (size_t)bytes), bytes, "GPU"));
    *buffer = {(uint8_t*)memory, bytes};
    return LM_OK;
}

static int32_t grow_zeroed(cuda_queue* queue, cuda_buffer* buffer, int64_t bytes) {
    if (bytes <= buffer->bytes) {
        return LM_OK;
    }
    TRY(grow(queue, buffer, bytes));
    int32_t status = check(cudaMemsetAsync(buffer->memory, 0, (size_t)bytes, queue->stream), "lm_submit",
                           "device memory could not be zeroed");
    buffer->bytes = status == LM_OK ? bytes : 0; /* it is tried again */
    return status;
}

static int64_t add_range(int64_t* end, int64_t bytes) {
    int64_t at = *end;
    *end = (at + bytes + 15) / 16 * 16;
    return at;
}

/* Of an array with elements of 4 bytes; 0 where it is null. */
static int64_t array_bytes(const void* array, int64_t elements) {
    return array == nullptr ? 0 : elements * 4;
}

static int64_t branch_bytes(const lm_step* step) {
    return array_bytes(step->branch, (int64_t)step->rows * step->branch_width);
}

/* What no op of a submission reads need not be there; caches are looked at where an op asks for them. */
static step_layout lay_out(const lm_step* step, bool caches) {
    step_layout l = {};
    l.rows = step->rows;
    l.output_rows = step->output_rows;
    l.sequences = step->sequences;
    l.branch_width = step->branch_width;
    int32_t sequences = caches ? step->sequences : 0;
    l.layers = sequences == 0 ? 0 : step->kv[0]->layer_count;
    for (int32_t i = 0; i < sequences; i++) {
        int32_t layers = step->kv[i]->layer_count;
        l.layers = layers < l.layers ? layers : l.layers;
    }
    l.inputs = add_range(&l.bytes, step->inputs == nullptr ? 0 : step->inputs_bytes);
    l.positions = add_range(&l.bytes, array_bytes(step->positions, step->rows));
    l.sequence = add_range(&l.bytes, array_bytes(step->sequence, step->rows));
    l.branch = add_range(&l.bytes, branch_bytes(step));
    l.output_index = add_range(&l.bytes, array_bytes(step->output_index, step->output_rows));
    l.list = add_range(&l.bytes, array_bytes(step->list, step->list_length));
    l.list_weights = add_range(&l.bytes, array_bytes(step->list_weights, step->list_length));
    l.states = add_range(&l.bytes, array_bytes(step->states, step->sequences));
    l.caches = add_range(&l.bytes, (int64_t)l.layers * sequences * (int64_t)sizeof(kv_cache));
    return l;
}

/* caches: these lie at the same places too. */
static bool same_layout(const step_layout& x, const step_layout& y, bool caches) {
    return x.inputs == y.inputs && x.positions == y.positions && x.sequence == y.sequence && x.branch == y.branch
           && x.output_index == y.output_index && x.list == y.list && x.list_weights == y.list_weights
           && x.states == y.states && x.caches == y.caches
           && (!caches || (x.layers == y.layers && x.bytes == y.bytes));
}

static kv_cache cache_of(const lm_kv* kv, int32_t layer) {
    const lm_kv_slot* slot = &kv->layers[layer];
    uint8_t* memory = (uint8_t*)slot->memory;
    return {memory + slot->keys, memory + slot->values, slot->places, kv->dtype};
}

static bool same_bytes(const uint8_t* there, const void* wanted, int64_t bytes) {
    return bytes == 0 || memcmp(there, wanted, (size_t)bytes) == 0;
}

/* The elements of a list that the submission is about. */
static bool same_list(const uint8_t* there, const void* list, const lm_step* step) {
    const uint8_t* wanted = (const uint8_t*)list;
    int64_t first = step->list_first * INT64_C(4);
    return list == nullptr || same_bytes(there + first, wanted + first, step->list_rows * INT64_C(4));
}

/*
 * Whether the arrays that lie on the device, in the layout of the step, are the step's: who breaks the promise of
 * generation must not have kernels work on what nobody has checked. The staging buffer holds what was copied; caches
 * are looked at if an op asks for them.
 */
static bool holds_step(const cuda_queue* queue, const lm_step* step, bool caches) {
    const step_layout& l = queue->layout;
    const uint8_t* there = queue->staging;
    if (l.rows != step->rows || l.output_rows != step->output_rows || l.sequences != step->sequences
        || l.branch_width != step->branch_width
        || !same_bytes(there + l.positions, step->positions, array_bytes(step->positions, step->rows))
        || !same_bytes(there + l.sequence, step->sequence, array_bytes(step->sequence, step->rows))
        || !same_bytes(there + l.branch, step->branch, branch_bytes(step))
        || !same_bytes(there + l.output_index, step->output_index, array_bytes(step->output_index, step->output_rows))
        || !same_list(there + l.list, step->list, step)
        || !same_list(there + l.list_weights, step->list_weights, step)
        || !same_bytes(there + l.states, step->states, array_bytes(step->states, step->sequences))) {
        return false;
    }
    const kv_cache* cache = (const kv_cache*)(there + l.caches); // (layers, sequences)
    for (int32_t layer = 0; caches && layer < l.layers; layer++) {
        for (int32_t i = 0; i < step->sequences; i++, cache++) {
            kv_cache wanted = cache_of(step->kv[i], layer);
            if (memcmp(cache, &wanted, sizeof wanted) != 0) {
                return false;
            }
        }
    }
    return true;
}

static void put(uint8_t* to, const void* from, int64_t bytes) {
    if (bytes > 0) {
        memcpy(to, from, (size_t)bytes);
    }
}

/* Writes all but the step's inputs. */
static void fill(uint8_t* to, const step_layout& l, const lm_step* step) {
    put(to + l.positions, step->positions, array_bytes(step->positions, step->rows));
    put(to + l.sequence, step->sequence, array_bytes(step->sequence, step->rows));
    put(to + l.branch, step->branch, branch_bytes(step));
    put(to + l.output_index, step->output_index, array_bytes(step->output_index, step->output_rows));
    put(to + l.list, step->list, array_bytes(step->list, step->list_length));
    put(to + l.list_weights, step->list_weights, array_bytes(step->list_weights, step->list_length));
    put(to + l.states, step->states, array_bytes(step->states, step->sequences));
    kv_cache* cache = (kv_cache*)(to + l.caches); // (layers, sequences)
    for (int32_t layer = 0; layer < l.layers; layer++) {
        for (int32_t i = 0; i < step->sequences; i++, cache++) {
            *cache = cache_of(step->kv[i], layer);
        }
    }
}

static int32_t make_staging(cuda_queue* queue, int64_t bytes) {
    if (bytes <= queue->staging_bytes) {
        return LM_OK;
    }
    cudaFreeHost(queue->staging);
    queue->staging = nullptr;
    queue->staging_bytes = 0;
    void* memory = nullptr;
    TRY(check_memory(cudaHostAlloc(&memory, (size_t)bytes, cudaHostAllocPortable), bytes, "page-locked"));
    queue->staging = (uint8_t*)memory;
    queue->staging_bytes = bytes;
    return LM_OK;
}

/* Copies a range of what lies in the staging buffer to the device. */
static int32_t copy_staged(cuda_queue* queue, int64_t begin, int64_t end) {
    TRY(check(cudaMemcpyAsync(queue->inputs.memory + begin, queue->staging + begin, (size_t)(end - begin),
                              cudaMemcpyHostToDevice, queue->stream),
              "lm_submit", "the step could not be copied"));
    return check(cudaEventRecord(queue->staged, queue->stream), "lm_submit", "an event could not be recorded");
}

/* Copies the step's arrays to the device, and makes room for its inputs, which lie before them. */
static int32_t put_step(cuda_queue* queue, const step_layout& l, const lm_step* step) {
    queue->has_step = false;
    queue->range_count = 0;
    if (l.bytes > 0) {
        /* The last step has been read from the staging buffer. */
        TRY(check(cudaEventSynchronize(queue->staged), "lm_submit", "the GPU failed"));
        TRY(make_staging(queue, l.bytes));
        TRY(grow(queue, &queue->inputs, l.bytes));
        fill(queue->staging, l, step);
    }
    if (l.bytes > l.positions) {
        TRY(copy_staged(queue, l.positions, l.bytes));
    }
    queue->has_step = true;
    queue->generation = step->generation;
    queue->layout = l;
    return LM_OK;
}

/* What an op reads of the step's inputs. */
static input_range inputs_of(const lm_step* step, const lm_op& op) {
    int64_t row_bytes = op.code == LM_OP_EMBED  ? op.out.width * lm_dtype_bytes(op.dtype)
                        : op.code == LM_OP_ROPE ? op.rotary_dim * (int64_t)sizeof(float)
                                                : 0;
    return {op.input_offset, op.input_offset + lm_row_count(step, op.row_set) * row_bytes};
}

/*
 * Copies inputs that an op reads to the device, unless they are there: a step may have far fewer rows than its inputs
 * have room for. Each range has its own place in the staging buffer: none waits for another.
 */
static int32_t put_inputs(cuda_queue* queue, const step_layout& l, const lm_step* step, input_range range) {
    if (range.begin == range.end) {
        return LM_OK;
    }
    for (int32_t i = 0; i < queue->range_count; i++) {
        if (queue->ranges[i].begin <= range.begin && range.end <= queue->ranges[i].end) {
            return LM_OK;
        }
    }
    put(queue->staging + l.inputs + range.begin, (const uint8_t*)step->inputs + range.begin, range.end - range.begin);
    TRY(copy_staged(queue, l.inputs + range.begin, l.inputs + range.end));
    if (queue->range_count == INPUT_RANGES) { /* those are copied again if an op asks for them */
        queue->range_count = 0;
    }
    queue->ranges[queue->range_count++] = range;
    return LM_OK;
}

static void launch(const run& r, const lm_op& op) {
    switch (op.code) {
    case LM_OP_EMBED:
        embed(r, op);
        break;
    case LM_OP_RMS_NORM:
        rms_norm(r, op);
        break;
    case LM_OP_LINEAR:
        linear(r, op);
        break;
    case LM_OP_ROPE:
        rope(r, op);
        break;
    case LM_OP_KV_STORE:
        kv_store(r, op);
        break;
    case LM_OP_ATTENTION:
        attention(r, op);
        break;
    case LM_OP_ACTIVATION:
        activation(r, op);
        break;
    case LM_OP_ADD:
        add(r, op);
        break;
    case LM_OP_GATHER_ROWS:
        gather_rows(r, op);
        break;
    case LM_OP_LAYER_NORM:
        layer_norm(r, op);
        break;
    case LM_OP_LINEAR_TRANSPOSED:
        linear_transposed(r, op);
        break;
    case LM_OP_SCALE:
        scale(r, op);
        break;
    case LM_OP_WEIGHT_NORM:
        weight_norm(r, op);
        break;
    case LM_OP_SCATTER_ADD:
        scatter_add(r, op);
        break;
    case LM_OP_CONVOLUTION:
        convolution(r, op);
        break;
    default: /* LM_OP_DELTA_RULE: api.c lets no other code through */
        delta_rule(r, op);
        break;
    }
}

static bool asks_for_caches(const lm_op& op) {
    return op.code == LM_OP_KV_STORE || op.code == LM_OP_ATTENTION || op.code == LM_OP_CONVOLUTION
           || op.code == LM_OP_DELTA_RULE;
}

static int32_t submit(cuda_queue* queue, const lm_op* ops, int32_t count, const lm_step* step, int64_t ticket) {
    const gpu& on = cuda(queue->base.device)->properties;
    int64_t scratch = 0;
    int64_t arrivals = 0;
    bool caches = false;
    for (int32_t i = 0; i < count; i++) {
        caches |= asks_for_caches(ops[i]);
        fast_memory need = {};
        if (ops[i].code == LM_OP_ATTENTION) {
            need.bytes = attention_scratch(*step, ops[i]);
        } else if (ops[i].code == LM_OP_LINEAR) {
            need = linear_fast_memory(on, *step, ops[i]);
        }
        scratch = need.bytes > scratch ? need.bytes : scratch;
        arrivals = need.arrivals > arrivals ? need.arrivals : arrivals;
    }
    TRY(grow(queue, &queue->scratch, scratch));
    TRY(grow_zeroed(queue, &queue->arrivals, arrivals * (int64_t)sizeof(unsigned)));
    step_layout l = lay_out(step, caches);
    if (queue->has_step && queue->generation == step->generation && same_layout(l, queue->layout, caches)
        && holds_step(queue, step, caches)) {
        l = queue->layout; /* it may have caches that no op asks for now */
    } else {
        TRY(put_step(queue, l, step));
    }
    for (int32_t i = 0; i < count; i++) {
        TRY(put_inputs(queue, l, step, inputs_of(step, ops[i])));
    }
    uint8_t* arrays = queue->inputs.memory;
    run r = {};
    r.step = step;
    r.on = on;
    r.stream = queue->stream;
    r.inputs = arrays + l.inputs;
    r.positions = (const int32_t*)(arrays + l.positions);
    r.sequence = (const int32_t*)(arrays + l.sequence);
    r.branch = (const int32_t*)(arrays + l.branch);
    r.output_index = (const int32_t*)(arrays + l.output_index);
    r.list = (const int32_t*)(arrays + l.list) + step->list_first;
    r.list_weights = (const float*)(arrays + l.list_weights) + step->list_first;
    r.states = (const int32_t*)(arrays + l.states);
    r.caches = (const kv_cache*)(arrays + l.caches);
    r.scratch = queue->scratch.memory;
    r.arrivals = (unsigned*)queue->arrivals.memory;
    for (int32_t i = 0; i < count; i++) {
        if (lm_row_count(step, ops[i].row_set) > 0) {
            launch(r, ops[i]);
            TRY(check(cudaGetLastError(), "lm_submit", "an op failed"));
        }
    }
    return record(queue, "lm_submit", ticket);
}

static int32_t cuda_submit(lm_queue* base, const lm_op* ops, int32_t count, const lm_step* step, int64_t ticket) {
    TRY(choose(base->device, "lm_submit"));
    int32_t status = submit(cuda(base), ops, count, step, ticket);
    if (status != LM_OK) { /* it has no ticket: nobody could wait for the part of it that was begun */
        cudaStreamSynchronize(cuda(base)->stream);
        forget_error();
    }
    return status;
}

/* -- files -------------------------------------------------------------------------------------------------------- */

/* Before CUDA 12, choosing a device makes no context current, which cuFile needs: any call to the runtime does. */
static int32_t choose_context(lm_device* device, const char* call) {
    TRY(choose(device, call));
    return check(cudaFree(nullptr), call, "the GPU could not be used");
}

static int32_t cuda_file_open(lm_device* device, const char* path, lm_device_file** out) {
    TRY(choose_context(device, "lm_device_file_open"));
    return file_open(host, path, out);
}

static void cuda_file_close(lm_device_file* file) {
    cudaSetDevice(cuda(file->device)->ordinal);
    file_close(file);
    forget_error();
}

static int32_t cuda_file_read(lm_device_file* file, void* allocation, int64_t at, int64_t bytes, int64_t offset,
                              int64_t* read) {
    cuda_device* device = cuda(file->device);
    TRY(choose_context(file->device, "lm_device_file_read"));
    pthread_mutex_lock(&device->moving);
    const moved_memory* moved = device->moved;
    while (moved != nullptr && moved->memory != allocation) {
        moved = moved->next;
    }
    void* base = moved == nullptr ? allocation : moved->base; /* cuFile wants what CUDA gave */
    pthread_mutex_unlock(&device->moving);
    return file_read(host, file, base, (uint8_t*)allocation - (uint8_t*)base + at, bytes, offset, read);
}

const lm_backend cuda_backend = {
    cuda_count, cuda_open, cuda_close, cuda_free_bytes, cuda_alloc, cuda_free, cuda_queue_create, cuda_queue_destroy,
    cuda_queue_trim,
    cuda_submit, cuda_copy, cuda_after, cuda_wait, cuda_file_open, cuda_file_close, cuda_file_read,
};

extern "C" __attribute__((visibility("default"))) const lm_backend* lm_backend_get(const lm_host* from) {
    if (from->abi != LM_ABI_VERSION || from->backend != THIS_BACKEND || from->size_backend != sizeof(lm_backend)) {
        return nullptr;
    }
    host_functions = *from;
    return &cuda_backend;
}
