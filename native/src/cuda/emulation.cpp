/* emulation.cpp: fibers, the scheduler of a block's warps, and the runtime's functions (emulation.h). */
#include "emulation.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define ANNOTATE_FIBERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ANNOTATE_FIBERS 1
#endif
#endif
#if defined(ANNOTATE_FIBERS)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace {

constexpr unsigned WARP = 32;
constexpr unsigned MOST_THREADS = 1024;
constexpr size_t MOST_SHARED = 48 << 10; /* what every GPU gives without being asked for more */
constexpr size_t MOST_ASKED = 64 << 10;  /* what every GPU gives a kernel for which more is asked */
constexpr unsigned MOST_KERNELS = 64;    /* for which more can be asked */
constexpr unsigned MOST_COPIES = 64;     /* of a thread that are under way */
constexpr size_t STACK = 256 << 10;      /* of a fiber; its pages are taken at first touch */

/* -- contexts ---------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
typedef void* context; /* the stack pointer; what else must be kept lies on the stack */

#if defined(__APPLE__)
#define SWITCH_SYMBOL "_lamina_emulation_switch"
#else
#define SWITCH_SYMBOL "lamina_emulation_switch"
#endif

extern "C" void lamina_emulation_switch(context* from, context to) __attribute__((visibility("hidden")));

asm(".text\n"
    ".globl " SWITCH_SYMBOL "\n"
#if !defined(__APPLE__)
    ".hidden " SWITCH_SYMBOL "\n"
#endif
    SWITCH_SYMBOL ":\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n");

void context_switch(context* from, context* to) {
    lamina_emulation_switch(from, *to);
}

/* Lays out a stack as if entry had been about to begin when it was switched away from. */
void context_make(context* out, uint8_t* stack, void (*entry)()) {
    void** top = (void**)(stack + STACK);
    top[-1] = NULL; /* entry's return address: it never returns */
    memcpy(&top[-2], &entry, sizeof entry);
    for (int i = 3; i <= 8; i++) {
        top[-i] = NULL; /* the six registers */
    }
    *out = &top[-8];
}
#else
typedef ucontext_t context;

void context_switch(context* from, context* to) {
    swapcontext(from, to);
}

void context_make(context* out, uint8_t* stack, void (*entry)()) {
    getcontext(out);
    out->uc_stack.ss_sp = stack;
    out->uc_stack.ss_size = STACK;
    out->uc_link = NULL;
    makecontext(out, entry, 0);
}
#endif

/* -- fibers and blocks ------------------------------------------------------------------------------------------- */

enum fiber_state { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, AT_SHUFFLE, AT_TOGETHER, ENDED };

/* 16 bytes on their way to shared memory. */
struct copy_under_way {
    void* to;
    const void* from;
    int32_t valid;
    unsigned commit; /* that it belongs to */
};

struct fiber {
    context at;
    uint3 index;
    fiber_state state;
    unsigned mask;  /* of lanes, where it waits for those of its warp */
    unsigned from;  /* at a shuffle: the lane whose value this one gets */
    uint32_t value; /* at a shuffle: what it gives, then what it got */
    void (*together)(void* const* lanes);
    void* mine; /* for together */
    copy_under_way copies[MOST_COPIES];
    unsigned copy_count;
    unsigned commits; /* made so far */
};

pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER; /* guards all that follows: one grid at a time */
fiber fibers[MOST_THREADS];
unsigned fiber_count;
fiber* current;
context scheduler;
uint8_t* stacks; // (MOST_THREADS, STACK), each begins with a page that faults
void (*kernel_thread)(const void*);
const void* kernel_context;
alignas(16) uint8_t dynamic_shared[MOST_ASKED];
bool going; /* no thread of the grid has failed */

/* What was asked for; guarded by asking. */
struct asked_shared {
    const void* kernel;
    size_t bytes;
};

pthread_mutex_t asking = PTHREAD_MUTEX_INITIALIZER;
asked_shared asked[MOST_KERNELS];
unsigned asked_count;

