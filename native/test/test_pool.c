/*
 * test_pool.c: the threads of a device: many devices opened and closed, more threads than cores, submissions from
 * several threads in turn and at once, many small ops in one submission, signals, and what happens when no thread can
 * be had.
 */
#define _GNU_SOURCE
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

enum { WIDTH = 64, ROWS = 640, OPS = 60 }; /* enough floats for several chunks an op */

/* x += 1, OPS times over, in one submission; every element must have seen every op in order. */
static void count_up(lm_device* device, lm_queue* queue, float begin) {
    int64_t bytes = INT64_C(2) * ROWS * WIDTH * 4;
    float* x;
    MUST(lm_device_alloc(device, bytes, (void**)&x));
    for (int32_t i = 0; i < ROWS * WIDTH; i++) {
        x[i] = begin;
        x[ROWS * WIDTH + i] = 1;
    }
    lm_op ops[OPS];
    for (int i = 0; i < OPS; i++) {
        lm_view all = {0, WIDTH, WIDTH};
        ops[i] = (lm_op){.code = LM_OP_ADD, .out = all, .a = all, .b = {ROWS * WIDTH, WIDTH, WIDTH}, .scale = 1};
    }
    lm_step step = {.rows = ROWS, .activations = x, .activations_bytes = bytes};
    MUST(lm_submit(queue, ops, OPS, &step, NULL));
    for (int32_t i = 0; i < ROWS * WIDTH; i++) {
        CHECK(x[i] == begin + OPS, "element %d is %g, not %g", i, x[i], begin + OPS);
    }
    MUST(lm_device_free(device, x, bytes));
}

static int threads_of_this_process(void) {
    char line[256];
    int threads = -1;
    FILE* status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        sscanf(line, "Threads: %d", &threads);
    }
    if (status != NULL) {
        fclose(status);
    }
    return threads;
}

static void test_open_and_close(void) {
    lm_device* first;
    MUST(
        lm_device_open(&(lm_device_options){.threads = 2}, &first)); /* a sanitizer starts a thread of its own by now */
    MUST(lm_device_close(first));
    int before = threads_of_this_process();
    for (int i = 0; i < 200; i++) {
        lm_device* device;
        lm_queue* queue;
        MUST(lm_device_open(&(lm_device_options){.threads = 1 + i % 7}, &device));
        if (i % 3 == 0) {
            MUST(lm_queue_create(device, &queue));
            count_up(device, queue, (float)i);
            MUST(lm_queue_destroy(queue));
        }
        MUST(lm_device_close(device));
    }
    CHECK(threads_of_this_process() == before, "%d threads, %d before", threads_of_this_process(), before);
}

typedef struct submitter {
    lm_device* device;
    float begin;
} submitter;

static void* submit_some(void* argument) {
    const submitter* s = argument;
    lm_queue* queue;
    MUST(lm_queue_create(s->device, &queue));
    for (int i = 0; i < 10; i++) {
        count_up(s->device, queue, s->begin);
    }
    MUST(lm_queue_destroy(queue));
    return NULL;
}

/* at_once: all threads submit to the same device, each on a queue of its own; else one after the other. */
static void test_submitters(int at_once) {
    lm_device* device;
    MUST(lm_device_open(&(lm_device_options){.threads = 4}, &device));
    pthread_t threads[4];
    submitter submitters[4];
    for (int i = 0; i < 4; i++) {
        submitters[i] = (submitter){device, (float)(1000 * i)};
        if (pthread_create(&threads[i], NULL, submit_some, &submitters[i]) != 0) {
            exit(1);
        }
        if (!at_once) {
            pthread_join(threads[i], NULL);
        }
    }
    for (int i = 0; at_once && i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    MUST(lm_device_close(device));
}

static pthread_t main_thread;
static volatile sig_atomic_t elsewhere;

static void on_signal(int number) {
    (void)number;
    if (!pthread_equal(pthread_self(), main_thread)) {
        elsewhere = 1;
    }
}

/* Signals sent to the process while workers run reach the host's thread, never a worker. */
static void test_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    main_thread = pthread_self();
    sigset_t before;
    sigset_t after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    lm_device* device;
    lm_queue* queue;
    MUST(lm_device_open(&(lm_device_options){.threads = 4}, &device));
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    CHECK(sigismember(&after, SIGUSR1) == sigismember(&before, SIGUSR1), "the caller's signal mask has changed");
    MUST(lm_queue_create(device, &queue));
    for (int i = 0; i < 50; i++) {
        kill(getpid(), SIGUSR1);
        count_up(device, queue, 0);
    }
    CHECK(!elsewhere, "a worker took a signal");
    MUST(lm_queue_destroy(queue));
    MUST(lm_device_close(device));
    signal(SIGUSR1, SIG_DFL);
}

/* With no address space for more stacks the device is refused, and the threads already started end. */
static void test_no_threads(void) {
#if !defined(LM_SANITIZED) /* sanitizers need address space of their own */
    struct rlimit before;
    getrlimit(RLIMIT_AS, &before);
    int threads = threads_of_this_process();
    struct rlimit none = {1 << 20, before.rlim_max};
    setrlimit(RLIMIT_AS, &none);
    void* room = mmap(NULL, 64 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    lm_device* device = NULL;
    int32_t status = lm_device_open(&(lm_device_options){.threads = 64}, &device);
    setrlimit(RLIMIT_AS, &before);
    if (room != MAP_FAILED) { /* a system that does not enforce this limit: nothing to see */
        munmap(room, 64 << 20);
        MUST(status);
        MUST(lm_device_close(device));
        return;
    }
    CHECK(status == LM_ERROR_DEVICE && strstr(last_error(), "could not be started") != NULL, "%d: %s", status,
          last_error());
    CHECK(device == NULL && threads_of_this_process() == threads, "%d threads, %d before", threads_of_this_process(),
          threads);
#endif
}

int main(void) {
    test_open_and_close();
    test_submitters(0);
    test_submitters(1);
    test_signals();
    test_no_threads();
    return finish_tests("test_pool");
}
