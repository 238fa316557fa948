/*
 * attention.c: out = softmax(scale * q k^T) v over the positions that a row sees; scores can be capped (Gemma 2), take
 * a bias of distance (ALiBi, Press et al. 2022), or share the softmax with a sink (GPT-OSS).
 *
 * Positions are taken in absolute blocks of 64 with a running maximum (online softmax, Milakov & Gimelshein 2018), and
 * the blocks in absolute segments of 1024, each begun afresh; segments are then joined in their order. So the bits of a
 * row depend on its position and window alone: not on how the prompt was cut into sweeps, nor on whether one thread
 * took all segments or each another. Keys and values are read once for all query heads that share them.
 *
 * A block whose positions do not lie one behind the other is gathered first, so that a row's branch, and a layer that
 * keeps few places, have the bits of a plain sequence.
 */
#include "kernels.h"

#include "dot.h"
#include "vmath.h"

/* Floats of the states of segments, of all rows that are spread over threads by them. */
#define MOST_SPREAD (INT64_C(4) << 20)

enum {
    BLOCK = 64,
    SEGMENT = 1024,
    AHEAD = 8192,     /* bytes of keys and of values to prefetch, into the next block too */
    RUN_ROWS = 8,     /* rows of one sequence that go through the blocks together, while these are in cache ... */
    RUN_STATES = 128, /* ... with about so many query heads */
    PART_HEADS = 8,   /* the fewest heads for which keys are read once more, so that all threads have work */
};

typedef struct attention {
    const lm_run* run;
    const lm_op* op;
    int32_t rows;
    int32_t parts;    /* of the query heads of one KV head: each of them treated like a KV head's */
    int32_t kv_heads; /* times parts */
    int32_t group;    /* query heads of a KV head, or of a part of them */
    int32_t head_dim;
    int32_t head_dim_v;
    int32_t value_stride; /* elements from one value of a KV head to the next */
    int32_t slot;         /* floats of one state */
    int64_t gathered;     /* floats that a thread gathers a block in; 0: places are the numbers of positions */
    int32_t run_rows;
    int32_t row_runs; /* ceil(rows / run_rows) */
    int32_t segments; /* of the longest row if they are spread over threads, else 0 */
    int64_t jobs;
    int32_t chunks;
} attention;

/* The softmax of one query over some positions: values (slot - 16) weighted by exp(score - max), max, sum of weights.
 */
static float* state_max(const attention* t, float* state) {
    return state + t->slot - LM_LANES;
}

static float* state_sum(const attention* t, float* state) {
    return state + t->slot - LM_LANES + 1;
}

static float exp_one(float x) {
    float lanes[LM_LANES];
    v_store(lanes, v_exp(v_set(x)));
    return lanes[0];
}

/* Positions that row r sees: *first to *last, not included. */
static void visible(const attention* t, int32_t r, int64_t* first, int64_t* last) {
    int32_t position = t->run->step->positions[lm_step_row(t->run->step, t->op->row_set, r)];
    *first = lm_first_visible(t->op, position);
    *last = (int64_t)position + 1;
}

/* Positions of row r below this one lie at the places of their own numbers. */
static int64_t branch_begin(const attention* t, int32_t r) {
    const lm_step* step = t->run->step;
    int64_t end = (int64_t)step->positions[lm_step_row(step, t->op->row_set, r)] + 1;
    return end > step->branch_width ? end - step->branch_width : 0;
}

/* The place of a position of row r that is not below branch_begin. */
static int64_t branch_place(const attention* t, int32_t r, int64_t position) {
    const lm_step* step = t->run->step;
    int64_t row = lm_step_row(step, t->op->row_set, r);
    return step->branch[row * step->branch_width + step->positions[row] - position];
}

static const lm_kv* cache(const attention* t, int32_t r) {
    const lm_step* step = t->run->step;
    return step->kv[step->sequence[lm_step_row(step, t->op->row_set, r)]];
}

/* -- one block --------------------------------------------------------------------------------------------------- */

/* The keys or values of one head in a block, and the positions first .. last - 1 of it that the row sees. */
typedef struct block {
    const uint8_t* keys;   // (BLOCK, head_dim) in dtype
    const uint8_t* values; // (BLOCK, head_dim_v) in dtype, value_stride apart
    int32_t first;
    int32_t last;
    int64_t distance; /* of the block's first position from the row's own; not above 0 */
} block;

