/* ops.h: what the tests of ops on different backends share: devices with memory of their own, attention, branches. */
#ifndef LAMINA_TEST_OPS_H
#define LAMINA_TEST_OPS_H

#include "test.h"

#include <math.h>

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

static inline float* random_floats(int64_t count, float scale, uint64_t* seed) {
    float* x = malloc((size_t)count * 4);
    for (int64_t i = 0; i < count; i++) {
        x[i] = scale * random_float(seed);
    }
    return x;
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
    int32_t kind;       /* LM_ATTENTION_* */
    float softcap;
    int32_t chunk;
    int32_t latent;      /* values are the first floats of keys */
    int32_t places;      /* of the layer; 0: all */
    const float* vector; // (heads) of its kind
} attention;

/* An attention with all that one can have, each of them or not; its sequences have up to `longest` tokens. */
static inline attention random_attention(int32_t longest, uint64_t* shapes) {
    attention t = {.kv_heads = random_int(shapes, 1, 4)};
    t.heads = t.kv_heads * random_int(shapes, 1, 4);
    t.head_dim = random_int(shapes, 1, 150);
    t.latent = random_int(shapes, 0, 2) == 0;
    t.head_dim_v = random_int(shapes, 1, t.latent ? t.head_dim : 150);
    t.window = random_int(shapes, 0, 1) * random_int(shapes, 1, longest);
    t.chunk = random_int(shapes, 0, 3) == 0 ? random_int(shapes, 1, longest) : 0;
    int32_t seen = t.window > 0 ? t.window : t.chunk;
    t.places = seen > 0 && random_int(shapes, 0, 1) ? seen + random_int(shapes, 0, 40) : 0;
    t.kind = random_int(shapes, LM_ATTENTION_PLAIN, LM_ATTENTION_SINKS);
    t.softcap = random_int(shapes, 0, 2) == 0 ? (float)random_int(shapes, 1, 40) / 8 : 0;
    t.dtype = random_int(shapes, LM_DTYPE_F32, LM_DTYPE_F16);
    t.sequences = random_int(shapes, 1, 3);
    for (int32_t s = 0; s < t.sequences; s++) {
        t.lengths[s] = random_int(shapes, 1, longest);
    }
    return t;
}

/* One sequence of several segments, in a shape that is small otherwise. */
static inline attention random_long_attention(uint64_t* shapes) {
    attention t = random_attention(1500, shapes);
    t.heads = 2;
    t.kv_heads = 1;
    t.head_dim = random_int(shapes, 1, 12);
    t.head_dim_v = random_int(shapes, 1, t.latent ? t.head_dim : 12);
    t.sequences = 1;
    t.lengths[0] = random_int(shapes, 1025, 1300);
    t.lengths[1] = t.lengths[2] = 0;
    return t;
}

/* Rows of a sequence that may be stored and attended to together. */
static inline int32_t most_rows(const attention* t) {
    return t->places == 0 ? INT32_MAX : t->places - (t->window > 0 ? t->window : t->chunk) + 1;
}

/* Slopes of heads, or scores of their sinks. */
static inline float* make_vector(const attention* t, uint64_t* seed) {
    float* vector = random_floats(t->heads, 1, seed);
    for (int32_t h = 0; h < t->heads; h++) {
        vector[h] = t->kind == LM_ATTENTION_ALIBI ? 0.01f + 0.5f * fabsf(vector[h]) : 5 * vector[h];
    }
    return vector;
}

static inline lm_kv_layer attention_layer(const attention* t, int32_t places) {
    return (lm_kv_layer){.kv_heads = t->kv_heads,
                         .head_dim = t->head_dim,
                         .head_dim_v = t->head_dim_v,
                         .kind = t->latent ? LM_KV_LATENT : LM_KV_HEADS,
                         .places = places};
}

/* vector: t->vector on the device. */
static inline lm_op attention_op(const attention* t, const float* vector) {
    return (lm_op){.code = LM_OP_ATTENTION,
                   .vector = vector,
                   .vector_length = t->heads,
                   .kind = t->kind,
                   .heads = t->heads,
                   .head_dim = t->head_dim,
                   .window = t->window,
                   .chunk = t->chunk,
                   .scale = 0.25f,
                   .softcap = t->softcap};
}

