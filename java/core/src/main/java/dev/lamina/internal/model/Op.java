package dev.lamina.internal.model;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** One op of a program. The formulas stand beside the op codes of {@code lamina.h}. */
public sealed interface Op {
    /** The activation that this op writes; none for {@link KvStore}. */
    @Nullable Value out();

    /** The activations that this op reads. */
    List<Value> reads();

    /** Embedding rows, one for each row of the sweep. */
    record Embed(Value out) implements Op {
        @Override
        public List<Value> reads() {
            return List.of();
        }
    }

    /**
     * Root mean square norm of each of {@code groups} equal parts of a row.
     *
     * @param weight tensor of width / groups factors
     */
    record RmsNorm(Value out, Value in, String weight, int groups, float epsilon) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(in);
        }
    }

    /**
     * A matrix product, the only op whose weight streams.
     *
     * @param weight tensor of shape (out.width, in.width)
     * @param bias tensor of shape (out.width), or null
     */
    record Linear(Value out, Value in, String weight, @Nullable String bias) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(in);
        }
    }

    /** Rotates the heads of {@code x} in place by the position of each row. */
    record Rotate(Value x, Rope rope, int heads, int headDim) implements Op {
        @Override
        public Value out() {
            return x;
        }

        @Override
        public List<Value> reads() {
            return List.of(x);
        }
    }

    /** Stores keys and values in a layer of the KV cache. */
    record KvStore(Value keys, Value values, int layer) implements Op {
        @Override
        public @Nullable Value out() {
            return null;
        }

        @Override
        public List<Value> reads() {
            return List.of(keys, values);
        }
    }

    /**
     * Causal attention over a layer of the KV cache.
     *
     * @param window positions that a row sees, itself included; 0 for all
     */
    record Attention(Value out, Value queries, int layer, int heads, int headDim, int window, float scale)
            implements Op {
        @Override
        public List<Value> reads() {
            return List.of(queries);
        }
    }

    /** An activation function of {@code in}, times {@code gated} where that is not null. */
    record Activate(Value out, Value in, @Nullable Value gated, Activation function) implements Op {
        @Override
        public List<Value> reads() {
            return gated == null ? List.of(in) : List.of(in, gated);
        }
    }

    /** A sum. */
    record Add(Value out, Value a, Value b) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(a, b);
        }
    }

    /** Picks the rows whose logits are wanted. */
    record GatherRows(Value out, Value in) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(in);
        }
    }
}