thread_local cudaError_t last_error;
thread_local char failure[256]; /* of the last launch that failed on this thread */

__attribute__((format(printf, 1, 2))) bool fail_launch(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure, sizeof failure, format, arguments);
    va_end(arguments);
    last_error = cudaErrorLaunchFailure;
    going = false;
    return false;
}

uint8_t* fiber_stack(const fiber* f) {
    return stacks + (f - fibers) * STACK;
}

#if defined(ANNOTATE_FIBERS)
const void* host_stack;
size_t host_stack_bytes;
void* host_fake_stack;

void leave_fiber(bool ended) {
    void* fake_stack;
    __sanitizer_start_switch_fiber(ended ? NULL : &fake_stack, host_stack, host_stack_bytes);
    context_switch(&current->at, &scheduler);
    __sanitizer_finish_switch_fiber(fake_stack, &host_stack, &host_stack_bytes);
}

void enter_fiber(fiber* f) {
    __sanitizer_start_switch_fiber(&host_fake_stack, fiber_stack(f), STACK);
    context_switch(&scheduler, &f->at);
    __sanitizer_finish_switch_fiber(host_fake_stack, NULL, NULL);
}

void begin_fiber() {
    __sanitizer_finish_switch_fiber(NULL, &host_stack, &host_stack_bytes);
}

/* What a fiber that never came to its end left poisoned. */
void clean_stack(uint8_t* stack) {
    ASAN_UNPOISON_MEMORY_REGION(stack, STACK);
}
#else
void leave_fiber(bool) {
    context_switch(&current->at, &scheduler);
}

void enter_fiber(fiber* f) {
    context_switch(&scheduler, &f->at);
}

void begin_fiber() {
}

void clean_stack(uint8_t*) {
}
#endif

void fiber_main() {
    begin_fiber();
    kernel_thread(kernel_context);
    current->state = ENDED;
    leave_fiber(true);
}

void wait_at(fiber_state state) {
    current->state = state;
    leave_fiber(false);
}

const char* state_name(const fiber* f) {
    switch (f->state) {
    case AT_BLOCK_BARRIER:
        return "__syncthreads";
    case AT_WARP_BARRIER:
        return "__syncwarp";
    case AT_SHUFFLE:
        return "a shuffle";
    case AT_TOGETHER:
        return "a warp's instruction";
    default:
        return "its end";
    }
}

/* Lets the lanes go on that f waits for, if all of them have come; false if they have not. */
bool release_lanes(fiber* lanes, unsigned count, const fiber* f) {
    unsigned mask = f->mask;
    fiber_state state = f->state;
    if (count < WARP && mask >> count != 0) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        if (mask >> i & 1 && (lanes[i].state != state || lanes[i].mask != mask)) {
            return false;
        }
        if (state == AT_TOGETHER && lanes[i].together != f->together) {
            return false;
        }
    }
    if (!(mask >> (f - lanes) & 1)) {
        return false;
    }
    if (state == AT_TOGETHER) {
        void* given[WARP];
        for (unsigned i = 0; i < WARP; i++) {
            given[i] = lanes[i].mine;
        }
        f->together(given);
    }
    uint32_t got[WARP];
    for (unsigned i = 0; i < count; i++) {
        if (mask >> i & 1 && state == AT_SHUFFLE) {
            if (lanes[i].from >= count || !(mask >> lanes[i].from & 1)) {
                return false;
            }
            got[i] = lanes[lanes[i].from].value;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        if (mask >> i & 1) {
            lanes[i].value = state == AT_SHUFFLE ? got[i] : lanes[i].value;
            lanes[i].state = READY;
        }
    }
    return true;
}

