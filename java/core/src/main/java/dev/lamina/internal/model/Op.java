package dev.lamina.internal.model;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/** One op of a program. The formulas stand beside the op codes of {@code lamina.h}. */
public sealed interface Op {
    /** The activation that this op writes; none for {@link KvStore} and {@link Experts}. */
    @Nullable Value out();

    /** The activations that this op reads. */
    List<Value> reads();

    /** The op itself, or those that it is made of: what the weights of its stage are for. */
    default Stream<Op> flat() {
        return Stream.of(this);
    }

    /** The same, and what is computed in between with weights of another stage. */
    default Stream<Op> flatWithPredictions() {
        return flat();
    }

    /** The layer of the KV cache that this op is the first to use; -1: none. */
    default int newLayer() {
        return -1;
    }

    private static List<Value> present(@Nullable Value... values) {
        var present = new ArrayList<Value>();
        for (var value : values) {
            if (value != null) {
                present.add(value);
            }
        }
        return present;
    }

    /** Embedding rows, one for each row of the sweep. */
    record Embed(Value out) implements Op {
        @Override
        public List<Value> reads() {
            return List.of();
        }
    }

    /**
     * A norm of each of {@code groups} equal parts of a row.
     *
     * @param centred whether the mean is subtracted first (layer norm), or not (root mean square norm)
     * @param weight vector of width / groups factors, or of width factors; null for none
     */
    record Norm(Value out, Value in, boolean centred, @Nullable String weight, int groups, float epsilon)
            implements Op {
        @Override
        public List<Value> reads() {
            return List.of(in);
        }
    }

    /** An op whose weight streams. */
    sealed interface Product extends Op permits Linear, LinearTransposed {
        @Override
        Value out();

        /** What it reads. */
        Value in();

        /** The weight, of which this op uses some rows. */
        Matrix matrix();

        /** The first of these rows. */
        int firstRow();

        /** How many. */
        int rows();

        /** What is added. */
        @Nullable Bias bias();

        @Override
        default List<Value> reads() {
            return List.of(in());
        }
    }

    /**
     * Consecutive elements of a vector, as many as the product has columns.
     *
     * @param vector name of the vector
     * @param first the first of its elements
     */
    record Bias(String vector, int first) {}

    /** A product with the transposed rows of a matrix: one column of the result for each row. */
    record Linear(Value out, Value in, Matrix matrix, int firstRow, @Nullable Bias bias) implements Product {
        @Override
        public int rows() {
            return out.width();
        }
    }

    /** A product with the rows of a matrix as they are: one row for each column of what is read. */
    record LinearTransposed(Value out, Value in, Matrix matrix, int firstRow, @Nullable Bias bias)
            implements Product {
        @Override
        public int rows() {
            return in.width();
        }
    }

