/*
 * pool.c: the threads of a device.
 *
 * An op is cut into more chunks than there are threads, and each thread takes the next one when it is free. An op is
 * done when its chunks are done, not when all threads have arrived: a thread that lost its core while it held no chunk
 * delays nobody. Whoever waits spins for a few microseconds and then sleeps, which gives the core to the thread that
 * needs it.
 */
#define _GNU_SOURCE
#include "pool.h"

#include "../backend.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SPIN_NANOSECONDS 5000

typedef struct worker {
    lm_pool* pool;
    pthread_t handle;
    int32_t thread;
} worker;

struct lm_pool {
    atomic_int_fast32_t untaken;    /* chunks of the current op that no thread has taken */
    atomic_int_fast32_t unfinished; /* chunks of the current op that are not done */
    atomic_int_fast32_t sleepers;   /* workers asleep, or about to be */
    atomic_int_fast32_t waiting;    /* 1 while the submitting thread sleeps until unfinished is 0 */
    atomic_int_fast32_t active;     /* 1 between begin and end */
    atomic_int_fast32_t closing;
    lm_chunk chunk; /* the current op: written while there is none, before untaken */
    const void* work;
    int32_t chunks;
    int32_t workers;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* for workers */
    pthread_cond_t done; /* for the submitting thread */
    worker worker[];
};

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void pause_briefly(void) {
    for (int i = 0; i < 8; i++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb");
#endif
    }
}

/* Computes chunks of the current op until none is left to take. */
static void compute(lm_pool* pool, int32_t thread) {
    int_fast32_t left = atomic_load(&pool->untaken);
    while (left > 0) {
        if (!atomic_compare_exchange_weak(&pool->untaken, &left, left - 1)) {
            continue;
        }
        /* The op cannot end before this chunk does, so its fields stay as they are. */
        pool->chunk(pool->work, (int32_t)(pool->chunks - left), thread);
        if (atomic_fetch_sub(&pool->unfinished, 1) == 1 && atomic_load(&pool->waiting)) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
        left = atomic_load(&pool->untaken);
    }
}

static void* worker_main(void* argument) {
    worker* self = argument;
    lm_pool* pool = self->pool;
#if defined(__APPLE__)
    pthread_setname_np("lamina-compute");
#elif defined(SCHED_BATCH)
    /*
     * A worker that wakes must not take the core of the thread that woke it, as it would where others are busy. Where
     * that is not to be had, or the host chose a policy of its own, things stay as they are.
     */
    int policy;
    struct sched_param parameters;
    if (pthread_getschedparam(pthread_self(), &policy, &parameters) == 0 && policy == SCHED_OTHER) {
        pthread_setschedparam(pthread_self(), SCHED_BATCH, &(struct sched_param){0});
    }
#endif
    while (!atomic_load(&pool->closing)) {
        compute(pool, self->thread);
        int64_t deadline = nanoseconds() + SPIN_NANOSECONDS;
        while (atomic_load(&pool->active) && atomic_load(&pool->untaken) == 0 && nanoseconds() < deadline) {
            pause_briefly();
        }
        if (atomic_load(&pool->untaken) > 0) {
            continue;
        }
        pthread_mutex_lock(&pool->lock);
        atomic_fetch_add(&pool->sleepers,
                         1); /* before the check: lm_pool_run stores untaken and then looks for sleepers */
        while (atomic_load(&pool->untaken) == 0 && !atomic_load(&pool->closing)) {
            pthread_cond_wait(&pool->wake, &pool->lock);
        }
        atomic_fetch_sub(&pool->sleepers, 1);
        pthread_mutex_unlock(&pool->lock);
    }
    return NULL;
}

void lm_pool_close(lm_pool* pool) {
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->closing, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t i = 0; i < pool->workers; i++) {
        pthread_join(pool->worker[i].handle, NULL);
    }
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

int32_t lm_pool_open(int32_t threads, lm_pool** out) {
    lm_pool* pool = calloc(1, sizeof(lm_pool) + (size_t)(threads - 1) * sizeof(worker));
    if (pool == NULL) {
        return lm_fail(LM_ERROR_OUT_OF_MEMORY, "lm_device_open: no memory for %d threads", threads);
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* workers inherit it: signals stay with the host's threads */
    int error = 0;
    while (error == 0 && pool->workers < threads - 1) {
        worker* next = &pool->worker[pool->workers];
        next->pool = pool;
        next->thread = pool->workers + 1;
        error = pthread_create(&next->handle, NULL, worker_main, next);
        if (error == 0) {
            pool->workers++;
#if defined(__linux__)
            pthread_setname_np(next->handle, "lamina-compute");
#endif
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        int32_t started = pool->workers;
        lm_pool_close(pool);
        return lm_fail(LM_ERROR_DEVICE, "lm_device_open: thread %d of %d could not be started: %s; use fewer threads",
                       started + 2, threads, strerror(error));
    }
    *out = pool;
    return LM_OK;
}

void lm_pool_begin(lm_pool* pool) {
    if (pool != NULL) {
        atomic_store(&pool->active, 1);
    }
}

void lm_pool_end(lm_pool* pool) {
    if (pool != NULL) {
        atomic_store(&pool->active, 0);
    }
}

static void wake_workers(lm_pool* pool, int_fast32_t wanted) {
    if (atomic_load(&pool->sleepers) == 0) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    int_fast32_t asleep = atomic_load(&pool->sleepers);
    if (wanted >= asleep) {
        pthread_cond_broadcast(&pool->wake);
    } else {
        for (int_fast32_t i = 0; i < wanted; i++) {
            pthread_cond_signal(&pool->wake);
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

void lm_pool_run(lm_pool* pool, lm_chunk chunk, const void* work, int32_t chunks) {
    if (chunks <= 1 || pool == NULL || pool->workers == 0) {
        for (int32_t i = 0; i < chunks; i++) {
            chunk(work, i, 0);
        }
        return;
    }
    pool->chunk = chunk;
    pool->work = work;
    pool->chunks = chunks;
    atomic_store(&pool->unfinished, chunks);
    atomic_store(&pool->untaken, chunks);
    wake_workers(pool, chunks - 1);
    compute(pool, 0);
    int64_t deadline = nanoseconds() + SPIN_NANOSECONDS;
    while (atomic_load(&pool->unfinished) > 0 && nanoseconds() < deadline) {
        pause_briefly();
    }
    if (atomic_load(&pool->unfinished) > 0) {
        pthread_mutex_lock(&pool->lock);
        atomic_store(&pool->waiting,
                     1); /* before the check: the last thread counts unfinished down and then looks here */
        while (atomic_load(&pool->unfinished) > 0) {
            pthread_cond_wait(&pool->done, &pool->lock);
        }
        atomic_store(&pool->waiting, 0);
        pthread_mutex_unlock(&pool->lock);
    }
}
