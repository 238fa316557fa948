/*
 * lamina.h: the arithmetic runtime of Lamina, and the only door to it.
 *
 * The host program (Java) owns files, reading, schedule and generation. This library owns devices, their memory and the
 * arithmetic. One token takes this way through it:
 *
 *     lm_device_open -> lm_host_alloc (staging slots), lm_device_alloc (activations), lm_kv_create, lm_queue_create
 *     for each panel that arrives from disk:  lm_submit(queue, the ops that this panel feeds, step)
 *     lm_copy_to_host(logits) -> lm_wait
 *
 * A device with memory of its own (unified is 0) has a ring of panels too, and a second queue that fills it:
 *     lm_queue_after(copies, computation, what last used the place) -> lm_copy_to_device(copies, place, panel)
 *     lm_queue_after(computation, copies, that copy) -> lm_submit(computation, ...)
 *
 * Rules
 *   - Every call returns a status: LM_OK (0) or an LM_ERROR_* code; lm_last_error gives the message for the calling thread.
 *   - Nothing here aborts, exits, prints or installs a signal handler. Every size and address range is checked before use.
 *   - Only fixed-width integers, floats and pointers cross this border, so that the bindings are the same on every platform.
 *   - Threads: lm_*_alloc, lm_*_free, lm_device_info and lm_kv_* may be called from any thread; a queue (lm_submit, lm_copy_*,
 *     lm_wait) by one thread at a time. Close queues and device files and free memory and caches before their device. A
 *     file (lm_file_*, lm_device_file_*) may be read by many threads; a ring of reads (lm_ring_*) belongs to the thread that
 *     opened it.
 *   - Row invariance: the bits of a row's result do not depend on how many rows are computed beside it, on how a weight is
 *     cut into panels, on the places of its branch, on the number of threads, or on the SIMD instruction set. Where a
 *     result is NaN it is so in all of these cases, but the bits that this NaN has are not promised.
 *
 * Activations are float32. A row is one token position. Shapes are written (rows, width), row-major.
 */
#ifndef LAMINA_H
#define LAMINA_H

#include <stdint.h>

#if defined(_WIN32)
#define LM_API __declspec(dllexport)
#else
#define LM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface; it changes whenever a struct or the meaning of a call changes. */
#define LM_ABI_VERSION 5

/* Status codes. */
#define LM_OK 0
#define LM_ERROR_INVALID_ARGUMENT 1 /* a null pointer, a size or range that does not fit, an unknown code */
#define LM_ERROR_OUT_OF_MEMORY 2    /* host or device memory could not be had */
#define LM_ERROR_UNSUPPORTED 3      /* this build or this machine has no such backend, instruction set or combination */
#define LM_ERROR_DEVICE 4           /* the device or the operating system failed */
#define LM_ERROR_IO 5               /* a file could not be opened or read */

/* Backends. All but the CPU's are libraries of their own, see lm_backend_load. */
#define LM_BACKEND_CPU 0
#define LM_BACKEND_CUDA 1
#define LM_BACKEND_CUDA_EMULATED 2 /* the CUDA kernels, run by the CPU: slow, to test them where there is no GPU */

/* SIMD instruction sets of the CPU backend; all of them give the same bits, but for those of a NaN. */
#define LM_SIMD_AUTO 0 /* the environment variable LAMINA_SIMD=plain|avx2|avx512|neon if set, otherwise the best there is */
#define LM_SIMD_PLAIN 1
#define LM_SIMD_AVX2 2 /* with FMA and F16C */
#define LM_SIMD_AVX512 3
#define LM_SIMD_NEON 4

/* How exact a device computes. The CPU has one way, which is exact. */
#define LM_MODE_EXACT 0 /* activations and sums in f32 */
#define LM_MODE_FAST 1  /* a GPU may round the activations of a product to the type of its weights (MXFP4: to bf16; FP8:
                           not at all), and sum in f32 */

/* Element types of weights; the first two are those of KV caches too. */
#define LM_DTYPE_F32 0
#define LM_DTYPE_F16 1
#define LM_DTYPE_BF16 2
#define LM_DTYPE_F8_E4M3 3 /* with an f32 scale for each block of 128 x 128 elements, see lm_op.scales */
#define LM_DTYPE_MXFP4 4   /* e2m1 of the OCP microscaling formats: two elements a byte, the first one in the low bits,
                              with an e8m0 scale (2^(byte - 127)) for each 32 of a row, see lm_op.scale_offset */