/*
 * The tokens of all sequences, of which a chunk of each at a time is stored and attended to; gives out of each. The
 * second of two layers is attended to; the last host_layers of them are in host memory.
 */
static inline void attend(const machine* m, const attention* t, int32_t chunk, int32_t host_layers, const float* q,
                          const float* k, const float* v, float* out) {
    const lm_kv_layer layers[2] = {{.kv_heads = 1, .head_dim = 3, .head_dim_v = 5}, attention_layer(t, t->places)};
    float* vector = on_device(m, t->vector, t->kind == LM_ATTENTION_PLAIN ? 0 : t->heads * INT64_C(4));
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
        lm_op ops[2] = {{.code = LM_OP_KV_STORE, .a = views[1], .layer = 1}, attention_op(t, vector)};
        if (!t->latent) {
            ops[0].b = views[2];
        }
        ops[1].out = views[3];
        ops[1].a = views[0];
        ops[1].layer = 1;
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
    MUST(lm_device_free(m->device, vector, t->heads * INT64_C(4)));
    for (int32_t s = 0; s < t->sequences; s++) {
        MUST(lm_kv_destroy(kv[s]));
    }
    free(image);
    free(positions);
    free(sequence);
}

/* -- branches ----------------------------------------------------------------------------------------------------- */

/* A token of a sequence's prefix, or of the tree of alternatives that follow it. */
typedef struct token {
    int32_t sequence;
    int32_t parent; /* index of the token before it; -1: it is a first one */
    int32_t position;
    int32_t place; /* that of its number for a token of a prefix */
    int32_t node;  /* of the tree */
    int32_t leaf;  /* nothing follows it */
} token;

typedef struct forest {
    attention shape; /* lengths: of the prefixes */
    int32_t capacities[3];
    int32_t count;
    token* tokens; // (count)
    float* q;      // (count, heads * head_dim)
    float* k;      // (count, kv_heads * head_dim)
    float* v;      // (count, kv_heads * head_dim_v)
} forest;

/*
 * A tree of so many nodes for each sequence, at places in any order, with `spare` places that nobody has. A node
 * follows the one before it with `chain` of 100 chances, and else any other, or one of the last tokens of the prefix.
 */
static inline forest make_forest(attention shape, const int32_t* nodes, int32_t chain, int32_t spare, uint64_t* seed) {
    forest f = {.shape = shape};
    for (int32_t s = 0; s < shape.sequences; s++) {
        f.capacities[s] = shape.lengths[s] + nodes[s] + spare;
        f.count += shape.lengths[s] + nodes[s];
    }
    f.tokens = calloc((size_t)f.count, sizeof *f.tokens);
    int32_t i = 0;
    for (int32_t s = 0; s < shape.sequences; s++) {
        int32_t first = i;
        int32_t prefix = shape.lengths[s];
        int32_t* places = malloc((size_t)(nodes[s] + spare + 1) * 4); /* not yet taken */
        for (int32_t p = 0; p < nodes[s] + spare; p++) {
            places[p] = prefix + p;
        }
        for (int32_t p = 0; p < prefix + nodes[s]; p++, i++) {
            token* x = &f.tokens[i];
            *x = (token){s, p > 0 ? i - 1 : -1, p, p, p >= prefix, 1};
            if (x->node) {
                if (p > prefix && random_int(seed, 0, 99) >= chain) {
                    x->parent = random_int(seed, first + (prefix > 3 ? prefix - 3 : 0) - 1, i - 1);
                    x->parent = x->parent < first ? -1 : x->parent;
                }
                int32_t left = prefix + nodes[s] + spare - p;
                int32_t taken = random_int(seed, 0, left - 1);
                x->position = x->parent < 0 ? 0 : f.tokens[x->parent].position + 1;
                x->place = places[taken];
                places[taken] = places[left - 1];
            }
            if (x->parent >= 0) {
                f.tokens[x->parent].leaf = 0;
            }
        }
        free(places);
    }
    f.q = random_floats((int64_t)f.count * shape.heads * shape.head_dim, 4, seed);
    f.k = random_floats((int64_t)f.count * shape.kv_heads * shape.head_dim, 1, seed);
    f.v = random_floats((int64_t)f.count * shape.kv_heads * shape.head_dim_v, 1, seed);
    return f;
}