/* Runs a warp until each of its lanes is at its end or at a barrier of the block. */
bool run_warp(fiber* lanes, unsigned count) {
    for (;;) {
        for (unsigned i = 0; i < count; i++) {
            if (lanes[i].state == READY) {
                current = &lanes[i];
                threadIdx = current->index;
                enter_fiber(current);
                if (!going) {
                    return false;
                }
            }
        }
        const fiber* waiting = NULL;
        bool released = false;
        for (unsigned i = 0; i < count; i++) {
            if (lanes[i].state == AT_WARP_BARRIER || lanes[i].state == AT_SHUFFLE || lanes[i].state == AT_TOGETHER) {
                waiting = &lanes[i];
                released |= release_lanes(lanes, count, waiting);
            }
        }
        if (waiting == NULL) {
            return true;
        }
        if (!released) {
            unsigned other = 0;
            while (other + 1 < count && lanes[other].state == waiting->state && lanes[other].mask == waiting->mask) {
                other++;
            }
            return fail_launch("block (%u, %u, %u): lane %u of a warp is at %s of the lanes %08x, lane %u is at %s",
                               blockIdx.x, blockIdx.y, blockIdx.z, (unsigned)(waiting - lanes), state_name(waiting),
                               waiting->mask, other, state_name(&lanes[other]));
        }
    }
}

bool run_block() {
    memset(dynamic_shared, 0xff, sizeof dynamic_shared); /* NaNs: what a kernel has not written shows */
    unsigned i = 0;
    for (unsigned z = 0; z < blockDim.z; z++) {
        for (unsigned y = 0; y < blockDim.y; y++) {
            for (unsigned x = 0; x < blockDim.x; x++, i++) {
                fibers[i].index = {x, y, z};
                fibers[i].state = READY;
                fibers[i].copy_count = 0;
                fibers[i].commits = 0;
                clean_stack(fiber_stack(&fibers[i]));
                context_make(&fibers[i].at, fiber_stack(&fibers[i]), fiber_main);
            }
        }
    }
    for (;;) {
        for (unsigned warp = 0; warp < fiber_count; warp += WARP) {
            if (!run_warp(&fibers[warp], fiber_count - warp < WARP ? fiber_count - warp : WARP)) {
                return false;
            }
        }
        unsigned at_barrier = 0;
        for (unsigned f = 0; f < fiber_count; f++) {
            at_barrier += fibers[f].state == AT_BLOCK_BARRIER;
        }
        if (at_barrier == 0) {
            return true;
        }
        if (at_barrier < fiber_count) {
            return fail_launch("block (%u, %u, %u): %u of %u threads are at __syncthreads, the others have ended",
                               blockIdx.x, blockIdx.y, blockIdx.z, at_barrier, fiber_count);
        }
        for (unsigned f = 0; f < fiber_count; f++) {
            fibers[f].state = READY;
        }
    }
}

bool make_stacks() {
    if (stacks != NULL) {
        return true;
    }
    void* memory = mmap(NULL, MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < MOST_THREADS; i++) {
        mprotect((uint8_t*)memory + i * STACK, page, PROT_NONE);
    }
    stacks = (uint8_t*)memory;
    return true;
}

} // namespace

void __syncthreads() {
    wait_at(AT_BLOCK_BARRIER);
}

void __syncwarp(unsigned mask) {
    current->mask = mask;
    wait_at(AT_WARP_BARRIER);
}

unsigned emulated_lane() {
    return (unsigned)(current - fibers) % WARP;
}

uint32_t emulated_shuffle(unsigned mask, uint32_t value, unsigned from) {
    fiber* self = current;
    self->mask = mask;
    self->value = value;
    self->from = from;
    wait_at(AT_SHUFFLE);
    return self->value;
}

void emulated_together(void (*function)(void* const* lanes), void* mine) {
    current->mask = 0xffffffffu;
    current->together = function;
    current->mine = mine;
    wait_at(AT_TOGETHER);
}

void emulated_copy(void* to, const void* from, int32_t valid) {
    fiber* self = current;
    if (self->copy_count == MOST_COPIES || (uintptr_t)to % 16 != 0 || (valid > 0 && (uintptr_t)from % 16 != 0)) {
        fail_launch("block (%u, %u, %u): a copy from %p to %p with %u under way: %u are most, all aligned to 16 bytes",
                    blockIdx.x, blockIdx.y, blockIdx.z, from, to, self->copy_count, MOST_COPIES);
        leave_fiber(false); /* for good */
    }
    memset(to, 0xff, 16);
    self->copies[self->copy_count++] = {to, from, valid, self->commits};
}