/* Which rows of a step an op works on. */
#define LM_ROWS_ALL 0    /* rows 0 .. step.rows - 1 */
#define LM_ROWS_OUTPUT 1 /* rows 0 .. step.output_rows - 1: those whose logits are wanted, packed by LM_OP_GATHER_ROWS */
#define LM_ROWS_LIST 2   /* rows 0 .. step.list_rows - 1: those that chose an expert, packed by LM_OP_GATHER_ROWS; for
                            ops that use neither step.inputs nor a cache */

/* Op codes; lm_op says which fields each one reads. */
#define LM_OP_EMBED 1
#define LM_OP_RMS_NORM 2
#define LM_OP_LINEAR 3
#define LM_OP_ROPE 4
#define LM_OP_KV_STORE 5
#define LM_OP_ATTENTION 6
#define LM_OP_ACTIVATION 7
#define LM_OP_ADD 8
#define LM_OP_GATHER_ROWS 9
#define LM_OP_LAYER_NORM 10
#define LM_OP_LINEAR_TRANSPOSED 11
#define LM_OP_SCALE 12
#define LM_OP_WEIGHT_NORM 13
#define LM_OP_SCATTER_ADD 14
#define LM_OP_CONVOLUTION 15
#define LM_OP_DELTA_RULE 16

/* Kinds of LM_OP_ACTIVATION. */
#define LM_ACTIVATION_SILU 0      /* x / (1 + exp(-x)) */
#define LM_ACTIVATION_GELU 1      /* x * (1 + erf(x / sqrt(2))) / 2 */
#define LM_ACTIVATION_GELU_TANH 2 /* the tanh approximation of GELU */
#define LM_ACTIVATION_RELU 3      /* max(x, 0) */
#define LM_ACTIVATION_SIGMOID 4   /* 1 / (1 + exp(-x)) */
#define LM_ACTIVATION_IDENTITY 5  /* x */
#define LM_ACTIVATION_RELU_SQUARED 6   /* max(x, 0)^2 */
#define LM_ACTIVATION_QUICK_GELU 7     /* x / (1 + exp(-1.702 x)) */
#define LM_ACTIVATION_SOFT_CAP 8       /* op.scale * tanh(x / op.scale) */
#define LM_ACTIVATION_CLAMPED_SWIGLU 9 /* of pairs (x, y) = (a[2 i], a[2 i + 1]), with limit l = op.scale: x = min(x, l),
                                          y = min(max(y, -l), l), x / (1 + exp(-1.702 x)) * (y + 1), as in GPT-OSS */

/* Kinds of LM_OP_ROPE: which two elements of a head form a pair. */
#define LM_ROPE_HALF 0        /* (i, i + rotary_dim / 2), as in Hugging Face Llama */
#define LM_ROPE_INTERLEAVED 1 /* (2 i, 2 i + 1), as in the RoFormer paper */

/* Kinds of LM_OP_ATTENTION: what op.vector, (heads) floats, is. */
#define LM_ATTENTION_PLAIN 0 /* absent */
#define LM_ATTENTION_ALIBI 1 /* slopes: slope * (p - own position) is added to the scaled, capped score of position p */
#define LM_ATTENTION_SINKS 2 /* scores, neither scaled nor capped, of a position without a value, which takes its share
                                of the softmax */

/* Kinds of LM_OP_GATHER_ROWS and LM_OP_SCATTER_ADD with LM_ROWS_LIST. */
#define LM_ROWS_PLAIN 0    /* rows as they are */
#define LM_ROWS_WEIGHTED 1 /* row i times step.list_weights[step.list_first + i] */

/* Kinds of layers of a KV cache. */
#define LM_KV_HEADS 0  /* keys, and values of their own */
#define LM_KV_LATENT 1 /* keys; the first head_dim_v floats of a key are the value: multi-head latent attention */
#define LM_KV_STATE 2  /* no positions, but a state of kv_heads * head_dim * head_dim_v floats, twice, always in f32 */

/* How a file is read. */
#define LM_FILE_BUFFERED 0 /* through the page cache */
#define LM_FILE_DIRECT 1   /* past it: offsets, addresses and sizes of reads are multiples of the file system's block size */

