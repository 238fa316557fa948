/*
 * delta_rule.c: the gated delta rule. For each row of a sequence and each value head, with its state S (K, V):
 *
 *     S *= exp(d * log(1 + exp(a + t))); S += k (v - S^T k)^T / (1 + exp(-b)); out = S^T q
 *
 * Columns of S do not meet: a strip of them goes through all rows of a sequence while it is in the first-level cache.
 * Sums over K are chains of fused multiply-adds in order of k.
 */
#include "sequences.h"

#include "vmath.h"

enum {
    STRIP_VECTORS = 4,                  /* as many chains at a time as the latency of a multiply-add asks for */
    STRIP = STRIP_VECTORS * LM_LANES,   /* columns */
};

typedef struct delta_rule {
    const lm_step* step;
    const lm_op* op;
    lm_sequences sequences;
    lm_kv_layer shape; /* kv_heads: H, head_dim: K, head_dim_v: V */
    float* vectors;    // (threads, 2, K): query and key of a row
    int32_t strips;    /* of a head */
    int32_t chunks;
} delta_rule;

/* out = x / sqrt(sum of squares + epsilon) * scale, of K floats. */
static void normalise(float* out, const float* x, int32_t count, float epsilon, float scale) {
    v squares = v_zero();
    for (int32_t i = 0; i < count; i += LM_LANES) {
        v y = v_load_n(x + i, count - i);
        squares = v_fma(y, y, squares);
    }
    v norm = v_set(sqrtf(v_sum(squares) + epsilon));
    for (int32_t i = 0; i < count; i += LM_LANES) {
        v_store_n(out + i, v_mul(v_div(v_load_n(x + i, count - i), norm), v_set(scale)), count - i);
    }
}

/*
 * One row with nc vectors of columns, of which the last has `left` of 16 columns where `left` is below 16: from and to
 * are the strip of S before and after the row, stride floats a row; they may be the same.
 */
LM_INLINE void step_row(const delta_rule* t, int nc, int32_t left, float* out, const float* q, const float* k,
                        const float* x, const float* from, float* to, v decay, v divisor) {
    int64_t stride = t->shape.head_dim_v;
    v predicted[STRIP_VECTORS]; /* S^T k */
    v change[STRIP_VECTORS];
    v sums[STRIP_VECTORS]; /* S^T q */
    LM_UNROLL
    for (int c = 0; c < nc; c++) {
        predicted[c] = sums[c] = v_zero();
    }
    for (int32_t i = 0; i < t->shape.head_dim; i++) {
        v key = v_set(k[i]);
        LM_UNROLL
        for (int c = 0; c < nc; c++) {
            v s = v_mul(v_load_n(from + i * stride + c * LM_LANES, left), decay);
            predicted[c] = v_fma(s, key, predicted[c]);
        }
    }
    LM_UNROLL
    for (int c = 0; c < nc; c++) {
        change[c] = v_div(v_sub(v_load_n(x + c * LM_LANES, left), predicted[c]), divisor);
    }
    for (int32_t i = 0; i < t->shape.head_dim; i++) {
        v key = v_set(k[i]);
        v query = v_set(q[i]);
        LM_UNROLL
        for (int c = 0; c < nc; c++) {
            v s = v_mul(v_load_n(from + i * stride + c * LM_LANES, left), decay);
            s = v_fma(key, change[c], s);
            v_store_n(to + i * stride + c * LM_LANES, s, left);
            sums[c] = v_fma(s, query, sums[c]);
        }
    }
    LM_UNROLL
    for (int c = 0; c < nc; c++) {
        v_store_n(out + c * LM_LANES, sums[c], left);
    }
}

