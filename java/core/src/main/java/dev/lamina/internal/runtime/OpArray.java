package dev.lamina.internal.runtime;

import dev.lamina.bindings.lamina_h;
import dev.lamina.bindings.lm_op;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * The ops of a sweep, as the native runtime reads them. The formulas stand beside the op codes of {@code lamina.h}.
 * Each method writes the op of one index.
 */
public final class OpArray implements AutoCloseable {
    /** Element types of weights. */
    public enum WeightType {
        F32(lamina_h.LM_DTYPE_F32()),
        F16(lamina_h.LM_DTYPE_F16()),
        BF16(lamina_h.LM_DTYPE_BF16()),
        F8_E4M3(lamina_h.LM_DTYPE_F8_E4M3()),
        MXFP4(lamina_h.LM_DTYPE_MXFP4());

        private final int code;

        WeightType(int code) {
            this.code = code;
        }
    }

    /** Activation functions. */
    public enum Function {
        SILU(lamina_h.LM_ACTIVATION_SILU()),
        GELU(lamina_h.LM_ACTIVATION_GELU()),
        GELU_TANH(lamina_h.LM_ACTIVATION_GELU_TANH()),
        RELU(lamina_h.LM_ACTIVATION_RELU()),
        SIGMOID(lamina_h.LM_ACTIVATION_SIGMOID()),
        IDENTITY(lamina_h.LM_ACTIVATION_IDENTITY()),
        RELU_SQUARED(lamina_h.LM_ACTIVATION_RELU_SQUARED()),
        QUICK_GELU(lamina_h.LM_ACTIVATION_QUICK_GELU()),
        SOFT_CAP(lamina_h.LM_ACTIVATION_SOFT_CAP()),
        CLAMPED_SWIGLU(lamina_h.LM_ACTIVATION_CLAMPED_SWIGLU());

        private final int code;

        Function(int code) {
            this.code = code;
        }
    }

    /** Rows that an op works on. */
    public enum Rows {
        ALL(lamina_h.LM_ROWS_ALL()),
        OUTPUT(lamina_h.LM_ROWS_OUTPUT()),
        LIST(lamina_h.LM_ROWS_LIST());

        private final int code;

        Rows(int code) {
            this.code = code;
        }
    }

    /** What the vector of an attention is. */
    public enum AttentionKind {
        PLAIN(lamina_h.LM_ATTENTION_PLAIN()),
        ALIBI(lamina_h.LM_ATTENTION_ALIBI()),
        SINKS(lamina_h.LM_ATTENTION_SINKS());

        private final int code;

        AttentionKind(int code) {
            this.code = code;
        }
    }

    /**
     * Rows of a weight in a panel.
     *
     * @param type of its elements
     * @param rows how many
     * @param columns elements of a row
     * @param offset bytes from the panel to the first row
     * @param rowBytes bytes from one row to the next
     * @param scales {@link WeightType#F8_E4M3}: floats in device memory, from the blocks of the first row on; null else
     * @param scaleRow the number of the first row in its block
     * @param scaleOffset {@link WeightType#MXFP4}: bytes from the panel to the scales of the first row
     * @param scaleStride floats or bytes from the scales of one row (of blocks) to those of the next
     */
    public record Weight(WeightType type, int rows, int columns, long offset, long rowBytes,
            @Nullable MemorySegment scales, int scaleRow, long scaleOffset, long scaleStride) {
        /** One whose elements are numbers by themselves. */
        public Weight(WeightType type, int rows, int columns, long offset, long rowBytes) {
            this(type, rows, columns, offset, rowBytes, null, 0, 0, 0);
        }

        private void write(MemorySegment op) {
            lm_op.dtype(op, type.code);
            lm_op.weight_rows(op, rows);
            lm_op.columns(op, columns);
            lm_op.weight_offset(op, offset);
            lm_op.weight_stride(op, rowBytes);
            lm_op.scale_row(op, scaleRow);
            lm_op.scale_offset(op, scaleOffset);
            lm_op.scale_stride(op, scaleStride);
            if (scales != null) {
                lm_op.scales(op, scales);
                lm_op.scales_length(op, scales.byteSize() / Float.BYTES);
            }
        }
    }

    private final Arena arena = Arena.ofShared();
    private final MemorySegment memory;