typedef struct lm_device lm_device; /* a processor that computes: its threads or streams, and its memory */
typedef struct lm_queue lm_queue;   /* work of one device, done in the order of submission */
typedef struct lm_kv lm_kv;         /* keys and values of one sequence, for all layers */
typedef struct lm_file lm_file;     /* a file, open for reading */
typedef struct lm_ring lm_ring;     /* reads that are under way at the same time, of one thread */
typedef struct lm_device_file lm_device_file; /* a file, open for reading into memory of one device */

/* Version and struct sizes of the loaded library: a caller compares them with its own before any other call. */
typedef struct lm_abi {
    int32_t version;             /* LM_ABI_VERSION */
    int32_t size_abi;            /* sizeof each struct, in bytes */
    int32_t size_device_options;
    int32_t size_device_info;
    int32_t size_kv_layer;
    int32_t size_view;
    int32_t size_op;
    int32_t size_step;
    int32_t size_read;
    int32_t size_read_result;
    int32_t reserved; /* 0 */
} lm_abi;

typedef struct lm_device_options {
    int32_t backend; /* LM_BACKEND_* */
    int32_t ordinal; /* which device of that backend, from 0 */
    int32_t threads; /* CPU: threads that compute, the submitting one included; 0 = one a core that this process may use */
    int32_t simd;    /* CPU: LM_SIMD_* */
    int32_t mode;    /* LM_MODE_* */
} lm_device_options;

typedef struct lm_device_info {
    char name[128];         /* of the processor, UTF-8, ends with a zero */
    int32_t backend;        /* LM_BACKEND_* */
    int32_t threads;        /* CPU: threads that compute */
    int32_t simd;           /* CPU: the LM_SIMD_* in use */
    int32_t simd_supported; /* CPU: a bit (1 << LM_SIMD_*) for each instruction set that can run here */
    int32_t unified;        /* 1: the device reads host memory from lm_host_alloc in place, panels need no copy */
    int32_t mode;           /* LM_MODE_* */
    int64_t memory_bytes;   /* of the device's own memory; 0 where it has none */
    int64_t free_bytes;     /* of those, how many nobody has taken at this moment */
} lm_device_info;

/*
 * One layer of a KV cache.
 *
 * A layer with places keeps the last ones only: position p lies at place p mod places, and so does what step.branch says
 * of place p. The places that the rows of a sequence in one op store or see must be less than `places` apart, before mod:
 * it serves attention with a window (or a chunk) w if these rows span at most places - w + 1 positions.
 */
typedef struct lm_kv_layer {
    int32_t kv_heads;   /* heads of keys and of values; of a state: its first dimension */
    int32_t head_dim;   /* floats of a key of one head; of a state: its second dimension */
    int32_t head_dim_v; /* floats of a value of one head; of a state: its third dimension */
    int32_t kind;       /* LM_KV_* */
    int32_t places;     /* positions that are kept; 0, or the capacity and more: all. 0 for a state */
    int32_t reserved;   /* 0 */
} lm_kv_layer;

/* A (rows, width) matrix in the step's activation memory; element (r, c) is float number offset + r * stride + c. */
typedef struct lm_view {
    int64_t offset; /* floats from step.activations */
    int32_t stride; /* floats from one row to the next, >= width */
    int32_t width;  /* floats of one row; 0: this operand is absent */
} lm_view;

