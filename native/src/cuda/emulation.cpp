/* emulation.cpp: fibers, the scheduler of a block's warps, and the runtime's functions (emulation.h). */
#include "emulation.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
#if defined(__SANITIZE_THREAD__)
#define NAME_FIBERS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NAME_FIBERS 1
#endif
#endif
#if defined(NAME_FIBERS)
#include <sanitizer/tsan_interface.h>
#define NO_TSAN __attribute__((no_sanitize("thread"))) /* what is left by a switch never returns */
#else
#define NO_TSAN
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
#elif defined(NAME_FIBERS)
void* host_fiber;
void* named[MOST_THREADS]; /* made once: each of them holds a copy of a thread's state */

NO_TSAN void leave_fiber(bool) {
    __tsan_switch_to_fiber(host_fiber, 0);
    context_switch(&current->at, &scheduler);
}

NO_TSAN void enter_fiber(fiber* f) {
    void*& name = named[f - fibers];
    name = name == NULL ? __tsan_create_fiber(0) : name;
    host_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(name, 0);
    context_switch(&scheduler, &f->at);
}

void begin_fiber() {
}

void clean_stack(uint8_t*) {
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

NO_TSAN void fiber_main() {
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
    int device;
    cudaError_t error; /* of its work, not yet told */
};

struct emulated_event {
    emulated_stream* stream; /* null: never recorded */
    uint64_t number;         /* of the stream's work before it */
    int device;
};

namespace {

/* Host memory that is page-locked: only that is copied behind the caller's back. */
struct pinned_range {
    pinned_range* next;
    uint8_t* memory;
    size_t bytes;
};

enum { DEVICES = 2 };

/* A call that is to fail once. */
struct planned_fault {
    bool planned;
    int64_t after;
    cudaError_t error;
};

pthread_mutex_t streaming = PTHREAD_MUTEX_INITIALIZER; /* guards all that follows; taken before running */
emulated_stream* open_streams;
pinned_range* pinned;
int64_t handles; /* streams and events */
size_t used[DEVICES];
size_t peak[DEVICES];
size_t memory_of[DEVICES]; /* 0: as much as the machine has */
size_t device_alignment = 4096;
int driver_version = CUDART_VERSION;
int devices_found = DEVICES;
planned_fault faults[EMULATED_CALLS];
int64_t calls[EMULATED_CALLS];
cudaError_t lost[DEVICES]; /* why a device is lost */
thread_local int current_device;

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

/* Whether a device does not outlive an error. */
bool is_sticky(cudaError_t error) {
    return error == cudaErrorDevicesUnavailable || error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure;
}

/* An error that a test asked for, as cudaGetErrorString tells it to this thread. */
cudaError_t told(cudaError_t error) {
    if (error == cudaErrorLaunchFailure) {
        snprintf(failure, sizeof failure, "unspecified launch failure");
    }
    return error;
}

/* Counts a call; what it is to fail with, cudaSuccess in nearly all cases. */
cudaError_t planned_error(int32_t call) {
    calls[call]++;
    planned_fault* fault = &faults[call];
    if (!fault->planned || fault->after-- > 0) {
        return cudaSuccess;
    }
    fault->planned = false;
    return fault->error;
}

/* The same for a call that fails before it returns. */
cudaError_t enter(int device, int32_t call) {
    cudaError_t error = lost[device] != cudaSuccess ? lost[device] : planned_error(call);
    if (is_sticky(error)) {
        lost[device] = error;
    }
    return told(error);
}

struct losing_task {
    emulated_task task;
    int device;
    cudaError_t error;
};

void run_losing(emulated_task* self) {
    losing_task* losing = (losing_task*)self;
    lost[losing->device] = losing->error;
}

void run_wait(emulated_task* self);
void drop_wait(emulated_task* self);

/* Does the work of a stream up to a number; that of a lost device is dropped. */
void advance(emulated_stream* stream, uint64_t number) {
    while (stream->done < number) {
        emulated_task* task = stream->first;
        stream->first = task->next;
        if (lost[stream->device] == cudaSuccess) {
            cudaError_t before = last_error;
            last_error = cudaSuccess;
            task->run(task);
            stream->error = stream->error == cudaSuccess ? last_error : stream->error;
            last_error = before;
        } else if (task->run == run_wait) {
            drop_wait(task);
        }
        stream->done++;
        free(task);
    }
}

cudaError_t finish(emulated_stream* stream, uint64_t number) {
    cudaError_t error = enter(stream->device, EMULATED_WAIT);
    if (error != cudaSuccess) {
        return error;
    }
    advance(stream, number);
    error = stream->error;
    stream->error = cudaSuccess;
    return lost[stream->device] != cudaSuccess ? told(lost[stream->device]) : error;
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

void drop_wait(emulated_task* self) {
    release(((wait_task*)self)->stream);
}

/* Puts what loses the device into a stream, in the place of work. */
cudaError_t append_losing(emulated_stream* stream, cudaError_t error) {
    losing_task* losing = (losing_task*)malloc(sizeof *losing);
    if (losing == NULL) {
        return cudaErrorMemoryAllocation;
    }
    *losing = {{NULL, run_losing}, stream->device, error};
    append(stream, &losing->task);
    return cudaSuccess;
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

device_range* on_devices; /* guarded by the lock */

size_t total_memory(int device) {
    return memory_of[device] != 0 ? memory_of[device]
                                  : (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

size_t free_memory(int device) {
    size_t total = total_memory(device);
    return used[device] < total ? total - used[device] : 0;
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

bool unpin(void* memory) {
    for (pinned_range** link = &pinned; *link != NULL; link = &(*link)->next) {
        if ((*link)->memory == memory) {
            pinned_range* range = *link;
            *link = range->next;
            free(range);
            return true;
        }
    }
    return false;
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
    int device = stream == NULL ? current_device : stream->device;
    cudaError_t error = task == NULL                  ? cudaErrorMemoryAllocation
                        : lost[device] != cudaSuccess ? lost[device]
                                                      : planned_error(EMULATED_LAUNCH);
    if (stream != NULL && lost[device] == cudaSuccess && is_sticky(error)) { /* it is launched, and then it fails */
        free(task);
        error = append_losing(stream, error);
    } else if (error != cudaSuccess) {
        free(task);
    } else if (stream == NULL) {
        task->run(task);
        free(task);
    } else {
        append(stream, task);
    }
    last_error = error != cudaSuccess ? told(error) : last_error;
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
    case cudaErrorDevicesUnavailable:
        return "CUDA-capable device(s) is/are busy or unavailable";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
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
    locked lock;
    *version = driver_version;
    return cudaSuccess;
}

/* A driver serves programs of its major version and of older ones. */
cudaError_t cudaGetDeviceCount(int* count) {
    locked lock;
    *count = 0;
    if (driver_version / 1000 < CUDART_VERSION / 1000) {
        return cudaErrorInsufficientDriver;
    }
    *count = devices_found;
    return devices_found > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int device) {
    locked lock;
    if (device < 0 || device >= devices_found) {
        return cudaErrorInvalidDevice;
    }
    current_device = device;
    return lost[device] == cudaErrorDevicesUnavailable ? lost[device] : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device) {
    locked lock;
    if (device < 0 || device >= devices_found) {
        return cudaErrorInvalidDevice;
    }
    *out = {};
    snprintf(out->name, sizeof out->name, "emulated GPU");
    out->totalGlobalMem = total_memory(device);
    out->major = device == 0 ? 8 : 7; /* the second one has no tensor cores for bf16 */
    out->minor = device == 0 ? 0 : 5;
    out->multiProcessorCount = 4;
    return cudaSuccess;
}

static cudaError_t allocate(void** out, size_t alignment, size_t bytes) {
    *out = NULL;
    if (bytes > PTRDIFF_MAX || posix_memalign(out, alignment, bytes) != 0) {
        *out = NULL;
        return cudaErrorMemoryAllocation;
    }
    return cudaSuccess;
}

static cudaError_t enter_preparing() {
    locked lock;
    return enter(current_device, EMULATED_PREPARE);
}

cudaError_t emulated_set_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || (size_t)value > MOST_ASKED) {
        return cudaErrorInvalidValue;
    }
    cudaError_t error = enter_preparing();
    if (error != cudaSuccess) {
        return error;
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

cudaError_t emulated_get_attributes(cudaFuncAttributes* out) {
    cudaDeviceProp properties;
    cudaError_t error = enter_preparing();
    error = error == cudaSuccess ? cudaGetDeviceProperties(&properties, current_device) : error;
    if (error == cudaSuccess) {
        *out = {properties.major * 10 + properties.minor};
    }
    return error;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
    locked lock;
    *total_bytes = total_memory(current_device);
    *free_bytes = free_memory(current_device);
    return told(lost[current_device]);
}

cudaError_t cudaMalloc(void** out, size_t bytes) {
    locked lock;
    *out = NULL;
    cudaError_t error = enter(current_device, EMULATED_ALLOC);
    if (error != cudaSuccess) {
        return error;
    }
    device_range* range = (device_range*)malloc(sizeof *range);
    if (range == NULL || bytes > free_memory(current_device)
        || allocate(out, device_alignment, bytes) != cudaSuccess) {
        free(range);
        return cudaErrorMemoryAllocation;
    }
    *range = {on_devices, (uint8_t*)*out, bytes, current_device};
    on_devices = range;
    used[current_device] += bytes;
    peak[current_device] = used[current_device] > peak[current_device] ? used[current_device] : peak[current_device];
    return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
    locked lock;
    if (memory == NULL) {
        return cudaSuccess;
    }
    advance_all(); /* it waits for the device */
    device_range** link = &on_devices;
    while (*link != NULL && (*link)->memory != memory) {
        link = &(*link)->next;
    }
    device_range* range = *link;
    if (range == NULL) {
        return cudaErrorInvalidValue;
    }
    int device = range->device;
    *link = range->next;
    used[device] -= range->bytes;
    free(range);
    free(memory);
    return told(lost[device]);
}

cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned) {
    locked lock;
    *out = NULL;
    cudaError_t error = enter(current_device, EMULATED_PIN);
    if (error == cudaSuccess) {
        error = allocate(out, 4096, bytes);
    }
    if (error == cudaSuccess && !pin(*out, bytes)) {
        free(*out);
        *out = NULL;
        error = cudaErrorMemoryAllocation;
    }
    return error;
}

cudaError_t cudaFreeHost(void* memory) {
    locked lock;
    if (memory == NULL) {
        return cudaSuccess;
    }
    advance_all();
    if (!unpin(memory)) {
        return cudaErrorInvalidValue;
    }
    free(memory);
    return told(lost[current_device]);
}

cudaError_t cudaHostRegister(void* memory, size_t bytes, unsigned) {
    locked lock;
    cudaError_t error = enter(current_device, EMULATED_PIN);
    return error == cudaSuccess && !pin(memory, bytes) ? cudaErrorMemoryAllocation : error;
}

cudaError_t cudaHostUnregister(void* memory) {
    locked lock;
    advance_all();
    return unpin(memory) ? told(lost[current_device]) : cudaErrorInvalidValue;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    locked lock;
    int device = stream == NULL ? current_device : stream->device;
    bool later = stream != NULL && is_pinned(kind == cudaMemcpyHostToDevice ? from : to, bytes);
    cudaError_t error = lost[device] != cudaSuccess ? lost[device] : planned_error(EMULATED_COPY);
    if (later && lost[device] == cudaSuccess && is_sticky(error)) { /* it is begun, and then it fails */
        return append_losing(stream, error);
    }
    if (error != cudaSuccess) {
        lost[device] = is_sticky(error) ? error : cudaSuccess;
        return told(error);
    }
    if (!later) {
        if (stream != NULL) {
            advance(stream, stream->enqueued);
        }
        if (lost[device] != cudaSuccess) {
            return told(lost[device]);
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

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
    locked lock;
    cudaError_t error = enter(stream == NULL ? current_device : stream->device, EMULATED_ZERO);
    if (error != cudaSuccess) {
        return error;
    }
    memset(memory, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned) {
    locked lock;
    *out = NULL;
    cudaError_t error = enter(current_device, EMULATED_CREATE);
    if (error != cudaSuccess) {
        return error;
    }
    *out = (cudaStream_t)calloc(1, sizeof **out);
    if (*out == NULL) {
        return cudaErrorMemoryAllocation;
    }
    (*out)->references = 1;
    (*out)->device = current_device;
    (*out)->next = open_streams;
    open_streams = *out;
    handles++;
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
    cudaError_t error = told(lost[stream->device]);
    release(stream);
    handles--;
    return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    locked lock;
    return stream == NULL ? enter(current_device, EMULATED_WAIT) : finish(stream, stream->enqueued);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    locked lock;
    if (lost[stream->device] != cudaSuccess) {
        return told(lost[stream->device]);
    }
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
    locked lock;
    *out = NULL;
    cudaError_t error = enter(current_device, EMULATED_CREATE);
    if (error != cudaSuccess) {
        return error;
    }
    *out = (cudaEvent_t)calloc(1, sizeof **out);
    if (*out == NULL) {
        return cudaErrorMemoryAllocation;
    }
    (*out)->device = current_device;
    handles++;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    locked lock;
    cudaError_t error = told(lost[event->device]);
    release(event->stream);
    free(event);
    handles--;
    return error;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    locked lock;
    cudaError_t error = enter(stream->device, EMULATED_RECORD);
    if (error != cudaSuccess) {
        return error;
    }
    release(event->stream);
    event->stream = stream;
    event->number = stream->enqueued;
    stream->references++;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    locked lock;
    return event->stream == NULL ? enter(event->device, EMULATED_WAIT) : finish(event->stream, event->number);
}

/* -- faults ------------------------------------------------------------------------------------------------------ */

static bool is_device(int32_t device) {
    return device >= 0 && device < DEVICES;
}

void emulated_fail(int32_t call, int64_t after, int32_t error) {
    locked lock;
    if (call >= 0 && call < EMULATED_CALLS) {
        faults[call] = {true, after, (cudaError_t)error};
    }
}

void emulated_memory(int32_t device, int64_t bytes) {
    locked lock;
    if (is_device(device)) {
        memory_of[device] = (size_t)bytes;
    }
}

void emulated_alignment(int32_t bytes) {
    locked lock;
    device_alignment = (size_t)bytes;
}

void emulated_driver(int32_t version, int32_t device_count) {
    locked lock;
    driver_version = version;
    devices_found = device_count < DEVICES ? device_count : DEVICES;
}

int64_t emulated_used(int32_t device) {
    locked lock;
    return is_device(device) ? (int64_t)used[device] : -1;
}

int64_t emulated_peak(int32_t device) {
    locked lock;
    return is_device(device) ? (int64_t)peak[device] : -1;
}

int64_t emulated_pinned() {
    locked lock;
    int64_t bytes = 0;
    for (const pinned_range* range = pinned; range != NULL; range = range->next) {
        bytes += (int64_t)range->bytes;
    }
    return bytes;
}

int64_t emulated_handles() {
    locked lock;
    return handles;
}

int64_t emulated_calls(int32_t call) {
    locked lock;
    return call >= 0 && call < EMULATED_CALLS ? calls[call] : -1;
}

void emulated_reset() {
    locked lock;
    for (int device = 0; device < DEVICES; device++) {
        peak[device] = used[device];
        memory_of[device] = 0;
        lost[device] = cudaSuccess;
    }
    memset(faults, 0, sizeof faults);
    memset(calls, 0, sizeof calls);
    device_alignment = 4096;
    driver_version = CUDART_VERSION;
    devices_found = DEVICES;
}

/* -- cuFile ------------------------------------------------------------------------------------------------------- */

namespace {

constexpr size_t MOST_READ = (1 << 20) - 512; /* of one call */

struct emulated_file {
    int descriptor; /* without O_DIRECT, whose alignment the GPU's addresses need not have */
};

bool driver_opened; /* guarded by the lock, like the next */
bool driver_direct; /* since it was opened */
int files_open;

cufile_error result(int code) {
    return {code, 0};
}

bool is_set(const char* name, const char* value) {
    const char* set = getenv(name);
    return set != NULL && strcmp(set, value) == 0;
}

cufile_error driver_open() {
    locked lock;
    if (is_set("CUFILE_FORCE_COMPAT_MODE", "true") && is_set("CUFILE_ALLOW_COMPAT_MODE", "false")) {
        return result(CUFILE_DRIVER_NOT_INITIALIZED);
    }
    if (driver_opened) {
        return result(CUFILE_DRIVER_ALREADY_OPEN);
    }
    driver_opened = true;
    driver_direct = !is_set("CUFILE_FORCE_COMPAT_MODE", "true");
    return result(CUFILE_SUCCESS);
}

cufile_error driver_close() {
    locked lock;
    if (!driver_opened) {
        return result(CUFILE_DRIVER_NOT_INITIALIZED);
    }
    if (files_open > 0) {
        return result(CUFILE_DRIVER_CLOSING);
    }
    driver_opened = false;
    return result(CUFILE_SUCCESS);
}

cufile_error driver_properties(cufile_properties* out) {
    locked lock;
    *out = {};
    out->driver.status = driver_direct ? 1 << 4 : 0; /* NVMe */
    return result(CUFILE_SUCCESS);
}

cufile_error handle_register(void** out, cufile_descriptor* descriptor) {
    locked lock;
    if (!driver_opened) {
        return result(CUFILE_DRIVER_NOT_INITIALIZED);
    }
    if (descriptor->type != CUFILE_HANDLE_FD) {
        return result(CUFILE_INVALID_VALUE);
    }
#if defined(O_DIRECT)
    int flags = fcntl(descriptor->of.fd, F_GETFL);
    if (flags < 0 || (flags & O_DIRECT) == 0) {
        return result(CUFILE_DIO_NOT_SET);
    }
#endif
    char path[32];
    snprintf(path, sizeof path, "/dev/fd/%d", descriptor->of.fd);
    emulated_file* file = (emulated_file*)malloc(sizeof *file);
    if (file == NULL) {
        return result(CUFILE_INTERNAL_ERROR);
    }
    file->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (file->descriptor < 0) {
        free(file);
        return result(CUFILE_PERMISSION_DENIED);
    }
    files_open++;
    *out = file;
    return result(CUFILE_SUCCESS);
}

void handle_deregister(void* handle) {
    locked lock;
    emulated_file* file = (emulated_file*)handle;
    close(file->descriptor);
    free(file);
    files_open--;
}

/* 0, or the code for memory that is not so much of the current device behind the start of an allocation. */
int check_range(const void* memory, size_t bytes, off_t offset) {
    locked lock;
    const device_range* range = on_devices;
    while (range != NULL && range->memory != memory) {
        range = range->next;
    }
    if (range == NULL || offset < 0 || (size_t)offset > range->bytes || bytes > range->bytes - (size_t)offset) {
        return CUFILE_CUDA_POINTER_RANGE_ERROR;
    }
    return range->device == current_device ? 0 : CUFILE_CUDA_CONTEXT_MISMATCH;
}

ssize_t read_file(void* handle, void* memory, size_t bytes, off_t offset, off_t memory_offset) {
    int code = check_range(memory, bytes, memory_offset);
    if (code != 0) {
        return -code;
    }
    int descriptor = ((emulated_file*)handle)->descriptor;
    struct stat now;
    if (fstat(descriptor, &now) != 0 || offset + (off_t)bytes > now.st_size) {
        errno = EIO;
        return -1;
    }
    return pread(descriptor, (uint8_t*)memory + memory_offset, bytes < MOST_READ ? bytes : MOST_READ, offset);
}

} // namespace

const cufile_functions emulated_cufile = {
    driver_open, driver_close, driver_properties, handle_register, handle_deregister, read_file,
};