    /** Makes room for ops. */
    public OpArray(int count) {
        this.memory = lm_op.allocateArray(count, arena);
    }

    MemorySegment from(int index) {
        return memory.asSlice(index * lm_op.sizeof());
    }

    private MemorySegment op(int index, int code, Rows rows) {
        var op = lm_op.asSlice(memory, index);
        op.fill((byte) 0);
        lm_op.code(op, code);
        lm_op.row_set(op, rows.code);
        return op;
    }

    private static void vector(MemorySegment op, @Nullable MemorySegment vector) {
        if (vector != null) {
            lm_op.vector(op, vector);
            lm_op.vector_length(op, vector.byteSize() / Float.BYTES);
        }
    }

    /** {@code inputOffset}: bytes from the step's inputs to the embedding rows. */
    public void embed(int index, View out, WeightType type, long inputOffset) {
        var op = op(index, lamina_h.LM_OP_EMBED(), Rows.ALL);
        out.write(lm_op.out(op));
        lm_op.dtype(op, type.code);
        lm_op.input_offset(op, inputOffset);
    }

    /**
     * A norm.
     *
     * @param centred layer norm, or root mean square norm
     * @param weight floats in device memory, one for each element of a group, or of a row; null for none
     */
    public void norm(int index, Rows rows, View out, View in, boolean centred, @Nullable MemorySegment weight,
            int groups, float epsilon) {
        var op = op(index, centred ? lamina_h.LM_OP_LAYER_NORM() : lamina_h.LM_OP_RMS_NORM(), rows);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        vector(op, weight);
        lm_op.heads(op, groups);
        lm_op.epsilon(op, epsilon);
    }

    /**
     * A product with the transposed rows of a weight.
     *
     * @param bias floats in device memory, one for each of those rows; null for none
     */
    public void linear(int index, Rows rows, View out, View in, Weight weight, @Nullable MemorySegment bias) {
        var op = op(index, lamina_h.LM_OP_LINEAR(), rows);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        weight.write(op);
        vector(op, bias);
    }

    /**
     * A product with the rows of a weight as they are.
     *
     * @param continues whether it goes on with the sums that are in {@code out}
     * @param bias floats in device memory, one for each column, where it does not go on; null for none
     */
    public void linearTransposed(int index, Rows rows, View out, View in, Weight weight, boolean continues,
            @Nullable MemorySegment bias) {
        var op = op(index, lamina_h.LM_OP_LINEAR_TRANSPOSED(), rows);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        weight.write(op);
        lm_op.accumulate(op, continues ? 1 : 0);
        vector(op, continues ? null : bias);
    }

    /** Divides columns by the norms of the rows of a weight. */
    public void weightNorm(int index, Rows rows, View x, Weight weight, float epsilon) {
        var op = op(index, lamina_h.LM_OP_WEIGHT_NORM(), rows);
        x.write(lm_op.out(op));
        x.write(lm_op.a(op));
        weight.write(op);
        lm_op.epsilon(op, epsilon);
    }

    /** {@code inputOffset}: bytes from the step's inputs to the cosines and sines of the rows. */
    public void rotate(int index, View x, int heads, int headDim, int rotaryDim, boolean interleaved,
            long inputOffset) {
        var op = op(index, lamina_h.LM_OP_ROPE(), Rows.ALL);
        x.write(lm_op.out(op));
        x.write(lm_op.a(op));
        lm_op.kind(op, interleaved ? lamina_h.LM_ROPE_INTERLEAVED() : lamina_h.LM_ROPE_HALF());
        lm_op.heads(op, heads);
        lm_op.head_dim(op, headDim);
        lm_op.rotary_dim(op, rotaryDim);
        lm_op.input_offset(op, inputOffset);
    }

    /** Stores keys and values of the rows; without values where the keys hold them. */
    public void kvStore(int index, View keys, @Nullable View values, int layer) {
        var op = op(index, lamina_h.LM_OP_KV_STORE(), Rows.ALL);
        keys.write(lm_op.a(op));
        if (values != null) {
            values.write(lm_op.b(op));
        }
        lm_op.layer(op, layer);
    }

