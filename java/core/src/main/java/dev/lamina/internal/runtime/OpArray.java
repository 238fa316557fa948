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
        BF16(lamina_h.LM_DTYPE_BF16());

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
        RELU(lamina_h.LM_ACTIVATION_RELU());

        private final int code;

        Function(int code) {
            this.code = code;
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

    private MemorySegment op(int index, int code, boolean outputRows) {
        var op = lm_op.asSlice(memory, index);
        op.fill((byte) 0);
        lm_op.code(op, code);
        lm_op.row_set(op, outputRows ? lamina_h.LM_ROWS_OUTPUT() : lamina_h.LM_ROWS_ALL());
        return op;
    }

    private static void vector(MemorySegment op, MemorySegment vector) {
        lm_op.vector(op, vector);
        lm_op.vector_length(op, vector.byteSize() / Float.BYTES);
    }

    /** {@code inputOffset}: bytes from the step's inputs to the embedding rows. */
    public void embed(int index, View out, WeightType type, long inputOffset) {
        var op = op(index, lamina_h.LM_OP_EMBED(), false);
        out.write(lm_op.out(op));
        lm_op.dtype(op, type.code);
        lm_op.input_offset(op, inputOffset);
    }

    /** {@code weight}: floats in device memory, one for each element of a group. */
    public void rmsNorm(
            int index, boolean outputRows, View out, View in, MemorySegment weight, int groups, float epsilon) {
        var op = op(index, lamina_h.LM_OP_RMS_NORM(), outputRows);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        vector(op, weight);
        lm_op.heads(op, groups);
        lm_op.epsilon(op, epsilon);
    }

    /**
     * A matrix product with {@code out.width()} rows of a weight.
     *
     * @param offset bytes from the panel to the first of those rows
     * @param rowBytes bytes from one row to the next
     * @param bias floats in device memory, one for each of those rows; null for none
     */
    public void linear(int index, boolean outputRows, View out, View in, WeightType type, long offset, long rowBytes,
            @Nullable MemorySegment bias) {
        var op = op(index, lamina_h.LM_OP_LINEAR(), outputRows);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        lm_op.dtype(op, type.code);
        lm_op.weight_offset(op, offset);
        lm_op.weight_stride(op, rowBytes);
        lm_op.weight_rows(op, out.width());
        if (bias != null) {
            vector(op, bias);
        }
    }

    /** {@code inputOffset}: bytes from the step's inputs to the cosines and sines of the rows. */
    public void rotate(int index, View x, int heads, int headDim, int rotaryDim, long inputOffset) {
        var op = op(index, lamina_h.LM_OP_ROPE(), false);
        x.write(lm_op.out(op));
        x.write(lm_op.a(op));
        lm_op.kind(op, lamina_h.LM_ROPE_HALF());
        lm_op.heads(op, heads);
        lm_op.head_dim(op, headDim);
        lm_op.rotary_dim(op, rotaryDim);
        lm_op.input_offset(op, inputOffset);
    }

    /** Stores keys and values of the rows. */
    public void kvStore(int index, View keys, View values, int layer) {
        var op = op(index, lamina_h.LM_OP_KV_STORE(), false);
        keys.write(lm_op.a(op));
        values.write(lm_op.b(op));
        lm_op.layer(op, layer);
    }

    /** {@code window}: positions that a row sees; 0 for all. */
    public void attention(
            int index, View out, View queries, int layer, int heads, int headDim, int window, float scale) {
        var op = op(index, lamina_h.LM_OP_ATTENTION(), false);
        out.write(lm_op.out(op));
        queries.write(lm_op.a(op));
        lm_op.layer(op, layer);
        lm_op.heads(op, heads);
        lm_op.head_dim(op, headDim);
        lm_op.window(op, window);
        lm_op.scale(op, scale);
    }

    /** {@code gated}: what the result is multiplied by; null for nothing. */
    public void activate(int index, boolean outputRows, View out, View in, @Nullable View gated, Function function) {
        var op = op(index, lamina_h.LM_OP_ACTIVATION(), outputRows);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
        if (gated != null) {
            gated.write(lm_op.b(op));
        }
        lm_op.kind(op, function.code);
    }

    /** A sum. */
    public void add(int index, boolean outputRows, View out, View a, View b) {
        var op = op(index, lamina_h.LM_OP_ADD(), outputRows);
        out.write(lm_op.out(op));
        a.write(lm_op.a(op));
        b.write(lm_op.b(op));
        lm_op.scale(op, 1);
    }

    /** Packs the output rows. */
    public void gatherRows(int index, View out, View in) {
        var op = op(index, lamina_h.LM_OP_GATHER_ROWS(), true);
        out.write(lm_op.out(op));
        in.write(lm_op.a(op));
    }

    @Override
    public void close() {
        arena.close();
    }
}
