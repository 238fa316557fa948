/* scatter_add.c: adds rows, times their weights if they have any, to the rows of the step that the list names. */
#include "kernels.h"

enum { CHUNK_FLOATS = 64 }; /* the fewest of a row */

/* Chunks are columns: should the list have a row twice, one thread adds both, in the order of the list. */
static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const lm_rows* w = work;
    const lm_op* op = w->op;
    const lm_step* step = w->step;
    int64_t blocks = (op->a.width + CHUNK_FLOATS - 1) / CHUNK_FLOATS;
    int64_t begin = lm_part(blocks, index, w->chunks) * CHUNK_FLOATS;
    int64_t end = lm_part(blocks, index + 1, w->chunks) * CHUNK_FLOATS;
    int32_t width = (int32_t)((end < op->a.width ? end : op->a.width) - begin);
    for (int32_t r = 0; r < w->rows; r++) {
        v weight = v_set(op->kind == LM_ROWS_WEIGHTED ? step->list_weights[step->list_first + r] : 1.0f);
        const float* a = lm_row(step, &op->a, r) + begin;                               // (width)
        float* out = lm_row(step, &op->out, lm_step_row(step, op->row_set, r)) + begin; // (width)
        for (int32_t i = 0; i < width; i += LM_LANES) {
            v_store_n(out + i, v_fma(v_load_n(a + i, width - i), weight, v_load_n(out + i, width - i)), width - i);
        }
    }
}

void LM_KERNEL(lm_scatter_add)(const lm_run* run, const lm_op* op) {
    int32_t rows = lm_row_count(run->step, op->row_set);
    int64_t blocks = (op->a.width + CHUNK_FLOATS - 1) / CHUNK_FLOATS;
    lm_rows work = {run->step, op, rows, lm_chunks(blocks, (int64_t)rows * CHUNK_FLOATS, run->threads)};
    lm_pool_run(run->pool, chunk, &work, work.chunks);
}