    /** Divides each column of the logits by the norm of the head's row that it came from. */
    record WeightNorm(Value out, Value in, float epsilon) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(in);
        }
    }

    /**
     * Rotates heads in place by the position of each row.
     *
     * @param x may be shorter than its heads by what is not rotated of the last one
     */
    record Rotate(Value x, Rope rope, int heads, int headDim, boolean interleaved) implements Op {
        @Override
        public Value out() {
            return x;
        }

        @Override
        public List<Value> reads() {
            return List.of(x);
        }
    }

    /** Stores keys and values in a layer of the KV cache; without values where the keys hold them. */
    record KvStore(Value keys, @Nullable Value values, int layer) implements Op {
        @Override
        public @Nullable Value out() {
            return null;
        }

        @Override
        public int newLayer() {
            return layer;
        }

        @Override
        public List<Value> reads() {
            return present(keys, values);
        }
    }

    /** Causal attention over a layer of the KV cache. */
    record Attention(Value out, Value queries, int layer, int heads, int headDim, Attending attending) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(queries);
        }
    }

    /** An activation function of {@code in}, times {@code gated} where that is not null. */
    record Activate(Value out, Value in, @Nullable Value gated, Activation function, float limit) implements Op {
        @Override
        public List<Value> reads() {
            return present(in, gated);
        }
    }

    /** {@code a + scale * b}. */
    record Add(Value out, Value a, Value b, float scale) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(a, b);
        }
    }

    /** {@code a} plus a vector. */
    record AddVector(Value out, Value a, String vector) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(a);
        }
    }

    /** {@code a * scale}, times a vector where that is not null. */
    record Scale(Value out, Value a, float scale, @Nullable String vector) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(a);
        }
    }

    /**
     * Picks the rows that {@code out} has.
     *
     * @param weighted whether rows of an expert are multiplied with the weight that they gave it
     */
    record GatherRows(Value out, Value in, boolean weighted) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(in);
        }
    }

    /**
     * Adds the rows of an expert to those that chose it.
     *
     * @param weighted whether they are multiplied with the weight that these gave it
     */
    record ScatterAdd(Value out, Value in, boolean weighted) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(in, out);
        }
    }

    /** A causal convolution of each column with the rows before, which begins with the state of a layer. */
    record Convolution(Value out, Value in, String weight, int layer, Activation function) implements Op {
        @Override
        public List<Value> reads() {
            return List.of(in);
        }

        @Override
        public int newLayer() {
            return layer;
        }
    }

    /**
     * The gated delta rule, on the state of a layer.
     *
     * @param in queries, keys and values
     * @param gates of each value head
     * @param vector what the gates are computed with
     * @param heads query and key heads
     */
    record DeltaRule(Value out, Value in, Value gates, String vector, int layer, int heads, float scale, float epsilon)
            implements Op {
        @Override
        public List<Value> reads() {
            return List.of(in, gates);
        }

        @Override
        public int newLayer() {
            return layer;
        }
    }

    /**
     * Experts, of which each row chooses some. Only those that a row chose are read; they are computed in the order of
     * their numbers.
     *
     * @param logits one for each expert, in (rows, experts)
     * @param router how rows choose
     * @param bias vector that is added to the scores for the choice; null for none
     * @param experts the ops of each, on the packed rows that chose it
     * @param prediction of what rows choose next; null for none
     */
    record Experts(Value logits, Router router, @Nullable String bias, List<List<Op>> experts,
            @Nullable Prediction prediction) implements Op {
        /** Copies the lists. */
        public Experts {
            experts = experts.stream().map(List::copyOf).toList();
        }

        @Override
        public @Nullable Value out() {
            return null;
        }

        @Override
        public List<Value> reads() {
            return List.of(logits);
        }

        @Override
        public Stream<Op> flat() {
            return Stream.concat(Stream.of(this), experts.stream().flatMap(List::stream));
        }

        @Override
        public Stream<Op> flatWithPredictions() {
            var predicted = prediction == null ? Stream.<Op>empty() : prediction.ops.stream();
            return Stream.concat(Stream.concat(Stream.of(this), predicted), experts.stream().flatMap(List::stream));
        }

        /** The same with another prediction. */
        Experts with(@Nullable Prediction other) {
            return new Experts(logits, router, bias, experts, other);
        }
    }

    /**
     * A prediction of the experts that rows choose next, from what they are when they choose their experts now: the
     * next router sees the same, but for what these experts and the ops up to there add.
     *
     * @param ops what the next router computes, on the rows of now; one of them is a product
     * @param logits what it computes
     * @param router how rows choose by it
     * @param bias vector that is added to the scores for the choice; null for none
     */
    record Prediction(List<Op> ops, Value logits, Router router, @Nullable String bias) {
        /** Copies the list. */
        public Prediction {
            ops = List.copyOf(ops);
        }

        /** The product among the ops. */
        public Linear product() {
            return ops.stream().filter(Linear.class::isInstance).map(Linear.class::cast).findFirst().orElseThrow();
        }
    }
}