void emulated_copy_commit() {
    current->commits++;
}

void emulated_copy_wait(unsigned commits) {
    fiber* self = current;
    unsigned left = 0;
    for (unsigned i = 0; i < self->copy_count; i++) {
        const copy_under_way* copy = &self->copies[i];
        if (copy->commit + commits >= self->commits) {
            self->copies[left++] = *copy;
            continue;
        }
        memset(copy->to, 0, 16);
        memcpy(copy->to, copy->from, (size_t)copy->valid);
    }
    self->copy_count = left;
}

void* emulated_dynamic_shared() {
    return dynamic_shared;
}

cudaError_t emulated_set_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || (size_t)value > MOST_ASKED) {
        return cudaErrorInvalidValue;
    }
    pthread_mutex_lock(&asking);
    unsigned i = 0;
    while (i < asked_count && asked[i].kernel != kernel) {
        i++;
    }
    bool fits = i < MOST_KERNELS;
    if (fits) {
        asked[i] = {kernel, (size_t)value};
        asked_count = i == asked_count ? i + 1 : asked_count;
    }
    pthread_mutex_unlock(&asking);
    return fits ? cudaSuccess : cudaErrorInvalidValue;
}

static size_t most_shared(const void* kernel) {
    size_t most = MOST_SHARED;
    pthread_mutex_lock(&asking);
    for (unsigned i = 0; i < asked_count; i++) {
        most = asked[i].kernel == kernel && asked[i].bytes > most ? asked[i].bytes : most;
    }
    pthread_mutex_unlock(&asking);
    return most;
}

bool emulated_grid_fits(dim3 grid, dim3 block, size_t shared_bytes, const void* kernel) {
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    bool fits = threads > 0 && threads <= MOST_THREADS && grid.x > 0 && grid.x <= INT32_MAX && grid.y > 0
                && grid.y <= 65535 && grid.z > 0 && grid.z <= 65535 && shared_bytes <= most_shared(kernel);
    last_error = fits ? last_error : cudaErrorInvalidConfiguration;
    return fits;
}

void emulated_grid(dim3 grid, dim3 block, size_t, void (*thread)(const void*), const void* context) {
    pthread_mutex_lock(&running);
    if (!make_stacks()) {
        last_error = cudaErrorMemoryAllocation;
        pthread_mutex_unlock(&running);
        return;
    }
    gridDim = grid;
    blockDim = block;
    fiber_count = block.x * block.y * block.z;
    kernel_thread = thread;
    kernel_context = context;
    going = true;
    for (unsigned z = grid.z; going && z-- > 0;) { /* from the last block on: none may rely on those before it */
        for (unsigned y = grid.y; going && y-- > 0;) {
            for (unsigned x = grid.x; going && x-- > 0;) {
                blockIdx = {x, y, z};
                going = run_block();
            }
        }
    }
    pthread_mutex_unlock(&running);
}

/* -- streams ----------------------------------------------------------------------------------------------------- */

/* Lives as long as anything refers to it: its handle, events, and tasks of other streams. */
struct emulated_stream {
    emulated_stream* next; /* of all that are open */
    emulated_task* first;  /* to be run */
    emulated_task* last;
    uint64_t enqueued;
    uint64_t done;
    unsigned references;
    cudaError_t error; /* of its work, not yet told */
};

struct emulated_event {
    emulated_stream* stream; /* null: never recorded */
    uint64_t number;         /* of the stream's work before it */
};