/*
 * One op over the rows of a step. Fields that an op does not name are ignored. In what follows R is the number of rows of
 * row_set. An out view may be the same as an in view where the op says so, and must not overlap one otherwise.
 *
 * LM_OP_EMBED        out (R, width) = a row of the embedding table for each row, converted to f32. The rows lie in
 *                    step.inputs at input_offset, one after the other, each width elements of dtype.
 * LM_OP_RMS_NORM     out = a / sqrt(mean(a^2) + epsilon) * vector, in each of `heads` equal groups of the row; vector has
 *                    width / heads floats, the same for each group, or width floats, or is null: 1. out may be a.
 * LM_OP_LINEAR       out[r, n] = sum over k of a[r, k] * weight[n, k] + vector[n]; n < out.width = weight_rows,
 *                    k < a.width. weight[n, 0] lies at step.panel + weight_offset + n * weight_stride, in dtype, at any
 *                    byte address. vector: the bias, out.width floats, or null. Weights with scales: each element times
 *                    its scale is an f32 number, which is what a[r, k] is multiplied with.
 * LM_OP_ROPE         rotates out = a in place: `heads` heads, head_dim floats apart, of which the first rotary_dim are turned;
 *                    width = heads * head_dim, or less if no more than what is not turned of the last head is missing.
 *                    step.inputs at input_offset holds a (R, rotary_dim) f32 table: rotary_dim / 2 cosines, then as many
 *                    sines, for the position of each row; kind = LM_ROPE_*.
 * LM_OP_KV_STORE     a (R, kv_heads * head_dim) = keys, b (R, kv_heads * head_dim_v) = values: stored in layer `layer` of
 *                    the row's cache at the row's place, see step.branch. Of two rows at one place the later one stays.
 *                    LM_KV_LATENT: b is absent.
 * LM_OP_ATTENTION    out (R, heads * head_dim_v) = softmax(scale * q k^T) v for queries a (R, heads * head_dim) over the
 *                    positions p of the row's sequence, or of its branch of that, in layer `layer` with p <= own
 *                    position and, if window > 0, p > own position - window and, if chunk > 0, p >= own position -
 *                    own position mod chunk. Query head h uses KV head h / (heads / kv_heads). If softcap > 0, a scaled
 *                    score x becomes softcap * tanh(x / softcap). kind = LM_ATTENTION_*.
 * LM_OP_ACTIVATION   out = kind(a) * b, or kind(a) where b is absent; kind = LM_ACTIVATION_*. out may be a or b. Where b is
 *                    there, a may be narrower than out by a whole factor n: each of its elements serves n neighbours.
 *                    LM_ACTIVATION_CLAMPED_SWIGLU: a is twice as wide as out, b is absent, out must not be a.
 * LM_OP_ADD          out = a + scale * b, or a + vector (width floats) where b is absent. out may be a or b.
 * LM_OP_GATHER_ROWS  out row i = a row step.output_index[i] for LM_ROWS_OUTPUT, or a row step.list[step.list_first + i]
 *                    for LM_ROWS_LIST; kind = LM_ROWS_*.
 * LM_OP_LAYER_NORM   out = (a - mean(a)) / sqrt(variance(a) + epsilon) * vector, in groups and with a vector as
 *                    LM_OP_RMS_NORM has them; the variance is the mean of the squares of a - mean(a). out may be a.
 * LM_OP_LINEAR_TRANSPOSED  out[r, n] = start + a[r, 0] * weight[0, n] + a[r, 1] * weight[1, n] + ..., one after the
 *                    other; k < a.width = weight_rows, n < out.width. weight[k, 0] lies where LM_OP_LINEAR has row k.
 *                    start is out[r, n] if accumulate is 1, else vector[n], or 0 where vector is null. dtype is not
 *                    LM_DTYPE_MXFP4.
 * LM_OP_SCALE        out = a * scale * vector (width floats), or a * scale where vector is null. out may be a.
 * LM_OP_WEIGHT_NORM  out[r, n] = a[r, n] / max(sqrt(sum over k of weight[n, k]^2), epsilon), k < columns, n < out.width =
 *                    weight_rows; the weight lies as LM_OP_LINEAR has it. out may be a.
 * LM_OP_SCATTER_ADD  out row step.list[step.list_first + i] += a row i, for LM_ROWS_LIST; kind = LM_ROWS_*. out is a
 *                    view of all rows of the step.
 * LM_OP_CONVOLUTION  out[t, c] = kind(sum over j < K of vector[c * K + j] * a[t - K + 1 + j, c]), kind = LM_ACTIVATION_SILU
 *                    or LM_ACTIVATION_IDENTITY, over the rows t of each sequence in their order; those before its first
 *                    are the state of layer `layer`, which has the shape (1, K - 1, width).
 * LM_OP_DELTA_RULE   the gated delta rule. a (R, (2 * heads * K) + H * V): queries and keys of `heads` heads of K floats,
 *                    and values of H heads of V, for a state S of layer `layer` of the shape (H, K, V). b (R, 2 * H): b,
 *                    then a, for each value head; vector (2 * H): d, then t. For value head h, which has query and key
 *                    head h / (H / heads), and each row of a sequence in order, with q and k divided by
 *                    sqrt(sum of squares + epsilon) and q times scale:
 *                    S *= exp(d * log(1 + exp(a + t))); S += k (v - S^T k)^T / (1 + exp(-b)); out (R, H * V) = S^T q.
 *                    step.branch_width must be 0 for this and for LM_OP_CONVOLUTION.
 */
