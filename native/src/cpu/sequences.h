/* sequences.h: the rows of an op, sequence by sequence, and the states of their layer. */
#ifndef LAMINA_SEQUENCES_H
#define LAMINA_SEQUENCES_H

#include "kernels.h"

/* The op's rows of each sequence in their order. */
typedef struct lm_sequences {
    int32_t* begin; // (sequences + 1): where the rows of each sequence begin in rows
    int32_t* rows;  // (rows of the op)
} lm_sequences;

/* How many floats of scratch memory they take. */
static inline int64_t lm_sequences_floats(const lm_step* step, const lm_op* op) {
    return (int64_t)step->sequences + 2 + lm_row_count(step, op->row_set);
}

static inline lm_sequences lm_sort_rows(const lm_step* step, const lm_op* op, void* scratch) {
    lm_sequences s = {scratch, (int32_t*)scratch + step->sequences + 2};
    int32_t rows = lm_row_count(step, op->row_set);
    memset(s.begin, 0, ((size_t)step->sequences + 2) * sizeof *s.begin);
    for (int32_t i = 0; i < rows; i++) { /* counted two places up: what a place up fills becomes its end */
        s.begin[step->sequence[lm_step_row(step, op->row_set, i)] + 2]++;
    }
    for (int32_t i = 2; i < step->sequences + 2; i++) {
        s.begin[i] += s.begin[i - 1];
    }
    for (int32_t i = 0; i < rows; i++) {
        s.rows[s.begin[step->sequence[lm_step_row(step, op->row_set, i)] + 1]++] = i;
    }
    return s;
}

/* The state of a sequence before its first row, null for zeros, and where the one after its last row goes. */
static inline const float* lm_state_before(const lm_step* step, const lm_op* op, int32_t sequence) {
    const lm_kv_slot* slot = &step->kv[sequence]->layers[op->layer];
    int32_t half = step->states[sequence];
    return half < 0 ? NULL : (const float*)((uint8_t*)slot->memory + (half == 0 ? slot->keys : slot->values));
}

static inline float* lm_state_after(const lm_step* step, const lm_op* op, int32_t sequence) {
    const lm_kv_slot* slot = &step->kv[sequence]->layers[op->layer];
    return (float*)((uint8_t*)slot->memory + (step->states[sequence] == 0 ? slot->values : slot->keys));
}

#endif
