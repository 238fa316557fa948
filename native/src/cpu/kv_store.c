/* kv_store.c: puts keys and values of each row at its place in its sequence's cache. */
#include "kernels.h"

/* Stores one head's vector in the dtype of the cache. */
static void store(uint8_t* to, const float* from, int32_t dim, int32_t dtype) {
    if (dtype == LM_DTYPE_F32) {
        memcpy(to, from, (size_t)dim * sizeof(float));
        return;
    }
    for (int32_t i = 0; i < dim; i += LM_LANES) {
        if (dim - i >= LM_LANES) {
            v_store_f16(to + i * sizeof(uint16_t), v_load(from + i));
        } else {
            v_store_f16_part(to + i * sizeof(uint16_t), v_load_part(from + i, dim - i), dim - i);
        }
    }
}

/* Chunks are heads, so that rows are stored in their order: of two rows at one place the later one stays. */
static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    const lm_op* op = w->op;
    const lm_step* step = w->step;
    for (int32_t r = 0; r < w->rows; r++) {
        int32_t row = lm_step_row(step, op->row_set, r);
        const lm_kv* kv = step->kv[step->sequence[row]];
        const lm_kv_slot* slot = &kv->layers[op->layer];
        int64_t element = lm_dtype_bytes(kv->dtype);
        int64_t dim = slot->shape.head_dim;
        int64_t dim_v = slot->shape.head_dim_v;
        int64_t end = lm_part(slot->shape.kv_heads, index + 1, w->chunks);
        for (int64_t h = lm_part(slot->shape.kv_heads, index, w->chunks); h < end; h++) {
            int64_t at = h * slot->places + lm_row_place(step, row, slot->places);
            uint8_t* key = (uint8_t*)slot->memory + slot->keys + at * dim * element; // (head_dim) of the cache's dtype
            store(key, lm_row(step, &op->a, r) + h * dim, (int32_t)dim, kv->dtype);
            if (slot->shape.kind == LM_KV_LATENT) {
                continue;
            }
            uint8_t* value = (uint8_t*)slot->memory + slot->values + at * dim_v * element; // (head_dim_v)
            store(value, lm_row(step, &op->b, r) + h * dim_v, (int32_t)dim_v, kv->dtype);
        }
    }
}

void LM_KERNEL(lm_kv_store)(const lm_run* run, const lm_op* op) {
    const lm_step* step = run->step;
    int32_t rows = lm_row_count(step, op->row_set);
    int32_t heads = step->kv[0]->layers[op->layer].shape.kv_heads;
    int64_t floats_per_head = (int64_t)rows * (op->a.width + op->b.width) / heads;
    lm_rows work = {step, op, rows, lm_chunks(heads, floats_per_head, run->threads)};
    lm_pool_run(run->pool, chunk, &work, work.chunks);
}