namespace {

/* Host memory that is page-locked: only that is copied behind the caller's back. */
struct pinned_range {
    pinned_range* next;
    uint8_t* memory;
    size_t bytes;
};

pthread_mutex_t streaming = PTHREAD_MUTEX_INITIALIZER; /* guards all streams, events and ranges; taken before running */
emulated_stream* open_streams;
pinned_range* pinned;

struct locked {
    locked() {
        pthread_mutex_lock(&streaming);
    }
    ~locked() {
        pthread_mutex_unlock(&streaming);
    }
};

void release(emulated_stream* stream) {
    if (stream != NULL && --stream->references == 0) {
        free(stream);
    }
}

/* Does the work of a stream up to a number. */
void advance(emulated_stream* stream, uint64_t number) {
    while (stream->done < number) {
        emulated_task* task = stream->first;
        stream->first = task->next;
        cudaError_t before = last_error;
        last_error = cudaSuccess;
        task->run(task);
        stream->error = stream->error == cudaSuccess ? last_error : stream->error;
        last_error = before;
        stream->done++;
        free(task);
    }
}

cudaError_t finish(emulated_stream* stream, uint64_t number) {
    advance(stream, number);
    cudaError_t error = stream->error;
    stream->error = cudaSuccess;
    return error;
}

void advance_all() {
    for (emulated_stream* stream = open_streams; stream != NULL; stream = stream->next) {
        advance(stream, stream->enqueued);
    }
}

void append(emulated_stream* stream, emulated_task* task) {
    task->next = NULL;
    if (stream->first == NULL) {
        stream->first = task;
    } else {
        stream->last->next = task;
    }
    stream->last = task;
    stream->enqueued++;
}

struct wait_task {
    emulated_task task;
    emulated_stream* stream;
    uint64_t number;
};

void run_wait(emulated_task* self) {
    wait_task* wait = (wait_task*)self;
    advance(wait->stream, wait->number);
    release(wait->stream);
}

struct copy_task {
    emulated_task task;
    void* to;
    const void* from;
    size_t bytes;
};

void run_copy(emulated_task* self) {
    copy_task* copy = (copy_task*)self;
    memcpy(copy->to, copy->from, copy->bytes);
}

/* Memory of an emulated GPU. */
struct device_range {
    device_range* next;
    uint8_t* memory;
    size_t bytes;
    int device;
};

enum { DEVICES = 2 };

device_range* on_devices; /* guarded by the lock */
size_t used[DEVICES];     /* guarded by the lock */
thread_local int current_device;

size_t total_memory() {
    return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

bool pin(void* memory, size_t bytes) {
    pinned_range* range = (pinned_range*)malloc(sizeof *range);
    if (range == NULL) {
        return false;
    }
    *range = {pinned, (uint8_t*)memory, bytes};
    pinned = range;
    return true;
}

void unpin(void* memory) {
    for (pinned_range** link = &pinned; *link != NULL; link = &(*link)->next) {
        if ((*link)->memory == memory) {
            pinned_range* range = *link;
            *link = range->next;
            free(range);
            return;
        }
    }
}

bool is_pinned(const void* memory, size_t bytes) {
    const uint8_t* from = (const uint8_t*)memory;
    for (const pinned_range* range = pinned; range != NULL; range = range->next) {
        if (from >= range->memory && bytes <= range->bytes && (size_t)(from - range->memory) <= range->bytes - bytes) {
            return true;
        }
    }
    return false;
}

} // namespace

void emulated_enqueue(cudaStream_t stream, emulated_task* task) {
    locked lock;
    if (task == NULL) {
        last_error = cudaErrorMemoryAllocation;
    } else if (stream == NULL) {
        task->run(task);
        free(task);
    } else {
        append(stream, task);
    }
}

/* -- the runtime's functions ------------------------------------------------------------------------------------- */

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorLaunchFailure:
        return failure;
    default:
        return "unknown error";
    }
}

cudaError_t cudaGetLastError() {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaDriverGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = DEVICES;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= DEVICES) {
        return cudaErrorInvalidDevice;
    }
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device) {
    if (device < 0 || device >= DEVICES) {
        return cudaErrorInvalidDevice;
    }
    *out = {};
    snprintf(out->name, sizeof out->name, "emulated GPU");
    out->totalGlobalMem = total_memory();
    out->major = device == 0 ? 8 : 7; /* the second one has no tensor cores for bf16 */
    out->minor = device == 0 ? 0 : 5;
    out->multiProcessorCount = 4;
    return cudaSuccess;
}