typedef struct lm_op {
    int32_t code;          /* LM_OP_* */
    int32_t row_set;       /* LM_ROWS_* */
    lm_view out;
    lm_view a;
    lm_view b;
    const float* vector;   /* device memory, f32: norm weight or bias; see the op for its length */
    int64_t vector_length; /* floats at vector; 0 where it is null */
    int64_t weight_offset; /* bytes from step.panel to the first row of the weight */
    int64_t weight_stride; /* bytes from one weight row to the next */
    int64_t input_offset;  /* bytes from step.inputs */
    const float* scales;   /* LM_DTYPE_F8_E4M3: device memory: the scale of weight[n, k] is
                              scales[((scale_row + n) / 128) * scale_stride + k / 128] */
    int64_t scales_length; /* floats at scales */
    int64_t scale_offset;  /* LM_DTYPE_MXFP4: bytes from step.panel to the scales of the first row of the weight */
    int64_t scale_stride;  /* floats or bytes from the scales of one row (of blocks) to those of the next */
    int32_t scale_row;     /* LM_DTYPE_F8_E4M3: number of the weight's first row in its block, 0 .. 127 */
    int32_t weight_rows;   /* rows of the weight in this panel */
    int32_t columns;       /* of the weight of LM_OP_WEIGHT_NORM */
    int32_t dtype;         /* LM_DTYPE_* of the weight or of the embedding rows */
    int32_t kind;          /* the op's kind */
    int32_t accumulate;    /* 1: LM_OP_LINEAR_TRANSPOSED goes on with the sums in out */
    int32_t layer;         /* of the KV cache */
    int32_t heads;         /* query heads, heads to rotate, or groups to normalise */
    int32_t head_dim;      /* floats of one head */
    int32_t rotary_dim;    /* floats of one head that are rotated, even */
    int32_t window;        /* positions that a row sees, itself included; 0: all up to its own */
    int32_t chunk;         /* positions of a chunk, of which a row sees its own alone; 0: there are none */
    float scale;           /* of the attention scores, of b, of a, of a kind, or of the queries */
    float softcap;         /* of the attention scores; 0: none */
    float epsilon;         /* of a norm */
} lm_op;

/*
 * What the ops of one submission work on. The struct, its arrays and inputs are read within the call.
 *
 * Rows of one sequence may be alternatives: nodes of a tree, several of them at one position. Each has a place of its own
 * in the cache and sees the positions of its branch alone, which is the way from the root to it. branch says where the
 * last branch_width positions of that way lie; all earlier ones lie at the places of their own numbers.
 */
typedef struct lm_step {
    int32_t rows;                /* rows of this sweep */
    int32_t output_rows;         /* rows whose logits are wanted, <= rows */
    int32_t sequences;           /* entries of kv */
    int32_t alone;               /* CPU: 1: the submitting thread computes alone and leaves the other cores to others */
    int32_t branch_width;        /* positions of a row in branch, 0 .. 65536; 0: each lies at the place of its number */
    int32_t list_length;         /* entries of list and of list_weights */
    int32_t list_first;          /* the first of them that this submission is about, */
    int32_t list_rows;           /* and how many: list_first + list_rows <= list_length, list_rows <= rows */
    int32_t reserved;            /* 0 */
    int64_t generation;          /* another number whenever anything but panel, list_first and list_rows differs from the
                                    last submission to the queue, or the arrays' or inputs' content: what was copied to
                                    a device is kept till then */
    const int32_t* positions;    /* (rows): position of each row in its sequence, from 0 */
    const int32_t* sequence;     /* (rows): index into kv */
    const int32_t* branch;       /* (rows, branch_width): position positions[r] - j of row r lies at place
                                    branch[r * branch_width + j], 0 .. capacity - 1; none is read for positions below 0 */
    const int32_t* output_index; /* (output_rows): row numbers */
    const int32_t* list;         /* (list_length): row numbers; those of one submission differ */
    const float* list_weights;   /* (list_length): factors of these rows; null where no op reads them */
    const int32_t* states;       /* (sequences): which half of a state layer, 0 or 1, holds the state before the first
                                    row of the sequence; -1: it begins with zeros. The one after its last row goes to
                                    half 1 if this is 0, to half 0 if not. Null where no op has a state */
    lm_kv* const* kv;            /* (sequences) */
    void* activations;           /* device memory, 64-byte aligned */
    int64_t activations_bytes;
    const void* inputs;          /* host memory: embedding rows and rope tables; only what ops read of it is copied */
    int64_t inputs_bytes;
    const void* panel;           /* memory the device can read: the panel that feeds these ops; null if none needs one */
    int64_t panel_bytes;
} lm_step;