    /**
     * What the rows of a layer attend to, and how.
     *
     * @param window positions that a row sees; 0 for all
     * @param chunk positions of a chunk; 0 for none
     * @param softCap limit of the scores; 0 for none
     * @param vector floats in device memory, one for each head; null where the kind has none
     */
    public record Attending(float scale, int window, int chunk, float softCap, AttentionKind kind,
            @Nullable MemorySegment vector) {}

    /** Attention over a layer of the rows' caches. */
    public void attention(int index, View out, View queries, int layer, int heads, int headDim, Attending attending) {
        var op = op(index, lamina_h.LM_OP_ATTENTION(), Rows.ALL);
        out.write(lm_op.out(op));
        queries.write(lm_op.a(op));
        lm_op.layer(op, layer);
        lm_op.heads(op, heads);
        lm_op.head_dim(op, headDim);
        lm_op.window(op, attending.window);
        lm_op.chunk(op, attending.chunk);
        lm_op.scale(op, attending.scale);
        lm_op.softcap(op, attending.softCap);
        lm_op.kind(op, attending.kind.code);
        vector(op, attending.vector);
    }

    /**
     * An activation function.
     *
     * @param gated what the result is multiplied by; null for nothing
     * @param limit of the functions that have one
     */
    public void activate(int index, Rows rows, View out, View in, @Nullable View gated, Function function,
            float limit) {
        var op = op(index, lamina_h.LM_OP_ACTIVATION(), rows);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        if (gated != null) {
            gated.write(lm_op.b(op));
        }
        lm_op.kind(op, function.code);
        lm_op.scale(op, limit);
    }

    /** {@code a + scale * b}. */
    public void add(int index, Rows rows, View out, View a, View b, float scale) {
        var op = op(index, lamina_h.LM_OP_ADD(), rows);
        out.write(lm_op.out(op));
        a.write(lm_op.a(op));
        b.write(lm_op.b(op));
        lm_op.scale(op, scale);
    }

    /** {@code a} plus floats in device memory, one for each column. */
    public void addVector(int index, Rows rows, View out, View a, MemorySegment vector) {
        var op = op(index, lamina_h.LM_OP_ADD(), rows);
        out.write(lm_op.out(op));
        a.write(lm_op.a(op));
        vector(op, vector);
    }

    /** {@code a * scale}, times floats in device memory, one for each column, or null. */
    public void scale(int index, Rows rows, View out, View a, float scale, @Nullable MemorySegment vector) {
        var op = op(index, lamina_h.LM_OP_SCALE(), rows);
        out.write(lm_op.out(op));
        a.write(lm_op.a(op));
        lm_op.scale(op, scale);
        vector(op, vector);
    }

    /** Packs rows; weighted: times their weights in the list. */
    public void gatherRows(int index, Rows rows, View out, View in, boolean weighted) {
        var op = op(index, lamina_h.LM_OP_GATHER_ROWS(), rows);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        lm_op.kind(op, weighted ? lamina_h.LM_ROWS_WEIGHTED() : lamina_h.LM_ROWS_PLAIN());
    }

    /** Adds packed rows to those that they came from; weighted: times their weights in the list. */
    public void scatterAdd(int index, View out, View in, boolean weighted) {
        var op = op(index, lamina_h.LM_OP_SCATTER_ADD(), Rows.LIST);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        lm_op.kind(op, weighted ? lamina_h.LM_ROWS_WEIGHTED() : lamina_h.LM_ROWS_PLAIN());
    }

    /** A convolution with the rows before; weight: (width, kernel) floats in device memory. */
    public void convolution(int index, View out, View in, MemorySegment weight, int layer, Function function) {
        var op = op(index, lamina_h.LM_OP_CONVOLUTION(), Rows.ALL);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        vector(op, weight);
        lm_op.layer(op, layer);
        lm_op.kind(op, function.code);
    }

    /** The gated delta rule; vector: two floats in device memory for each value head. */
    public void deltaRule(int index, View out, View in, View gates, MemorySegment vector, int layer, int heads,
            float scale, float epsilon) {
        var op = op(index, lamina_h.LM_OP_DELTA_RULE(), Rows.ALL);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        gates.write(lm_op.b(op));
        vector(op, vector);
        lm_op.layer(op, layer);
        lm_op.heads(op, heads);
        lm_op.scale(op, scale);
        lm_op.epsilon(op, epsilon);
    }

    @Override
    public void close() {
        arena.close();
    }
}