static inline void free_forest(forest f) {
    free(f.tokens);
    free(f.q);
    free(f.k);
    free(f.v);
}

static inline lm_kv* make_forest_kv(const machine* m, const forest* f, int32_t capacity, int32_t places) {
    lm_kv* kv;
    const lm_kv_layer layer = attention_layer(&f->shape, places);
    MUST(lm_kv_create(m->device, &layer, 1, capacity, f->shape.dtype, 0, &kv));
    return kv;
}

/*
 * Stores rows of the row set, of which row i is a token tokens[i]; then attends to them unless out is null, which gets
 * (rows, heads * head_dim_v). The rest of the step is the caller's.
 */
static inline void submit_tokens(const machine* m, const forest* f, lm_step step, int32_t row_set,
                                 const int32_t* tokens, float* out) {
    int32_t rows = row_set == LM_ROWS_ALL ? step.rows : step.output_rows;
    int32_t widths[4] = {f->shape.heads * f->shape.head_dim, f->shape.kv_heads * f->shape.head_dim,
                         f->shape.kv_heads * f->shape.head_dim_v, f->shape.heads * f->shape.head_dim_v};
    const float* from[3] = {f->q, f->k, f->v};
    lm_view views[4];
    int64_t floats = 0;
    for (int32_t n = 0; n < 4; n++) {
        views[n] = (lm_view){floats, widths[n], widths[n]};
        floats += (int64_t)rows * widths[n];
    }
    float* image = calloc((size_t)floats, 4);
    for (int32_t n = 0; n < 3; n++) {
        for (int32_t i = 0; i < rows; i++) {
            memcpy(image + views[n].offset + (int64_t)i * widths[n], from[n] + (int64_t)tokens[i] * widths[n],
                   (size_t)widths[n] * 4);
        }
    }
    float* vector = on_device(m, f->shape.vector, f->shape.kind == LM_ATTENTION_PLAIN ? 0 : f->shape.heads * 4);
    lm_op ops[2] = {{.code = LM_OP_KV_STORE, .row_set = row_set, .a = views[1]}, attention_op(&f->shape, vector)};
    if (!f->shape.latent) {
        ops[0].b = views[2];
    }
    ops[1].row_set = row_set;
    ops[1].out = views[3];
    ops[1].a = views[0];
    step.generation = ++generation;
    step.activations = on_device(m, image, floats * 4);
    step.activations_bytes = floats * 4;
    MUST(lm_submit(m->queue, ops, out == NULL ? 1 : 2, &step, NULL));
    to_host(m, image, step.activations, floats * 4);
    if (out != NULL) {
        memcpy(out, image + views[3].offset, (size_t)((int64_t)rows * widths[3]) * 4);
    }
    MUST(lm_device_free(m->device, step.activations, floats * 4));
    MUST(lm_device_free(m->device, vector, f->shape.heads * 4));
    free(image);
}

/* What attention gives for each node, (count, heads * head_dim_v), where each way from root to leaf is a sequence. */
static inline float* attend_paths(const machine* m, const forest* f) {
    int32_t width = f->shape.heads * f->shape.head_dim_v;
    float* out = calloc((size_t)((int64_t)f->count * width), 4);
    float* of_path = malloc((size_t)((int64_t)f->count * width) * 4);
    int32_t* done = calloc((size_t)f->count, 4);
    int32_t* path = malloc((size_t)f->count * 4);
    int32_t* positions = malloc((size_t)f->count * 4);
    int32_t* sequence = calloc((size_t)f->count, 4);
    for (int32_t leaf = 0; leaf < f->count; leaf++) {
        if (!f->tokens[leaf].leaf) {
            continue;
        }
        int32_t length = f->tokens[leaf].position + 1;
        int32_t known = 0; /* tokens at the path's begin that need no result */
        for (int32_t i = leaf, p = length - 1; p >= 0; i = f->tokens[i].parent, p--) {
            path[p] = i;
            positions[p] = p;
            known += !f->tokens[i].node || done[i];
        }
        lm_kv* kv = make_forest_kv(m, f, length, 0);
        lm_step step = {.sequences = 1, .positions = positions, .sequence = sequence, .kv = &kv};
        if (known > 0) {
            step.rows = known;
            submit_tokens(m, f, step, LM_ROWS_ALL, path, NULL);
        }
        if (known < length) {
            step.rows = length - known;
            step.positions += known;
            submit_tokens(m, f, step, LM_ROWS_ALL, path + known, of_path);
        }
        for (int32_t p = known; p < length; p++) {
            memcpy(out + (int64_t)path[p] * width, of_path + (int64_t)(p - known) * width, (size_t)width * 4);
            done[path[p]] = 1;
        }
        MUST(lm_kv_destroy(kv));
    }
    free(of_path);
    free(done);
    free(path);
    free(positions);
    free(sequence);
    return out;
}