/* scores[h * BLOCK + p] = scale * q[h] * key[p] */
LM_INLINE void score_tile(const attention* t, float* scores, const float* q, const block* b, int32_t p, int nh, int np,
                          int32_t dtype) {
    v sums[LM_TILE_MOST * LM_TILE_MOST];
    LM_UNROLL
    for (int i = 0; i < nh * np; i++) {
        sums[i] = v_zero();
    }
    int64_t stride = t->head_dim * lm_dtype_bytes(dtype);
    dot_tile(sums, nh, np, q, t->head_dim, b->keys + p * stride, stride, t->head_dim, dtype, AHEAD);
    if (np == 1 && nh == 4) {
        float of_head[4];
        v_sum_4(of_head, sums[0], sums[1], sums[2], sums[3]);
        for (int h = 0; h < nh; h++) {
            scores[h * BLOCK + p] = of_head[h] * t->op->scale;
        }
        return;
    }
    LM_UNROLL
    for (int h = 0; h < nh; h++) {
        float* out = scores + h * BLOCK + p; // (np)
        LM_UNROLL
        for (int j = 0; j + 4 <= np; j += 4) {
            v_sum_4(out + j, sums[h * np + j], sums[h * np + j + 1], sums[h * np + j + 2], sums[h * np + j + 3]);
        }
        LM_UNROLL
        for (int j = np / 4 * 4; j < np; j++) {
            out[j] = v_sum(sums[h * np + j]);
        }
        LM_UNROLL
        for (int j = 0; j < np; j++) {
            out[j] *= t->op->scale;
        }
    }
}