/* One read of a ring. */
typedef struct lm_read {
    lm_file* file;
    void* to;       /* memory for the bytes */
    int64_t bytes;  /* how many, 1 .. 2^30 */
    int64_t offset; /* of the first one in the file */
    int64_t tag;    /* the caller's, given back with the result */
} lm_read;

typedef struct lm_read_result {
    int64_t tag;
    int64_t bytes; /* that were read: fewer than asked for at the end of the file, or whenever the system likes; -1: it
                      failed, and lm_file_read of the same bytes tells why */
} lm_read_result;

/* Version and struct sizes of this library. */
LM_API int32_t lm_get_abi(lm_abi* out);

/*
 * Writes the message of the last call that failed on this thread, cut to capacity - 1 bytes and ended with a zero; an
 * empty string when none has failed.
 */
LM_API int32_t lm_last_error(char* out, int64_t capacity);

/*
 * Loads the library of a backend, for this process and for good; a second time it does nothing. LM_ERROR_UNSUPPORTED: it
 * is not there, does not fit this library, or lacks what it needs itself.
 */
LM_API int32_t lm_backend_load(int32_t backend, const char* path);

/* How many devices a loaded backend has. LM_ERROR_UNSUPPORTED: it cannot be used here; the message says why. */
LM_API int32_t lm_device_count(int32_t backend, int32_t* out);

/* Opens a device: starts its threads. */
LM_API int32_t lm_device_open(const lm_device_options* options, lm_device** out);

/* Ends the device's threads and frees it; null does nothing. */
LM_API int32_t lm_device_close(lm_device* device);

LM_API int32_t lm_device_get_info(const lm_device* device, lm_device_info* out);

/*
 * Host memory for panels: aligned to 4096 bytes (2 MiB from 2 MiB on), page-locked where the device wants it, huge pages
 * advised. Its pages are taken from the system at first touch. bytes > 0; free it with the same number of bytes.
 */
LM_API int32_t lm_host_alloc(lm_device* device, int64_t bytes, void** out);
LM_API int32_t lm_host_free(lm_device* device, void* memory, int64_t bytes);

/* Device memory, aligned to 4096 bytes; zeroed. bytes > 0; free it with the same number of bytes. */
LM_API int32_t lm_device_alloc(lm_device* device, int64_t bytes, void** out);
LM_API int32_t lm_device_free(lm_device* device, void* memory, int64_t bytes); /* work that uses it was waited for */

LM_API int32_t lm_queue_create(lm_device* device, lm_queue** out);
LM_API int32_t lm_queue_destroy(lm_queue* queue);

/*
 * Waits for the work of a queue and frees what the device keeps for it: the arrays of its last step and what its kernels
 * worked in, which else only grow.
 */
LM_API int32_t lm_queue_trim(lm_queue* queue);

/*
 * Bytes that a KV cache of this shape takes on the device. dtype: LM_DTYPE_F32 or LM_DTYPE_F16; capacity: places, one
 * a position.
 */
LM_API int32_t lm_kv_bytes(const lm_kv_layer* layers, int32_t layer_count, int32_t capacity, int32_t dtype, int64_t* out);

/*
 * Makes a KV cache of that shape. Storing at a place again overwrites it: going back needs no call. The last host_layers
 * of the layers (0 .. layer_count) are in host memory, which the device reads and writes over its bus; where device
 * memory is host memory, that makes no difference.
 */
LM_API int32_t lm_kv_create(lm_device* device, const lm_kv_layer* layers, int32_t layer_count, int32_t capacity,
                            int32_t dtype, int32_t host_layers, lm_kv** out);
LM_API int32_t lm_kv_destroy(lm_kv* kv);

/*
 * Submits count ops, computed one after the other. Everything is checked before the first op runs. *ticket (may be null)
 * numbers the submission: lm_wait on it returns when its work is done. The CPU backend computes within the call. What
 * fails after the call has returned is told by lm_wait.
 */