/*
 * Puts count nodes in a random order; before some of them comes a row at the same place, which they overwrite. rows[i]
 * is a node, or -1 - node for a row that this node overwrites. Gives the number of rows.
 */
static inline int32_t shuffle_rows(int32_t* rows, int32_t* nodes, int32_t count, uint64_t* seed) {
    int32_t n = 0;
    for (int32_t left = count; left > 0; left--) {
        int32_t i = random_int(seed, 0, left - 1);
        if (random_int(seed, 0, 3) == 0) {
            rows[n++] = -1 - nodes[i];
        }
        rows[n++] = nodes[i];
        nodes[i] = nodes[left - 1];
    }
    return n;
}

/* Nodes from the root of the tree to this one. */
static inline int32_t depth(const forest* f, int32_t node) {
    int32_t n = 0;
    for (int32_t i = node; i >= 0 && f->tokens[i].node; i = f->tokens[i].parent) {
        n++;
    }
    return n;
}

/*
 * Writes a row's position, sequence and branch (width); what is not read of that is out of range. A row that is
 * overwritten may be anywhere, but with few places not so far away.
 */
static inline void put_row(const forest* f, int32_t row, int32_t* position, int32_t* sequence, int32_t* branch,
                           int32_t width, uint64_t* seed) {
    int32_t i = row < 0 ? -1 - row : row;
    int anywhere = row < 0 && f->shape.places == 0;
    int32_t last_place = f->capacities[f->tokens[i].sequence] - 1;
    *sequence = f->tokens[i].sequence;
    *position = anywhere ? random_int(seed, 0, last_place) : f->tokens[i].position;
    branch[0] = f->tokens[i].place;
    for (int32_t j = 1; j < width; j++) {
        if (j > *position) {
            branch[j] = INT32_MIN;
        } else if (anywhere) {
            branch[j] = random_int(seed, 0, last_place);
        } else {
            i = f->tokens[i].parent;
            branch[j] = f->tokens[i].place;
        }
    }
}

