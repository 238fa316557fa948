/* ops.h: what the tests of ops on different backends share: devices with memory of their own, and attention. */
#ifndef LAMINA_TEST_OPS_H
#define LAMINA_TEST_OPS_H

#include "test.h"

typedef struct machine {
    lm_device* device;
    lm_queue* queue;
    int32_t simd;    /* CPU */
    int32_t threads; /* CPU */
} machine;

static int64_t generation; /* of the last step */

/* A copy of host memory on the device; null for none. */
static inline void* on_device(const machine* m, const void* from, int64_t bytes) {
    void* memory = NULL;
    if (bytes > 0) {
        MUST(lm_device_alloc(m->device, bytes, &memory));
        MUST(lm_copy_to_device(m->queue, memory, from, bytes, NULL));
    }
    return memory;
}

static inline void to_host(const machine* m, void* to, const void* from, int64_t bytes) {
    int64_t ticket;
    MUST(lm_copy_to_host(m->queue, to, from, bytes, &ticket));
    MUST(lm_wait(m->queue, ticket));
}

static inline int64_t element_bytes(int32_t dtype) {
    return dtype == LM_DTYPE_F32 ? 4 : 2;
}

static inline int in_view(const lm_view* view, int32_t rows, int64_t i) {
    int64_t d = i - view->offset;
    return d >= 0 && d / view->stride < rows && d % view->stride < view->width;
}

typedef struct attention {
    int32_t heads;
    int32_t kv_heads;
    int32_t head_dim;
    int32_t head_dim_v;
    int32_t window;
    int32_t dtype;
    int32_t sequences;
    int32_t lengths[3]; /* tokens of each sequence */
} attention;

/*
 * The tokens of all sequences, of which a chunk of each at a time is stored and attended to; gives out of each. The
 * second of two layers is attended to; the last host_layers of them are in host memory.
 */
static inline void attend(const machine* m, const attention* t, int32_t chunk, int32_t host_layers, const float* q,
                          const float* k, const float* v, float* out) {
    const lm_kv_layer layers[2] = {{1, 3, 5, 0}, {t->kv_heads, t->head_dim, t->head_dim_v, 0}};
    lm_kv* kv[3];
    int32_t base[3];
    int32_t total = 0;
    for (int32_t s = 0; s < t->sequences; s++) {
        MUST(lm_kv_create(m->device, layers, 2, t->lengths[s] + s, t->dtype, host_layers, &kv[s]));
        base[s] = total;
        total += t->lengths[s];
    }
    int32_t q_width = t->heads * t->head_dim;
    int32_t k_width = t->kv_heads * t->head_dim;
    int32_t v_width = t->kv_heads * t->head_dim_v;
    int32_t out_width = t->heads * t->head_dim_v;
    int64_t row_floats = q_width + k_width + v_width + out_width;
    int64_t most = (int64_t)chunk * t->sequences;
    float* image = calloc((size_t)(most * row_floats), 4);
    float* memory = on_device(m, image, most * row_floats * 4);
    int32_t* positions = malloc((size_t)most * 4);
    int32_t* sequence = malloc((size_t)most * 4);
    for (int32_t start = 0; start < total; start += chunk) {
        int32_t rows = 0;
        for (int32_t s = 0; s < t->sequences; s++) {
            for (int32_t i = start; i < start + chunk && i < t->lengths[s]; i++) {
                positions[rows] = i;
                sequence[rows] = s;
                float* row = image + rows * row_floats;
                memcpy(row, q + (int64_t)(base[s] + i) * q_width, (size_t)q_width * 4);
                memcpy(row + q_width, k + (int64_t)(base[s] + i) * k_width, (size_t)k_width * 4);
                memcpy(row + q_width + k_width, v + (int64_t)(base[s] + i) * v_width, (size_t)v_width * 4);
                rows++;
            }
        }
        if (rows == 0) {
            break;
        }
        int32_t stride = (int32_t)row_floats;
        lm_view views[4] = {{0, stride, q_width},
                            {q_width, stride, k_width},
                            {q_width + k_width, stride, v_width},
                            {q_width + k_width + v_width, stride, out_width}};
        lm_op ops[2] = {
            {.code = LM_OP_KV_STORE, .a = views[1], .b = views[2], .layer = 1},
            {.code = LM_OP_ATTENTION,
             .out = views[3],
             .a = views[0],
             .layer = 1,
             .heads = t->heads,
             .head_dim = t->head_dim,
             .window = t->window,
             .scale = 0.25f},
        };
        lm_step step = {.rows = rows,
                        .sequences = t->sequences,
                        .generation = ++generation,
                        .positions = positions,
                        .sequence = sequence,
                        .kv = kv,
                        .activations = memory,
                        .activations_bytes = most * row_floats * 4};
        MUST(lm_copy_to_device(m->queue, memory, image, most * row_floats * 4, NULL));
        MUST(lm_submit(m->queue, ops, 2, &step, NULL));
        to_host(m, image, memory, most * row_floats * 4);
        for (int32_t i = 0; i < rows; i++) {
            memcpy(out + (int64_t)(base[sequence[i]] + positions[i]) * out_width,
                   image + i * row_floats + q_width + k_width + v_width, (size_t)out_width * 4);
        }
    }
    MUST(lm_device_free(m->device, memory, most * row_floats * 4));
    for (int32_t s = 0; s < t->sequences; s++) {
        MUST(lm_kv_destroy(kv[s]));
    }
    free(image);
    free(positions);
    free(sequence);
}

#endif
