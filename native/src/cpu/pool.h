/* pool.h: the threads of a device, which compute the chunks of one op together. */
#ifndef LAMINA_POOL_H
#define LAMINA_POOL_H

#include <stdint.h>

typedef struct lm_pool lm_pool;

/* Computes one chunk of an op; thread is 0 .. threads - 1 and no two calls at a time have the same one. */
typedef void (*lm_chunk)(const void* work, int32_t chunk, int32_t thread);

/* Starts threads - 1 workers; the thread that calls lm_pool_run is the last one of them. */
int32_t lm_pool_open(int32_t threads, lm_pool** out);
void lm_pool_close(lm_pool* pool);

/* Between begin and end the workers wait for the next op more eagerly. A null pool is that of a thread that is alone. */
void lm_pool_begin(lm_pool* pool);
void lm_pool_end(lm_pool* pool);

/* Calls chunk(work, i, thread) for i in 0 .. chunks - 1, in any order, on whichever threads are free; returns when all
 * are done. */
void lm_pool_run(lm_pool* pool, lm_chunk chunk, const void* work, int32_t chunks);

#endif