/* One step with these nodes, all of whose ancestors are stored or among them; they must give what is expected. */
static inline void check_nodes(const machine* m, const forest* f, lm_kv* const* kv, int32_t* nodes, int32_t count,
                               const float* expected, uint64_t* seed) {
    int32_t out_width = f->shape.heads * f->shape.head_dim_v;
    int32_t width = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t d = depth(f, nodes[i]);
        width = d > width ? d : width;
    }
    width += random_int(seed, 0, 4);
    int32_t* rows = malloc((size_t)count * 2 * 4);
    int32_t op_rows = shuffle_rows(rows, nodes, count, seed);
    int32_t packed = random_int(seed, 0, 1); /* the op's rows are output rows, and there are others */
    int32_t step_rows = op_rows + (packed ? random_int(seed, 0, 3) : 0);
    int32_t* index = malloc((size_t)step_rows * 4);
    int32_t* positions = malloc((size_t)step_rows * 4);
    int32_t* sequence = malloc((size_t)step_rows * 4);
    int32_t* branch = malloc((size_t)step_rows * (size_t)width * 4); // (step_rows, width)
    int32_t* tokens = malloc((size_t)op_rows * 4);
    for (int32_t i = 0; i < step_rows; i++) {
        index[i] = i;
        positions[i] = -1;
        sequence[i] = INT32_MAX;
        for (int32_t j = 0; j < width; j++) {
            branch[(int64_t)i * width + j] = -1;
        }
    }
    for (int32_t i = 0; i < op_rows; i++) {
        int32_t other = packed ? random_int(seed, i, step_rows - 1) : i;
        int32_t at = index[other];
        index[other] = index[i];
        index[i] = at;
        put_row(f, rows[i], &positions[at], &sequence[at], branch + (int64_t)at * width, width, seed);
        tokens[i] = rows[i] < 0 ? random_int(seed, 0, f->count - 1) : rows[i];
    }
    lm_step step = {.rows = step_rows,
                    .output_rows = packed ? op_rows : 0,
                    .sequences = f->shape.sequences,
                    .branch_width = width,
                    .positions = positions,
                    .sequence = sequence,
                    .branch = branch,
                    .output_index = index,
                    .kv = kv};
    float* out = malloc((size_t)((int64_t)op_rows * out_width) * 4);
    submit_tokens(m, f, step, packed ? LM_ROWS_OUTPUT : LM_ROWS_ALL, tokens, out);
    for (int32_t i = 0; i < op_rows; i++) {
        CHECK(
            rows[i] < 0
                || memcmp(out + (int64_t)i * out_width, expected + (int64_t)rows[i] * out_width, (size_t)out_width * 4)
                       == 0,
            "simd %d, %d threads: sequence %d, position %d at place %d of a tree has other bits than in a sequence",
            m->simd, m->threads, f->tokens[rows[i]].sequence, f->tokens[rows[i]].position, f->tokens[rows[i]].place);
    }
    free(out);
    free(rows);
    free(index);
    free(positions);
    free(sequence);
    free(branch);
    free(tokens);
}

/* The trees of all sequences, up to `most` nodes a step, against expected: what attend_paths gave. */
static inline void check_forest(const machine* m, const forest* f, int32_t most, const float* expected, uint64_t seed) {
    lm_kv* kv[3];
    int32_t* nodes = malloc((size_t)f->count * 4);
    int32_t* positions = malloc((size_t)f->count * 4);
    int32_t* sequence = malloc((size_t)f->count * 4);
    int32_t next[3]; /* node of each sequence */
    int32_t end[3];
    int32_t prefixes = 0;
    int32_t left = 0;
    for (int32_t i = 0; i < f->count; i++) {
        int32_t s = f->tokens[i].sequence;
        if (f->tokens[i].node) {
            left++;
        } else {
            nodes[prefixes] = i;
            positions[prefixes] = f->tokens[i].position;
            sequence[prefixes++] = s;
            next[s] = i + 1;
        }
        end[s] = i + 1;
    }
    for (int32_t s = 0; s < f->shape.sequences; s++) {
        kv[s] = make_forest_kv(m, f, f->capacities[s], f->shape.places);
        if (f->shape.lengths[s] == 0) {
            next[s] = s == 0 ? 0 : end[s - 1];
        }
    }
    int32_t at_once = f->shape.places > 0 ? f->shape.places : prefixes;
    for (int32_t i = 0; i < prefixes; i += at_once) {
        lm_step step = {.rows = prefixes - i < at_once ? prefixes - i : at_once,
                        .sequences = f->shape.sequences,
                        .positions = positions + i,
                        .sequence = sequence + i,
                        .kv = kv};
        submit_tokens(m, f, step, LM_ROWS_ALL, nodes + i, NULL);
    }
    while (left > 0) {
        int32_t count = random_int(&seed, 1, most < left ? most : left);
        for (int32_t i = 0; i < count; i++, left--) {
            int32_t s = random_int(&seed, 0, f->shape.sequences - 1);
            while (next[s] == end[s]) {
                s = (s + 1) % f->shape.sequences;
            }
            nodes[i] = next[s]++;
        }
        check_nodes(m, f, kv, nodes, count, expected, &seed);
    }
    for (int32_t s = 0; s < f->shape.sequences; s++) {
        MUST(lm_kv_destroy(kv[s]));
    }
    free(nodes);
    free(positions);
    free(sequence);
}

#endif
