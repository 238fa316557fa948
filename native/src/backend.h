/*
 * backend.h: what a backend provides, and what it shares with api.c.
 *
 * api.c owns the handles, checks every argument and then calls the backend's table: a backend may rely on what reaches
 * it.
 */
#ifndef LAMINA_BACKEND_H
#define LAMINA_BACKEND_H

#include "lamina.h"

#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lm_backend lm_backend;

/* Memory handed out by lm_host_alloc or lm_device_alloc: what does not match one is refused. */
typedef struct lm_allocation {
    void* memory;
    int64_t bytes;
    int32_t host;
} lm_allocation;

/* The part of a device that all backends have; a backend's own struct begins with it. */
struct lm_device {
    const lm_backend* backend;
    lm_device_info info;
    pthread_mutex_t lock;       /* guards what follows */
    lm_allocation* allocations; // (allocation_count), by address; there is room for allocation_room
    int32_t allocation_count;
    int32_t allocation_room;
    int32_t children; /* queues, KV caches and files not yet closed */
};

/* The part of a queue that all backends have; a backend's own struct begins with it. */
struct lm_queue {
    lm_device* device;
    int64_t last_ticket; /* of the work submitted so far; the first one is 1 */
};

/* One layer inside a KV cache: where it lies. */
typedef struct lm_kv_slot {
    lm_kv_layer shape;
    void* memory;   /* of the device or of the host */
    int64_t keys;   /* of (kv_heads, places, head_dim), from memory on; LM_KV_STATE: half 0, always in f32 */
    int64_t values; /* of (kv_heads, places, head_dim_v); LM_KV_STATE: half 1; LM_KV_LATENT: keys */
    int32_t places; /* that the layer has, at most the capacity; 0 for a state */
} lm_kv_slot;

struct lm_kv {
    lm_device* device;
    void* memory; /* null where all layers are in host memory */
    int64_t bytes;
    void* host_memory; /* null where all layers are on the device */
    int64_t host_bytes;
    int32_t capacity; /* places, one a position */
    int32_t dtype;    /* LM_DTYPE_F32 or LM_DTYPE_F16 */
    int32_t layer_count;
    lm_kv_slot layers[];
};

/* The part of a device file that all backends have; a backend's own struct begins with it. */
struct lm_device_file {
    lm_device* device;
    int32_t direct; /* as lm_device_file_direct tells it */
};

/* What memory is for: it may decide alignment, page-locking and pages. */
#define LM_MEMORY_HOST 0    /* panels; touched by the reader first */
#define LM_MEMORY_DEVICE 1  /* zeroed */
#define LM_MEMORY_KV 2      /* zeroed; filled position by position */
#define LM_MEMORY_HOST_KV 3 /* the same in host memory, where the device has its own */

/* The functions of a backend. Each returns a status and has set the message when it is not LM_OK. */
struct lm_backend {
    int32_t (*count)(int32_t* out);
    int32_t (*open)(const lm_device_options* options, lm_device** out);
    void (*close)(lm_device* device);
    int32_t (*free_bytes)(const lm_device* device, int64_t* out);
    int32_t (*alloc)(lm_device* device, int32_t use, int64_t bytes, void** out);
    void (*free)(lm_device* device, int32_t use, void* memory, int64_t bytes);
    int32_t (*queue_create)(lm_device* device, lm_queue** out); /* zeroed but for the backend's own part */
    void (*queue_destroy)(lm_queue* queue);                     /* all of its work is done */
    void (*queue_trim)(lm_queue* queue);                        /* the same */
    int32_t (*submit)(lm_queue* queue, const lm_op* ops, int32_t count, const lm_step* step, int64_t ticket);
    int32_t (*copy)(lm_queue* queue, int32_t to_device, void* to, const void* from, int64_t bytes, int64_t ticket);
    int32_t (*after)(lm_queue* queue, lm_queue* other, int64_t ticket);
    int32_t (*wait)(lm_queue* queue, int64_t ticket);
    int32_t (*file_open)(lm_device* device, const char* path, lm_device_file** out); /* sets direct */
    void (*file_close)(lm_device_file* file);
    /* bytes > 0, to `at` bytes behind the start of an allocation, and not past its end */
    int32_t (*file_read)(lm_device_file* file, void* allocation, int64_t at, int64_t bytes, int64_t offset,
                         int64_t* read);
};