static cudaError_t allocate(void** out, size_t bytes) {
    *out = NULL;
    if (bytes > PTRDIFF_MAX || posix_memalign(out, 4096, bytes) != 0) {
        return cudaErrorMemoryAllocation;
    }
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
    locked lock;
    *total_bytes = total_memory();
    *free_bytes = *total_bytes - used[current_device];
    return cudaSuccess;
}

cudaError_t cudaMalloc(void** out, size_t bytes) {
    locked lock;
    *out = NULL;
    device_range* range = (device_range*)malloc(sizeof *range);
    if (range == NULL || bytes > total_memory() - used[current_device] || allocate(out, bytes) != cudaSuccess) {
        free(range);
        return cudaErrorMemoryAllocation;
    }
    *range = {on_devices, (uint8_t*)*out, bytes, current_device};
    on_devices = range;
    used[current_device] += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
    locked lock;
    if (memory != NULL) {
        advance_all(); /* it waits for the device */
    }
    for (device_range** link = &on_devices; *link != NULL; link = &(*link)->next) {
        if ((*link)->memory == memory) {
            device_range* range = *link;
            *link = range->next;
            used[range->device] -= range->bytes;
            free(range);
            break;
        }
    }
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned) {
    locked lock;
    cudaError_t error = allocate(out, bytes);
    if (error == cudaSuccess && !pin(*out, bytes)) {
        free(*out);
        error = cudaErrorMemoryAllocation;
    }
    return error;
}

cudaError_t cudaFreeHost(void* memory) {
    locked lock;
    if (memory != NULL) {
        advance_all();
    }
    unpin(memory);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void* memory, size_t bytes, unsigned) {
    locked lock;
    return pin(memory, bytes) ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaHostUnregister(void* memory) {
    locked lock;
    advance_all();
    unpin(memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    locked lock;
    if (stream == NULL || !is_pinned(kind == cudaMemcpyHostToDevice ? from : to, bytes)) {
        if (stream != NULL) {
            advance(stream, stream->enqueued);
        }
        memcpy(to, from, bytes);
        return cudaSuccess;
    }
    copy_task* copy = (copy_task*)malloc(sizeof *copy);
    if (copy == NULL) {
        return cudaErrorMemoryAllocation;
    }
    *copy = {{NULL, run_copy}, to, from, bytes};
    append(stream, &copy->task);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
    memset(memory, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned) {
    locked lock;
    *out = (cudaStream_t)calloc(1, sizeof **out);
    if (*out == NULL) {
        return cudaErrorMemoryAllocation;
    }
    (*out)->references = 1;
    (*out)->next = open_streams;
    open_streams = *out;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    locked lock;
    advance(stream, stream->enqueued);
    for (emulated_stream** link = &open_streams; *link != NULL; link = &(*link)->next) {
        if (*link == stream) {
            *link = stream->next;
            break;
        }
    }
    release(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    locked lock;
    return stream == NULL ? cudaSuccess : finish(stream, stream->enqueued);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    locked lock;
    if (event->stream == NULL || event->stream == stream) {
        return cudaSuccess;
    }
    wait_task* wait = (wait_task*)malloc(sizeof *wait);
    if (wait == NULL) {
        return cudaErrorMemoryAllocation;
    }
    *wait = {{NULL, run_wait}, event->stream, event->number};
    event->stream->references++;
    append(stream, &wait->task);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned) {
    *out = (cudaEvent_t)calloc(1, sizeof **out);
    return *out == NULL ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    locked lock;
    release(event->stream);
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    locked lock;
    release(event->stream);
    event->stream = stream;
    event->number = stream->enqueued;
    stream->references++;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    locked lock;
    return event->stream == NULL ? cudaSuccess : finish(event->stream, event->number);
}