LM_API int32_t lm_submit(lm_queue* queue, const lm_op* ops, int32_t count, const lm_step* step, int64_t* ticket);

/* Copies bytes between memory of the host and of the device, in the order of the queue. */
LM_API int32_t lm_copy_to_device(lm_queue* queue, void* device_memory, const void* host_memory, int64_t bytes,
                                 int64_t* ticket);
LM_API int32_t lm_copy_to_host(lm_queue* queue, void* host_memory, const void* device_memory, int64_t bytes,
                               int64_t* ticket);

/*
 * What is submitted to queue from now on begins after the submission to other with this ticket; both are of one backend,
 * and may be of two of its devices.
 */
LM_API int32_t lm_queue_after(lm_queue* queue, lm_queue* other, int64_t ticket);

/* Returns when the submission with this ticket and all before it are done, with the status of the first that failed. */
LM_API int32_t lm_wait(lm_queue* queue, int64_t ticket);

/*
 * Opens a file for reading; path ends with a zero, in the encoding of the file system; mode: LM_FILE_*.
 * LM_ERROR_UNSUPPORTED: the file system has no direct reads.
 */
LM_API int32_t lm_file_open(const char* path, int32_t mode, lm_file** out);

/* Closes a file that nothing reads any more; null does nothing. */
LM_API int32_t lm_file_close(lm_file* file);

/*
 * Reads bytes (0 .. 2^30) from an offset on. *read: how many there were; fewer than asked for at the end of the file, or
 * whenever the system likes.
 */
LM_API int32_t lm_file_read(lm_file* file, void* to, int64_t bytes, int64_t offset, int64_t* read);

/*
 * Asks the system to drop a range of a file from the page cache, to the end where bytes is 0. What is not yet written to
 * the disk stays. Does nothing on systems that have no such call.
 */
LM_API int32_t lm_file_forget(lm_file* file, int64_t offset, int64_t bytes);

/*
 * Makes a ring for at most depth (1 .. 4096) reads under way, with io_uring of Linux; to be used by the calling thread
 * alone. LM_ERROR_UNSUPPORTED: the system has no io_uring, or forbids it.
 */
LM_API int32_t lm_ring_open(int32_t depth, lm_ring** out);

/*
 * Waits for the reads under way, whose results are lost, and frees the ring; null does nothing. LM_ERROR_IO: it could not
 * wait, and their memory may still be written to.
 */
LM_API int32_t lm_ring_close(lm_ring* ring);

/* Begins count reads; with those under way there must be at most depth. The memory is written until a read's result came. */
LM_API int32_t lm_ring_submit(lm_ring* ring, const lm_read* reads, int32_t count);

/* Waits until a read under way has ended, and takes the results of up to capacity of those that have. */
LM_API int32_t lm_ring_wait(lm_ring* ring, lm_read_result* out, int32_t capacity, int32_t* count);

/*
 * Opens a regular file for reading into memory of a device; path as lm_file_open has it. CUDA: with cuFile (GPUDirect
 * Storage), which is loaded when it is first needed, past the page cache. CPU: through the page cache.
 * LM_ERROR_UNSUPPORTED: this machine has no cuFile, or cuFile cannot read from this file system or with this driver.
 */
LM_API int32_t lm_device_file_open(lm_device* device, const char* path, lm_device_file** out);

/* Closes a file that nothing reads any more; null does nothing. */
LM_API int32_t lm_device_file_close(lm_device_file* file);

/*
 * *out is 0 where all bytes surely pass through host memory: on the CPU, and with cuFile in its compatibility mode (no
 * nvidia-fs driver, nor another way from a drive to the GPU). 1: they need not, if the drive and its file system let them.
 */
LM_API int32_t lm_device_file_direct(const lm_device_file* file, int32_t* out);

/*
 * Reads bytes (0 .. 2^30) from an offset on into memory of the file's device that lies within one allocation of
 * lm_device_alloc, at any byte address; returns when they are there. It is in no order with the device's queues: nothing
 * that was submitted may use that memory. *read: how many there were; fewer than asked for at the end of the file, or
 * whenever the system likes.
 */
LM_API int32_t lm_device_file_read(lm_device_file* file, void* device_memory, int64_t bytes, int64_t offset,
                                   int64_t* read);

#ifdef __cplusplus
}
#endif

#endif
