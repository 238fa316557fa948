/* kernels.h: what every op file includes; the ops' names carry the instruction set that they are compiled for. */
#ifndef LAMINA_KERNELS_H
#define LAMINA_KERNELS_H

#include "cpu.h"
#include "simd.h"

void LM_KERNEL(lm_embed)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_norm)(const lm_run* run, const lm_op* op); /* both kinds of norms */
void LM_KERNEL(lm_linear)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_rope)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_kv_store)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_attention)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_activation)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_add)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_gather_rows)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_linear_transposed)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_weight_norm)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_scale)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_scatter_add)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_convolution)(const lm_run* run, const lm_op* op);
void LM_KERNEL(lm_delta_rule)(const lm_run* run, const lm_op* op);
int64_t LM_KERNEL(lm_linear_scratch)(const lm_step* step, const lm_op* op, int32_t threads);
int64_t LM_KERNEL(lm_attention_scratch)(const lm_step* step, const lm_op* op, int32_t threads);
int64_t LM_KERNEL(lm_linear_transposed_scratch)(const lm_step* step, const lm_op* op, int32_t threads);
int64_t LM_KERNEL(lm_convolution_scratch)(const lm_step* step, const lm_op* op, int32_t threads);
int64_t LM_KERNEL(lm_delta_rule_scratch)(const lm_step* step, const lm_op* op, int32_t threads);

/* An op under way that treats each row by itself; a chunk is a range of rows. */
typedef struct lm_rows {
    const lm_step* step;
    const lm_op* op;
    int32_t rows;
    int32_t chunks;
} lm_rows;

/* The memory at which a row's embedding or table lies. */
static inline const uint8_t* lm_input_row(const lm_rows* w, int64_t row, int64_t row_bytes) {
    return (const uint8_t*)w->step->inputs + w->op->input_offset + row * row_bytes;
}

/* Runs chunk over lm_rows with chunks chosen for rows of that many floats each. */
static inline void lm_run_rows(const lm_run* run, const lm_op* op, lm_chunk chunk, int64_t floats_per_row) {
    int32_t rows = lm_row_count(run->step, op->row_set);
    lm_rows work = {run->step, op, rows, lm_chunks(rows, floats_per_row, run->threads)};
    lm_pool_run(run->pool, chunk, &work, work.chunks);
}

#endif