/* Columns c to end - 1 of value head h for all rows of a sequence. */
static void strip(const delta_rule* t, int32_t sequence, int32_t h, int32_t c, int32_t end, float* room) {
    const lm_op* op = t->op;
    int32_t dim = t->shape.head_dim;
    int32_t heads = t->shape.kv_heads;
    int64_t at = (int64_t)h * dim * t->shape.head_dim_v; /* of S in the state */
    int64_t key_head = h / (heads / op->heads);
    const float* before = lm_state_before(t->step, op, sequence);
    float* after = lm_state_after(t->step, op, sequence) + at;
    const float* from = before == NULL ? after : before + at;
    const int32_t* rows = t->sequences.rows + t->sequences.begin[sequence];
    int32_t length = t->sequences.begin[sequence + 1] - t->sequences.begin[sequence];
    for (int32_t i = 0; before == NULL && length > 0 && i < dim; i++) {
        memset(after + (int64_t)i * t->shape.head_dim_v + c, 0, (size_t)(end - c) * sizeof(float));
    }
    float* query = room;     // (dim)
    float* key = room + dim; // (dim)
    for (int32_t i = 0; i < length; i++) {
        const float* a = lm_row(t->step, &op->a, rows[i]);
        const float* gates = lm_row(t->step, &op->b, rows[i]); // (2, heads)
        float* out = lm_row(t->step, &op->out, rows[i]) + (int64_t)h * t->shape.head_dim_v;
        const float* x = a + 2 * (int64_t)op->heads * dim + (int64_t)h * t->shape.head_dim_v;
        normalise(query, a + key_head * dim, dim, op->epsilon, op->scale);
        normalise(key, a + (op->heads + key_head) * dim, dim, op->epsilon, 1.0f);
        v time = v_softplus(v_set(gates[heads + h] + op->vector[heads + h]));
        v decay = v_exp(v_mul(v_set(op->vector[h]), time));
        v divisor = v_add(v_set(1.0f), v_exp(v_set(-gates[h])));
        int32_t n = c;
        if (end - n == STRIP) {
            step_row(t, STRIP_VECTORS, LM_LANES, out + n, query, key, x + n, from + n, after + n, decay, divisor);
            n = end;
        }
        for (; n + LM_LANES <= end; n += LM_LANES) {
            step_row(t, 1, LM_LANES, out + n, query, key, x + n, from + n, after + n, decay, divisor);
        }
        if (n < end) {
            step_row(t, 1, end - n, out + n, query, key, x + n, from + n, after + n, decay, divisor);
        }
        from = after;
    }
}

static void chunk(const void* work, int32_t index, int32_t thread) {
    const delta_rule* t = work;
    float* room = t->vectors + (int64_t)thread * 2 * t->shape.head_dim;
    int64_t of_sequence = (int64_t)t->shape.kv_heads * t->strips;
    int64_t items = t->step->sequences * of_sequence;
    for (int64_t i = lm_part(items, index, t->chunks); i < lm_part(items, index + 1, t->chunks); i++) {
        int32_t h = (int32_t)(i % of_sequence / t->strips);
        int32_t c = (int32_t)(i % t->strips) * STRIP;
        int32_t end = t->shape.head_dim_v - c < STRIP ? t->shape.head_dim_v : c + STRIP;
        strip(t, (int32_t)(i / of_sequence), h, c, end, room);
    }
}

int64_t LM_KERNEL(lm_delta_rule_scratch)(const lm_step* step, const lm_op* op, int32_t threads) {
    return lm_sequences_floats(step, op) + (int64_t)threads * 2 * step->kv[0]->layers[op->layer].shape.head_dim;
}

void LM_KERNEL(lm_delta_rule)(const lm_run* run, const lm_op* op) {
    const lm_step* step = run->step;
    lm_kv_layer shape = step->kv[0]->layers[op->layer].shape;
    delta_rule t = {
        .step = step,
        .op = op,
        .sequences = lm_sort_rows(step, op, run->scratch),
        .shape = shape,
        .vectors = run->scratch + lm_sequences_floats(step, op),
        .strips = (shape.head_dim_v + STRIP - 1) / STRIP,
    };
    int64_t items = (int64_t)step->sequences * shape.kv_heads * t.strips;
    int64_t rows = lm_row_count(step, op->row_set);
    int64_t floats = (rows + step->sequences - 1) / step->sequences * shape.head_dim * STRIP * 4; /* of an item */
    t.chunks = lm_chunks(items, floats, run->threads);
    lm_pool_run(run->pool, chunk, &t, t.chunks);
}