extern const lm_backend lm_cpu_backend;

/* The backend with this number; null where it is not loaded. */
const lm_backend* lm_find_backend(int32_t backend);

/* Sets the calling thread's message and returns the status. */
__attribute__((format(printf, 2, 3))) int32_t lm_fail(int32_t status, const char* format, ...);

/* What a backend in a library of its own gets from the one that loads it. */
typedef struct lm_host {
    int32_t abi;          /* LM_ABI_VERSION of the one that loads it */
    int32_t backend;      /* LM_BACKEND_* that it is to be */
    int64_t size_backend; /* sizeof(lm_backend): what changes here only makes another size */
    int32_t (*fail)(int32_t status, const char* format, ...);
    int32_t (*memory_alloc)(int64_t bytes, void** out); /* pages as lm_host_alloc promises them */
    void (*memory_free)(void* memory, int64_t bytes);
} lm_host;

/*
 * The one function that such a library exports, under the name LM_BACKEND_ENTRY: keeps what it gets and returns its
 * table, or null if it was built for another interface or is another backend.
 */
typedef const lm_backend* (*lm_backend_entry)(const lm_host* host);
#define LM_BACKEND_ENTRY "lm_backend_get"

/* Pages from the system; see lm_host_alloc. */
int32_t lm_memory_alloc(int64_t bytes, void** out);
void lm_memory_free(void* memory, int64_t bytes);

/* Bytes of one element; 0 for an unknown dtype and for those with scales. */
static inline int64_t lm_dtype_bytes(int32_t dtype) {
    return dtype == LM_DTYPE_F32 ? 4 : dtype == LM_DTYPE_F16 || dtype == LM_DTYPE_BF16 ? 2 : 0;
}

/* Elements of a weight row that share a scale; 0: elements of this dtype have none. */
static inline int32_t lm_scale_block(int32_t dtype) {
    return dtype == LM_DTYPE_F8_E4M3 ? 128 : dtype == LM_DTYPE_MXFP4 ? 32 : 0;
}

/* Bytes of so many elements of a weight row, whole scale blocks of MXFP4, without scales; 0 for an unknown dtype. */
static inline int64_t lm_weight_bytes(int32_t dtype, int64_t elements) {
    return dtype == LM_DTYPE_F8_E4M3 ? elements
           : dtype == LM_DTYPE_MXFP4 ? elements / 2
                                     : elements * lm_dtype_bytes(dtype);
}

/* Rows of a row set, and the step's row behind its row i. */
static inline int32_t lm_row_count(const lm_step* step, int32_t row_set) {
    return row_set == LM_ROWS_ALL ? step->rows : row_set == LM_ROWS_OUTPUT ? step->output_rows : step->list_rows;
}

static inline int32_t lm_step_row(const lm_step* step, int32_t row_set, int32_t i) {
    return row_set == LM_ROWS_ALL      ? i
           : row_set == LM_ROWS_OUTPUT ? step->output_index[i]
                                       : step->list[step->list_first + i];
}

#define LM_TAPS_MOST 65 /* of LM_OP_CONVOLUTION: rows that one is made of, far above any model */

/* The place, of so many that its layer has, at which a row of the step is stored. */
static inline int32_t lm_row_place(const lm_step* step, int32_t row, int32_t places) {
    int32_t number = step->branch_width == 0 ? step->positions[row] : step->branch[(int64_t)row * step->branch_width];
    return number % places;
}

/* The first position that a row at this position sees. */
static inline int32_t lm_first_visible(const lm_op* op, int32_t position) {
    int32_t in_window = op->window > 0 && position >= op->window ? position - op->window + 1 : 0;
    int32_t in_chunk = op->chunk > 0 ? position - position % op->chunk : 0;
    return in_window > in_chunk ? in_window : in_chunk;
}

#ifdef __cplusplus
}
#endif

#endif