/* Caps the scores of one query head at the positions that the row sees, or adds what their distances weigh. */
static void bend(const attention* t, float* scores, const block* b, int32_t head) {
    static const float lanes[LM_LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    int alibi = t->op->kind == LM_ATTENTION_ALIBI;
    v cap = v_set(t->op->softcap);
    v slope = v_set(alibi ? t->op->vector[head] : 0.0f);
    float bent[BLOCK];
    for (int32_t i = 0; i < BLOCK; i += LM_LANES) {
        v x = v_load(scores + i);
        if (t->op->softcap > 0) {
            x = v_mul(cap, v_tanh(v_div(x, cap)));
        }
        if (alibi) {
            x = v_fma(slope, v_add(v_load(lanes), v_set((float)(b->distance + i))), x);
        }
        v_store(bent + i, x);
    }
    memcpy(scores + b->first, bent + b->first, (size_t)(b->last - b->first) * sizeof(float));
}

/* Makes weights of the scores of one head and updates max and sum; returns the factor that the values so far take. */
static float weigh(const attention* t, float* state, float* scores) {
    v s[BLOCK / LM_LANES];
    v top = v_set(-INFINITY);
    for (int i = 0; i < BLOCK / LM_LANES; i++) {
        s[i] = v_load(scores + i * LM_LANES);
        top = v_max(top, s[i]);
    }
    float before = *state_max(t, state);
    float max = v_reduce_max(top);
    max = max > before ? max : before;
    v sum = v_zero();
    for (int i = 0; i < BLOCK / LM_LANES; i++) {
        s[i] = v_exp(v_sub(s[i], v_set(max))); /* 0 where a score is -infinity: positions that the row does not see */
        v_store(scores + i * LM_LANES, s[i]);
        sum = v_add(sum, s[i]);
    }
    float factor = exp_one(before - max);
    *state_max(t, state) = max;
    *state_sum(t, state) = fmaf(*state_sum(t, state), factor, v_sum(sum));
    return factor;
}

/* values of each state = values * factor + sum over p of weight[p] * value[p], for nv vectors of lanes from d on. */
LM_INLINE void value_tile(const attention* t, float* states, const float* factors, const float* weights, const block* b,
                          int32_t d, int nh, int nv, int32_t dtype) {
    v sums[LM_TILE_MOST * LM_TILE_MOST];
    LM_UNROLL
    for (int h = 0; h < nh; h++) {
        LM_UNROLL
        for (int j = 0; j < nv; j++) {
            sums[h * nv + j] = v_mul(v_load(states + (int64_t)h * t->slot + d + j * LM_LANES), v_set(factors[h]));
        }
    }
    int64_t element = lm_dtype_bytes(dtype);
    int32_t left = t->head_dim_v - d; /* below nv * LM_LANES only where nv is 1 */
    for (int32_t p = b->first; p < b->last; p++) {
        const uint8_t* value = b->values + ((int64_t)p * t->value_stride + d) * element;
        if (d == 0) { /* the first of the walks over a block fetches for all of them */
            for (int64_t i = 0; i < t->head_dim_v * element; i += LM_LINE) {
                LM_PREFETCH((uintptr_t)value + (uintptr_t)(AHEAD + i));
            }
        }
        v x[LM_TILE_MOST];
        LM_UNROLL
        for (int j = 0; j < nv; j++) {
            x[j] = v_load_dtype(value + j * LM_LANES * element, nv > 1 ? LM_LANES : left, dtype);
        }
        LM_UNROLL
        for (int h = 0; h < nh; h++) {
            v weight = v_set(weights[h * BLOCK + p]);
            LM_UNROLL
            for (int j = 0; j < nv; j++) {
                sums[h * nv + j] = v_fma(weight, x[j], sums[h * nv + j]);
            }
        }
    }
    LM_UNROLL
    for (int h = 0; h < nh; h++) {
        LM_UNROLL
        for (int j = 0; j < nv; j++) {
            v_store(states + (int64_t)h * t->slot + d + j * LM_LANES, sums[h * nv + j]);
        }
    }
}

/* nh query heads of one row, the first of which is number `head`, meet a block. */
LM_INLINE void heads_block(const attention* t, float* states, const float* q, const block* b, int32_t head, int nh,
                           int32_t dtype) {
    float scores[4 * BLOCK];
    float factors[4];
    for (int32_t i = 0; i < nh * BLOCK; i++) {
        scores[i] = -INFINITY;
    }
    const int tile = nh == 1 ? LM_TILE_SUMS / 2 : LM_TILE_SUMS / 4 * (nh == 2 ? 2 : 1);
    int32_t p = b->first;
    for (; p + tile <= b->last; p += tile) {
        score_tile(t, scores, q, b, p, nh, tile, dtype);
    }
    for (; p < b->last; p++) {
        score_tile(t, scores, q, b, p, nh, 1, dtype);
    }
    for (int h = 0; h < nh; h++) {
        if (t->op->softcap > 0 || t->op->kind == LM_ATTENTION_ALIBI) {
            bend(t, scores + h * BLOCK, b, head + h);
        }
        factors[h] = weigh(t, states + (int64_t)h * t->slot, scores + h * BLOCK);
    }
    int32_t d = 0;
    for (; d + tile * LM_LANES <= t->head_dim_v; d += tile * LM_LANES) {
        value_tile(t, states, factors, scores, b, d, nh, tile, dtype);
    }
    for (; d < t->head_dim_v; d += LM_LANES) {
        value_tile(t, states, factors, scores, b, d, nh, 1, dtype);
    }
}

/* All query heads of one row that share a KV head. */
LM_INLINE void group_block(const attention* t, float* states, const float* q, const block* b, int32_t kv_head,
                           int32_t dtype) {
    int32_t head = kv_head * t->group;
    int32_t h = 0;
    for (; h + 4 <= t->group; h += 4) {
        heads_block(t, states + (int64_t)h * t->slot, q + (int64_t)h * t->head_dim, b, head + h, 4, dtype);
    }
    states += (int64_t)h * t->slot;
    q += (int64_t)h * t->head_dim;
    switch (t->group - h) {
    case 3:
        heads_block(t, states, q, b, head + h, 3, dtype);
        break;
    case 2:
        heads_block(t, states, q, b, head + h, 2, dtype);
        break;
    case 1:
        heads_block(t, states, q, b, head + h, 1, dtype);
        break;
    default: /* none are left */
        break;
    }
}

/* -- one segment ------------------------------------------------------------------------------------------------- */

/* The place, of so many, at which a position of row r lies. */
static int64_t place_of(const attention* t, int32_t r, int64_t position, int32_t places) {
    return (position < branch_begin(t, r) ? position : branch_place(t, r, position)) % places;
}

/*
 * The place at which the block at start would begin if what row r sees of it lies at places one behind the other, as
 * its positions do; below 0 if not.
 */
static int64_t block_place(const attention* t, int32_t r, const block* b, int64_t start, int32_t places) {
    int64_t begin = branch_begin(t, r);
    int64_t first = start + b->first;
    int64_t last = start + b->last; /* of the positions at the places of their numbers */
    last = last < begin ? last : begin;
    int64_t base = place_of(t, r, first, places) - b->first;
    if (first < last && base + last - start > places) {
        return -1;
    }
    for (int64_t position = first > begin ? first : begin; position < start + b->last; position++) {
        if (place_of(t, r, position, places) != base + position - start) {
            return -1;
        }
    }
    return base;
}

/*
 * Copies what row r sees of the block at start to a thread's memory for gathered blocks, and has the block point there.
 * It points to the head's first place in the cache, of so many.
 */
static void gather(const attention* t, float* memory, block* b, int32_t r, int64_t start, int32_t places,
                   int64_t element) {
    int64_t key_bytes = t->head_dim * element;
    int64_t value_bytes = t->value_stride * element;
    int latent = b->keys == b->values;
    uint8_t* keys = (uint8_t*)memory;                           // (BLOCK, head_dim)
    uint8_t* values = latent ? keys : keys + BLOCK * key_bytes; // (BLOCK, head_dim_v)
    for (int32_t p = b->first; p < b->last; p++) {
        int64_t place = place_of(t, r, start + p, places);
        memcpy(keys + p * key_bytes, b->keys + place * key_bytes, (size_t)key_bytes);
        if (!latent) {
            memcpy(values + p * value_bytes, b->values + place * value_bytes, (size_t)value_bytes);
        }
    }
    b->keys = keys;
    b->values = values;
}

/*
 * states (rows, group) of rows r .. last - 1, all of one sequence, over one segment, begun afresh. gathered: the
 * thread's memory for gathered blocks.
 */
static void attend(const attention* t, float* states, float* gathered, int32_t r, int32_t last, int32_t kv_head,
                   int64_t segment) {
    for (int64_t i = 0; i < (int64_t)(last - r) * t->group; i++) {
        memset(states + i * t->slot, 0, (size_t)t->slot * sizeof(float));
        *state_max(t, states + i * t->slot) = -INFINITY;
    }
    const lm_kv* kv = cache(t, r);
    const lm_kv_slot* layer = &kv->layers[t->op->layer];
    int64_t element = lm_dtype_bytes(kv->dtype);
    int64_t first_place = (int64_t)(kv_head / t->parts) * layer->places;
    const uint8_t* keys =
        (const uint8_t*)layer->memory + layer->keys + first_place * t->head_dim * element; // (places, head_dim)
    const uint8_t* values = (const uint8_t*)layer->memory + layer->values
                            + first_place * t->value_stride * element; // (places, head_dim_v), value_stride apart
    for (int64_t start = segment * SEGMENT; start < (segment + 1) * SEGMENT; start += BLOCK) {
        for (int32_t i = r; i < last; i++) {
            int64_t from;
            int64_t to;
            visible(t, i, &from, &to);
            from = from > start ? from - start : 0;
            to = to - start < BLOCK ? to - start : BLOCK;
            if (from >= to) {
                continue;
            }
            int64_t own = t->run->step->positions[lm_step_row(t->run->step, t->op->row_set, i)];
            block b = {keys, values, (int32_t)from, (int32_t)to, start - own};
            int64_t place = t->gathered > 0 ? block_place(t, i, &b, start, layer->places) : start;
            if (place < 0) {
                gather(t, gathered, &b, i, start, layer->places, element);
            } else {
                b.keys += place * t->head_dim * element;
                b.values += place * t->value_stride * element;
            }
            float* row_states = states + (int64_t)(i - r) * t->group * t->slot;
            const float* q = lm_row(t->run->step, &t->op->a, i) + (int64_t)kv_head * t->group * t->head_dim;
            if (kv->dtype == LM_DTYPE_F32) {
                group_block(t, row_states, q, &b, kv_head, LM_DTYPE_F32);
            } else {
                group_block(t, row_states, q, &b, kv_head, LM_DTYPE_F16);
            }
        }
    }
}

/* Joins the state of a later segment to the total of those before it. */
static void join(const attention* t, float* total, float* part) {
    float max = *state_max(t, total) > *state_max(t, part) ? *state_max(t, total) : *state_max(t, part);
    float old = exp_one(*state_max(t, total) - max);
    float new = exp_one(*state_max(t, part) - max);
    for (int32_t d = 0; d < t->slot - LM_LANES; d += LM_LANES) {
        v_store(total + d, v_fma(v_load(part + d), v_set(new), v_mul(v_load(total + d), v_set(old))));
    }
    *state_sum(t, total) = fmaf(*state_sum(t, part), new, *state_sum(t, total) * old);
    *state_max(t, total) = max;
}

static void finish(const attention* t, float* state, int32_t r, int32_t head) {
    float* out = lm_row(t->run->step, &t->op->out, r) + (int64_t)head * t->head_dim_v; // (head_dim_v)
    float factor = 1.0f;
    if (t->op->kind == LM_ATTENTION_SINKS) { /* like a segment of one position whose value is 0 */
        float sink = t->op->vector[head];
        float max = sink > *state_max(t, state) ? sink : *state_max(t, state);
        factor = exp_one(*state_max(t, state) - max);
        *state_sum(t, state) = fmaf(*state_sum(t, state), factor, exp_one(sink - max));
    }
    v sum = v_set(*state_sum(t, state));
    for (int32_t d = 0; d < t->head_dim_v; d += LM_LANES) {
        v_store_n(out + d, v_div(v_mul(v_load(state + d), v_set(factor)), sum), t->head_dim_v - d);
    }
}

/* -- all segments ------------------------------------------------------------------------------------------------ */

/* Rows r .. last - 1 of one sequence, all segments on this thread. scratch: as thread_scratch says. */
static void run_sequence(const attention* t, float* scratch, int32_t r, int32_t last, int32_t kv_head) {
    int64_t states = (int64_t)(last - r) * t->group;
    float* gathered = scratch;
    float* part = gathered + t->gathered;   // (rows, group, slot)
    float* total = part + states * t->slot; // (rows, group, slot)
    int64_t begin = INT64_MAX;
    int64_t end = 0;
    for (int32_t i = r; i < last; i++) {
        int64_t from;
        int64_t to;
        visible(t, i, &from, &to);
        begin = from < begin ? from : begin;
        end = to > end ? to : end;
    }
    for (int64_t segment = begin / SEGMENT; segment * SEGMENT < end; segment++) {
        attend(t, part, gathered, r, last, kv_head, segment);
        for (int32_t i = r; i < last; i++) {
            int64_t from;
            int64_t to;
            visible(t, i, &from, &to);
            if (to <= segment * SEGMENT || from >= (segment + 1) * SEGMENT) {
                continue;
            }
            for (int64_t h = (int64_t)(i - r) * t->group; h < (int64_t)(i - r + 1) * t->group; h++) {
                if (segment == from / SEGMENT) {
                    memcpy(total + h * t->slot, part + h * t->slot, (size_t)t->slot * sizeof(float));
                } else {
                    join(t, total + h * t->slot, part + h * t->slot);
                }
            }
        }
    }
    for (int64_t h = 0; h < states; h++) {
        finish(t, total + h * t->slot, (int32_t)(r + h / t->group), (int32_t)(kv_head * t->group + h % t->group));
    }
}

/* A gathered block, and twice the states of a run where a thread takes all segments. */
static int64_t thread_scratch(const attention* t) {
    return t->gathered + (t->segments > 0 ? 0 : 2 * (int64_t)t->run_rows * t->group * t->slot);
}

/* A job is a run of rows and a KV head. */
static void rows_chunk(const void* work, int32_t index, int32_t thread) {
    const attention* t = work;
    float* scratch = t->run->scratch + thread * thread_scratch(t);
    for (int64_t job = lm_part(t->jobs, index, t->chunks); job < lm_part(t->jobs, index + 1, t->chunks); job++) {
        int32_t kv_head = (int32_t)(job / t->row_runs);
        int32_t r = (int32_t)(job % t->row_runs) * t->run_rows;
        int32_t end = t->rows - r < t->run_rows ? t->rows : r + t->run_rows;
        while (r < end) {
            int32_t last = r + 1;
            while (last < end && cache(t, last) == cache(t, r)) {
                last++;
            }
            run_sequence(t, scratch, r, last, kv_head);
            r = last;
        }
    }
}

/* The state of a query head over one segment, where segments are spread over threads. */
static float* spread_state(const attention* t, int64_t r, int64_t kv_head, int64_t segment) {
    return t->run->scratch
           + ((r * t->kv_heads + kv_head) * t->segments + segment) * t->group * t->slot; // (group, slot)
}

/* A job is a row, a KV head and a segment. */
static void segments_chunk(const void* work, int32_t index, int32_t thread) {
    const attention* t = work;
    float* gathered = t->run->scratch + t->jobs * t->group * t->slot + thread * thread_scratch(t);
    for (int64_t job = lm_part(t->jobs, index, t->chunks); job < lm_part(t->jobs, index + 1, t->chunks); job++) {
        int64_t segment = job % t->segments;
        int32_t kv_head = (int32_t)(job / t->segments % t->kv_heads);
        int32_t r = (int32_t)(job / t->segments / t->kv_heads);
        int64_t from;
        int64_t to;
        visible(t, r, &from, &to);
        if (to > segment * SEGMENT && from < (segment + 1) * SEGMENT) {
            attend(t, spread_state(t, r, kv_head, segment), gathered, r, r + 1, kv_head, segment);
        }
    }
}

static void join_segments(const attention* t) {
    for (int32_t r = 0; r < t->rows; r++) {
        int64_t from;
        int64_t to;
        visible(t, r, &from, &to);
        for (int32_t h = 0; h < t->op->heads; h++) {
            float* total = spread_state(t, r, h / t->group, from / SEGMENT) + (int64_t)(h % t->group) * t->slot;
            for (int64_t segment = from / SEGMENT + 1; segment * SEGMENT < to; segment++) {
                join(t, total, spread_state(t, r, h / t->group, segment) + (int64_t)(h % t->group) * t->slot);
            }
            finish(t, total, r, h);
        }
    }
}

static attention plan(const lm_step* step, const lm_op* op, int32_t threads) {
    const lm_kv_layer* shape = &step->kv[0]->layers[op->layer].shape;
    int latent = shape->kind == LM_KV_LATENT;
    int places_differ = step->branch_width > 0 || shape->places > 0; /* from the numbers of positions */
    attention t = {
        .op = op,
        .rows = lm_row_count(step, op->row_set),
        .parts = 1,
        .head_dim = shape->head_dim,
        .head_dim_v = shape->head_dim_v,
        .value_stride = latent ? shape->head_dim : shape->head_dim_v,
        .slot = (shape->head_dim_v + LM_LANES - 1) / LM_LANES * LM_LANES + LM_LANES,
        .gathered = places_differ ? (int64_t)BLOCK * (shape->head_dim + (latent ? 0 : shape->head_dim_v)) : 0,
    };
    t.group = op->heads / shape->kv_heads;
    while (t.group % 2 == 0 && t.group / 2 >= PART_HEADS && (int64_t)t.rows * shape->kv_heads * t.parts < threads) {
        t.group /= 2;
        t.parts *= 2;
    }
    t.kv_heads = shape->kv_heads * t.parts;
    lm_run run = {.step = step};
    t.run = &run;
    int64_t positions = 0;
    int64_t longest = 0;
    for (int32_t r = 0; r < t.rows; r++) {
        int64_t from;
        int64_t to;
        visible(&t, r, &from, &to);
        positions += to - from;
        longest = to > longest ? to : longest;
    }
    int64_t pairs = (int64_t)t.rows * t.kv_heads;
    int64_t segments = (longest + SEGMENT - 1) / SEGMENT;
    if (segments > 1 && pairs < (int64_t)threads * 4 && pairs * segments <= MOST_SPREAD / ((int64_t)t.group * t.slot)) {
        t.segments = (int32_t)segments;
        t.jobs = pairs * segments;
    } else {
        int64_t fair = pairs / ((int64_t)threads * 4);
        int64_t most = RUN_STATES / t.group < RUN_ROWS ? RUN_STATES / t.group : RUN_ROWS;
        fair = fair < most ? fair : most;
        t.run_rows = fair < 1 ? 1 : (int32_t)fair;
        t.row_runs = (int32_t)(((int64_t)t.rows + t.run_rows - 1) / t.run_rows);
        t.jobs = (int64_t)t.row_runs * t.kv_heads;
    }
    int64_t floats = positions * op->heads * (t.head_dim + t.head_dim_v);
    t.chunks = t.jobs == 0 ? 0 : lm_chunks(t.jobs, floats / t.jobs, threads);
    t.run = NULL;
    return t;
}

int64_t LM_KERNEL(lm_attention_scratch)(const lm_step* step, const lm_op* op, int32_t threads) {
    attention t = plan(step, op, threads);
    return (t.segments > 0 ? t.jobs * t.group * t.slot : 0) + threads * thread_scratch(&t);
}

void LM_KERNEL(lm_attention)(const lm_run* run, const lm_op* op) {
    attention t = plan(run->step, op, run->threads);
    t.run = run;
    if (t.segments > 0) {
        lm_pool_run(run->pool, segments_chunk, &t, t.chunks);
        join_segments(&t);
    } else {
        lm_pool_run(run->pool, rows_chunk, &t, t.chunks);
    }
}
