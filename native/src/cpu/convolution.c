/*
 * convolution.c: out[t, c] = kind(sum over j < K of vector[c * K + j] * a[t - K + 1 + j, c]), for each sequence.
 *
 * A sum is a chain of fused multiply-adds in order of j. The state is the last K - 1 rows of a.
 */
#include "sequences.h"

#include "vmath.h"

typedef struct convolution {
    const lm_step* step;
    const lm_op* op;
    lm_sequences sequences;
    int32_t taps;   /* K */
    int32_t chunks; /* of vectors of channels */
} convolution;

/* Channels c .. of row t of a sequence, whose rows begin at number 0; those before are in its state. */
LM_INLINE v row_before(const convolution* t, const int32_t* rows, const float* state, int64_t row, int32_t c,
                       int32_t count) {
    if (row >= 0) {
        return v_load_n(lm_row(t->step, &t->op->a, rows[row]) + c, count);
    }
    return state == NULL ? v_zero() : v_load_n(state + (t->taps - 1 + row) * t->op->a.width + c, count);
}

/* Up to 16 channels from c on of all rows of a sequence; weights: (taps, lanes). */
static void convolve(const convolution* t, int32_t sequence, const float* weights, int32_t c, int32_t count) {
    const int32_t* rows = t->sequences.rows + t->sequences.begin[sequence];
    int32_t length = t->sequences.begin[sequence + 1] - t->sequences.begin[sequence];
    const float* before = lm_state_before(t->step, t->op, sequence); // (taps - 1, width)
    float* after = lm_state_after(t->step, t->op, sequence);         // (taps - 1, width)
    for (int32_t i = 0; i < length; i++) {
        v sum = v_zero();
        for (int32_t j = 0; j < t->taps; j++) {
            v x = row_before(t, rows, before, (int64_t)i - t->taps + 1 + j, c, count);
            sum = v_fma(v_load(weights + j * LM_LANES), x, sum);
        }
        if (t->op->kind == LM_ACTIVATION_SILU) {
            sum = v_swish(sum, 1.0f);
        }
        v_store_n(lm_row(t->step, &t->op->out, rows[i]) + c, sum, count);
    }
    for (int32_t j = 0; length > 0 && j < t->taps - 1; j++) {
        v x = row_before(t, rows, before, (int64_t)length - t->taps + 1 + j, c, count);
        v_store_n(after + (int64_t)j * t->op->a.width + c, x, count);
    }
}

static void chunk(const void* work, int32_t index, int32_t thread) {
    (void)thread;
    const convolution* t = work;
    int32_t width = t->op->a.width;
    int64_t vectors = ((int64_t)width + LM_LANES - 1) / LM_LANES;
    for (int64_t i = lm_part(vectors, index, t->chunks); i < lm_part(vectors, index + 1, t->chunks); i++) {
        int32_t c = (int32_t)i * LM_LANES;
        int32_t count = width - c < LM_LANES ? width - c : LM_LANES;
        float weights[LM_TAPS_MOST * LM_LANES]; // (taps, lanes)
        memset(weights, 0, (size_t)t->taps * LM_LANES * sizeof(float));
        for (int32_t lane = 0; lane < count; lane++) {
            for (int32_t j = 0; j < t->taps; j++) {
                weights[j * LM_LANES + lane] = t->op->vector[(int64_t)(c + lane) * t->taps + j];
            }
        }
        for (int32_t s = 0; s < t->step->sequences; s++) {
            convolve(t, s, weights, c, count);
        }
    }
}

int64_t LM_KERNEL(lm_convolution_scratch)(const lm_step* step, const lm_op* op, int32_t threads) {
    (void)threads;
    return lm_sequences_floats(step, op);
}

void LM_KERNEL(lm_convolution)(const lm_run* run, const lm_op* op) {
    const lm_step* step = run->step;
    convolution t = {step, op, lm_sort_rows(step, op, run->scratch), 0, 1};
    t.taps = step->kv[0]->layers[op->layer].shape.head_dim + 1;
    int64_t vectors = ((int64_t)op->a.width + LM_LANES - 1) / LM_LANES;
    int64_t rows = lm_row_count(step, op->row_set);
    t.chunks = lm_chunks(vectors, (rows + 4) * t.taps * LM_LANES, run->threads); /* 4: for turning the weights round */
    lm_pool_run(run->pool, chunk, &t, t.chunks);
}
