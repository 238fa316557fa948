package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.Tensor;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntConsumer;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;

/**
 * Records a program while an {@link Architecture} describes its model, much as modelling code would compute it. Each
 * tensor that is named is looked up in the checkpoint and checked against the shape that the configuration asks for.
 */
public final class ProgramBuilder {
    private static final int F8_BLOCK = 128; // rows and columns that share a scale
    private static final int MXFP4_BLOCK = 32; // columns that share a scale
    private static final int MAX_OPS = 1 << 21; // each takes some Java heap; DeepSeek V3 has about 10^5
    private static final int MAX_EXPERTS = 1 << 17; // of all layers; each takes some Java heap

    private final Checkpoint checkpoint;
    private final List<Stage> stages = new ArrayList<>();
    private final List<Value> values = new ArrayList<>();
    private final List<KvShape> kv = new ArrayList<>();
    private final List<Rope> ropes = new ArrayList<>();
    private final Map<String, Vector> vectors = new LinkedHashMap<>();
    private final Set<String> used = new LinkedHashSet<>();
    private String stageName = "";
    private String prefix = "";
    private List<String> stageTensors = new ArrayList<>();
    private List<Op> ops = new ArrayList<>(); // of the stage, or of the expert that is recorded
    private @Nullable List<Value> expertValues; // of the first expert of a mixture, for all others too
    private int expertValue; // the next of them
    private int recorded; // ops
    private int expertCount; // of all mixtures so far
    private @Nullable Value embedded;
    private @Nullable String embedding;
    private int tokens;
    private @Nullable Value logits;

    ProgramBuilder(Checkpoint checkpoint) {
        this.checkpoint = checkpoint;
    }

    /** Whether the checkpoint has a tensor; the prefix of the stage is not added. */
    boolean has(String tensor) {
        return checkpoint.find(tensor) != null;
    }

    /** The whole name of a tensor of the stage: its prefix is added. */
    String own(String tensor) {
        return prefix + tensor;
    }

    /** The dimensions of a tensor; the prefix of the stage is not added. */
    List<Long> shape(String tensor) {
        return checkpoint.tensor(tensor).shape();
    }

    /** Begins a stage; {@code prefix} is put before each tensor name that follows. */
    void stage(String name, String prefix) {
        endStage();
        this.stageName = name;
        this.prefix = prefix;
    }

    /** Begins the stage of layer {@code index}. */
    void layer(int index, String prefix) {
        stage("layer.%03d".formatted(index), prefix);
    }

    /** Adds a rotary embedding to the program; what it returns is for {@link #rotate}. */
    Rope rope(Rope rope) {
        for (var known : ropes) {
            if (known.equals(rope.withId(known.id()))) {
                return known;
            }
        }
        var added = rope.withId(ropes.size());
        ropes.add(added);
        return added;
    }

    /** Looks the rows' tokens up in an embedding table of shape (tokens, width). */
    Value embed(String table, int tokens, int width) {
        use(prefix + table, tokens, width);
        requirePlain(checkpoint.tensor(prefix + table));
        this.embedding = prefix + table;
        this.tokens = tokens;
        embedded = value(width, Value.Rows.ALL);
        add(new Op.Embed(embedded));
        return embedded;
    }

    /** A norm of whole rows, with {@code name.weight}, and {@code name.bias} where the style has one. */
    Value norm(Value in, String name, NormStyle style) {
        var weight = vector(name + ".weight", in.width(), style.plusOne());
        var out = value(in.width(), in.rows());
        add(new Op.Norm(out, in, style.centred(), weight, 1, style.epsilon()));
        if (style.biased()) {
            add(new Op.AddVector(out, out, vector(name + ".bias", in.width(), false)));
        }
        return out;
    }

    /**
     * A norm of each head of {@code x}, in place, with {@code name.weight}, and {@code name.bias} where the style has
     * one: one for all heads, or of all heads one after the other.
     */
    void normHeads(Value x, String name, int heads, NormStyle style) {
        int length = elements(prefix + name + ".weight") == x.width() ? x.width() : x.width() / heads;
        add(new Op.Norm(x, x, style.centred(), vector(name + ".weight", length, style.plusOne()), heads,
                style.epsilon()));
        if (style.biased()) {
            var bias = prefix + name + ".bias";
            var part = new Vector.Stored(bias, Vector.Change.NONE);
            add(new Op.AddVector(x, x, joined(bias, x.width(), Collections.nCopies(x.width() / length, part))));
        }
    }

    /** The same with a vector from {@link #joined} or without one. */
    void normHeads(Value x, @Nullable String vector, int heads, boolean centred, float epsilon) {
        add(new Op.Norm(x, x, centred, vector, heads, epsilon));
    }

    /** {@code in} times the transposed {@code name.weight}, of shape (width, in.width), plus {@code name.bias}. */
    Value linear(Value in, String name, int width, boolean bias) {
        return product(in, matrix(name + ".weight", width, in.width()), 0, width,
                bias ? bias(name + ".bias", width) : null);
    }

    /** The same for consecutive rows of a matrix, of which there are {@code width}. */
    Value product(Value in, Matrix matrix, int firstRow, int width, Op.@Nullable Bias bias) {
        var out = value(width, in.rows());
        productInto(out, in, matrix, firstRow, bias);
        return out;
    }

    /** The same, with the result in columns of another value. */
    void productInto(Value out, Value in, Matrix matrix, int firstRow, Op.@Nullable Bias bias) {
        if (matrix.columns() != in.width() || firstRow < 0 || firstRow > matrix.rows() - out.width()) {
            throw new IllegalArgumentException(out + " = " + in + " x " + matrix + " from row " + firstRow);
        }
        add(new Op.Linear(out, in, matrix, firstRow, bias));
    }

    /** {@code in} times consecutive rows of a matrix as they are, of which there are {@code in.width()}. */
    Value transposed(Value in, Matrix matrix, int firstRow, Op.@Nullable Bias bias) {
        var out = value(matrix.columns(), in.rows());
        transposedInto(out, in, matrix, firstRow, bias);
        return out;
    }

    /** The same, with the result in columns of another value. */
    void transposedInto(Value out, Value in, Matrix matrix, int firstRow, Op.@Nullable Bias bias) {
        if (matrix.columns() != out.width() || firstRow < 0 || firstRow > matrix.rows() - in.width()
                || matrix.format() == Matrix.Format.MXFP4) {
            throw new IllegalArgumentException(out + " = " + in + " x " + matrix + " from row " + firstRow);
        }
        add(new Op.LinearTransposed(out, in, matrix, firstRow, bias));
    }

    /** The bias {@code name} of shape (width). */
    Op.Bias bias(String name, int width) {
        return new Op.Bias(vector(name, width, false), 0);
    }

    /** A vector of that many numbers; plusOne: 1 is added to each. Returns its name in the program. */
    String vector(String name, long length, boolean plusOne) {
        return joined(prefix + name, length,
                List.of(new Vector.Stored(prefix + name, plusOne ? Vector.Change.PLUS_ONE : Vector.Change.NONE)));
    }

    /**
     * A vector of several parts.
     *
     * @param name another one than any other vector's
     * @param length numbers of all parts
     */
    String joined(String name, long length, List<? extends Vector.Part> parts) {
        long found = 0;
        var tensors = new ArrayList<Tensor>();
        for (var part : parts) {
            switch (part) {
                case Vector.Given given -> found += given.values().size();
                case Vector.Stored stored -> {
                    var tensor = checkpoint.tensor(stored.tensor());
                    tensors.add(tensor);
                    found += elements(stored.tensor());
                }
            }
        }
        for (var tensor : tensors) {
            if (found != length) {
                throw wrongShape(tensor, List.of(length));
            }
            requirePlain(tensor);
            note(tensor.name());
        }
        vectors.put(name, new Vector(name, List.copyOf(parts)));
        return name;
    }

    private long elements(String tensor) {
        var found = checkpoint.tensor(tensor);
        return found.bytes() / found.dtype().bytes();
    }

    /**
     * A weight that streams, of these dimensions: the last is that of its columns. Elements of eight bits have their
     * scales beside them, as {@code quantization_config} with the method fp8 has it.
     */
    Matrix matrix(String name, long... shape) {
        var tensor = use(prefix + name, shape);
        int columns = Math.toIntExact(shape[shape.length - 1]);
        int rows = Math.toIntExact(LongStream.of(shape).reduce(1, Math::multiplyExact) / columns);
        if (tensor.dtype() != DType.F8_E4M3) {
            requirePlain(tensor);
            return new Matrix(tensor.name(), rows, columns, Matrix.Format.valueOf(tensor.dtype().name()), null);
        }
        long blocks = Math.multiplyExact((long) Math.ceilDiv(rows, F8_BLOCK), Math.ceilDiv(columns, F8_BLOCK));
        return new Matrix(tensor.name(), rows, columns, Matrix.Format.F8_E4M3,
                vector(name + "_scale_inv", blocks, false));
    }

    /** A weight in {@code name_blocks} of (..., columns / 32, 16) bytes, with its scales in {@code name_scales}. */
    Matrix mxfp4(String name, int outer, int rows, int columns) {
        if (columns % MXFP4_BLOCK != 0) {
            throw new LaminaException(checkpoint.directory() + ": rows of " + columns + " elements of " + name
                    + " cannot be in MXFP4, whose blocks have " + MXFP4_BLOCK + ".");
        }
        long blocks = columns / MXFP4_BLOCK;
        var elements = use(prefix + name + "_blocks", outer, rows, blocks, MXFP4_BLOCK / 2);
        var scales = use(prefix + name + "_scales", outer, rows, blocks);
        for (var tensor : List.of(elements, scales)) {
            if (tensor.dtype() != DType.U8) {
                throw new LaminaException(
                        where(tensor) + " is of type " + tensor.dtype() + ", but MXFP4 is stored as U8.");
            }
        }
        return new Matrix(elements.name(), Math.multiplyExact(outer, rows), columns, Matrix.Format.MXFP4,
                scales.name());
    }

    /** Rotates the heads of {@code x} in place: pairs of a head lie half a rotation apart. */
    Value rotate(Value x, Rope rope, int heads) {
        add(new Op.Rotate(x, rope, heads, x.width() / heads, false));
        return x;
    }

    /** The same for pairs that are neighbours. */
    Value rotateInterleaved(Value x, Rope rope, int heads) {
        add(new Op.Rotate(x, rope, heads, x.width() / heads, true));
        return x;
    }

    /** Rotates the last elements of each head of {@code x}, as many as the rope has. */
    void rotateEnds(Value x, Rope rope, int heads, boolean interleaved) {
        int headDim = x.width() / heads;
        int first = headDim - rope.dim();
        add(new Op.Rotate(x.columns(first, x.width() - first), rope, heads, headDim, interleaved));
    }

    /** Stores keys and values in a KV layer of their own, then attends over it. */
    Value attention(Value queries, Value keys, Value values, int heads, int kvHeads, Attending attending) {
        int headDim = queries.width() / heads;
        int headDimV = values.width() / kvHeads;
        int layer = kv.size();
        kv.add(new KvShape(KvShape.Kind.HEADS, kvHeads, headDim, headDimV, attending.reach()));
        add(new Op.KvStore(keys, values, layer));
        return attend(queries, layer, heads, headDim, headDimV, attending);
    }

    /** Stores keys that all heads share, whose first elements are the value, in a KV layer of its own: its number. */
    int storeLatents(Value keys, int headDimV, int reach) {
        int layer = kv.size();
        kv.add(new KvShape(KvShape.Kind.LATENT, 1, keys.width(), headDimV, reach));
        add(new Op.KvStore(keys, null, layer));
        return layer;
    }

    /** Attends over a KV layer; {@code headDim} is that of keys and queries. */
    Value attend(Value queries, int layer, int heads, int headDim, int headDimV, Attending attending) {
        var out = value(Math.multiplyExact(heads, headDimV), Value.Rows.ALL);
        add(new Op.Attention(out, queries, layer, heads, headDim, attending));
        return out;
    }

    /**
     * A causal convolution of each column over time.
     *
     * @param weight vector of (width, kernel)
     */
    Value convolution(Value in, String weight, int kernel, Activation function) {
        int layer = kv.size();
        kv.add(new KvShape(KvShape.Kind.STATE, 1, kernel - 1, in.width(), 0));
        var out = value(in.width(), Value.Rows.ALL);
        add(new Op.Convolution(out, in, weight, layer, function));
        return out;
    }

    /** The gated delta rule, see {@code LM_OP_DELTA_RULE}. */
    Value deltaRule(Value in, Value gates, String vector, int heads, int keyDim, int valueHeads, int valueDim,
            float epsilon) {
        int layer = kv.size();
        kv.add(new KvShape(KvShape.Kind.STATE, valueHeads, keyDim, valueDim, 0));
        var out = value(Math.multiplyExact(valueHeads, valueDim), Value.Rows.ALL);
        float scale = (float) (1 / Math.sqrt(keyDim));
        add(new Op.DeltaRule(out, in, gates, vector, layer, heads, scale, epsilon));
        return out;
    }

    /** Replaces {@code in} by {@code function(in) * gated}. */
    Value activate(Activation function, Value in, @Nullable Value gated) {
        add(new Op.Activate(in, in, gated, function, 0));
        return in;
    }

    /** Replaces {@code x} by {@code function(gate) * x}, where each element of the gate may serve several of x. */
    Value gate(Activation function, Value gate, Value x) {
        add(new Op.Activate(x, gate, x, function, 0));
        return x;
    }

    /** The activation of GPT-OSS for pairs of columns, see {@code LM_ACTIVATION_CLAMPED_SWIGLU}. */
    Value clampedSwiglu(Value pairs, float limit) {
        var out = value(pairs.width() / 2, pairs.rows());
        add(new Op.Activate(out, pairs, null, Activation.CLAMPED_SWIGLU, limit));
        return out;
    }

    /** Keeps each element of {@code x} within a limit, smoothly, in place. */
    void softCap(Value x, float limit) {
        add(new Op.Activate(x, x, null, Activation.SOFT_CAP, limit));
    }

    /** Keeps each element of {@code x} between {@code -limit} and {@code limit}, in place: what is beyond goes. */
    void clamp(Value x, float limit) {
        var below = joined("%d times %s".formatted(x.width(), -limit), x.width(),
                List.of(new Vector.Given(Collections.nCopies(x.width(), -limit))));
        for (int sign : new int[] {-1, 1}) {
            var beyond = value(x.width(), x.rows());
            add(new Op.Scale(beyond, x, sign, null));
            add(new Op.AddVector(beyond, beyond, below));
            activate(Activation.RELU, beyond, null);
            addTo(x, beyond, -sign);
        }
    }

    /** Adds {@code y} to {@code x} in place. */
    void addTo(Value x, Value y) {
        addTo(x, y, 1);
    }

    /** Adds {@code scale * y} to {@code x} in place. */
    void addTo(Value x, Value y, float scale) {
        add(new Op.Add(x, x, y, scale));
    }

    /** Multiplies {@code x} with a number in place. */
    void scale(Value x, float scale) {
        add(new Op.Scale(x, x, scale, null));
    }

    /** A copy of columns that do not lie side by side with others that an op needs. */
    void copyInto(Value out, Value in) {
        add(new Op.Scale(out, in, 1, null));
    }

    /** A new matrix of all rows, for ops that write columns of it. */
    Value matrixOf(int width) {
        return value(width, Value.Rows.ALL);
    }

    /** Keeps the rows whose logits are wanted. */
    Value outputRows(Value in) {
        var out = value(in.width(), Value.Rows.OUTPUT);
        add(new Op.GatherRows(out, in, false));
        return out;
    }

    /**
     * A mixture of experts.
     *
     * @param logits (rows, count): what the rows choose by
     * @param bias name of a vector that is added to their scores for the choice; null for none
     * @param expert records what expert number n computes, from {@link #chosenRows} to {@link #addToChosen}; all do the
     *     same, with weights of their own
     */
    void experts(Value logits, Router router, @Nullable String bias, int count, IntConsumer expert) {
        expertCount = Math.addExact(expertCount, count);
        if (expertCount > MAX_EXPERTS) {
            throw new LaminaException(checkpoint.directory() + ": config.json asks for more than " + MAX_EXPERTS
                    + " experts: no published model comes near that.");
        }
        if (router.chosen() > count) {
            throw new LaminaException(checkpoint.directory() + ": config.json lets a row choose " + router.chosen()
                    + " of " + count + " experts.");
        }
        var around = ops;
        var each = new ArrayList<List<Op>>();
        expertValues = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            ops = new ArrayList<>();
            expertValue = 0;
            expert.accept(i);
            each.add(ops);
        }
        expertValues = null;
        ops = around;
        add(new Op.Experts(logits, router, bias, each, null));
    }

    /** The rows that chose the expert; weighted: times the weights that they gave it. */
    Value chosenRows(Value in, boolean weighted) {
        var out = value(in.width(), Value.Rows.LIST);
        add(new Op.GatherRows(out, in, weighted));
        return out;
    }

    /** Adds what the expert made to the rows that chose it; weighted: times the weights that they gave it. */
    void addToChosen(Value x, Value y, boolean weighted) {
        add(new Op.ScatterAdd(x, y, weighted));
    }

    /**
     * The tensor of the head: {@code lm_head.weight}, or the embedding where the configuration ties them. A head of its
     * own wins over a configuration that says there is none, as in the transformers library.
     *
     * @param tiedByDefault whether a configuration that says nothing ties them
     */
    String head(ModelConfig config, String embedding, boolean tiedByDefault) {
        return head(config, "lm_head.weight", embedding, tiedByDefault);
    }

    /** The same for a head with another name. */
    String head(ModelConfig config, String own, String embedding, boolean tiedByDefault) {
        return config.booleanOr("tie_word_embeddings", tiedByDefault) && !has(own) ? embedding : own;
    }

    /** {@code in} times the transposed {@code head}, of shape (vocabulary, in.width), which is not prefixed. */
    Value logits(Value in, String head, int vocabulary, @Nullable String bias) {
        prefix = "";
        var matrix = matrix(head, vocabulary, in.width());
        logits = value(vocabulary, Value.Rows.OUTPUT);
        add(new Op.Linear(logits, in, matrix, 0, bias == null ? null : bias(bias, vocabulary)));
        return logits;
    }

    /** Divides the logits by the norms of the rows of the head. */
    void weightNorm(Value logits, float epsilon) {
        add(new Op.WeightNorm(logits, logits, epsilon));
    }

    /** Ends the program. */
    Program program(String architecture, int contextLimit) {
        endStage();
        if (embedding == null || embedded == null || logits == null) {
            throw new IllegalStateException("a program without an embedding or a head");
        }
        return new Program(architecture, List.copyOf(stages), List.copyOf(values), List.copyOf(kv), List.copyOf(ropes),
                embedding, tokens, embedded.width(), logits, List.copyOf(vectors.values()), contextLimit);
    }

    private void endStage() {
        if (!ops.isEmpty()) {
            stages.add(new Stage(stageName, List.copyOf(stageTensors), List.copyOf(ops)));
            stageTensors = new ArrayList<>();
            ops = new ArrayList<>();
        }
    }

    private void add(Op op) {
        if (++recorded > MAX_OPS) {
            throw new LaminaException(checkpoint.directory() + ": config.json asks for more than " + MAX_OPS
                    + " operations in all layers and experts: no published model comes near that.");
        }
        ops.add(op);
    }

    private Value value(int width, Value.Rows rows) {
        if (expertValues != null && expertValue < expertValues.size()) {
            var same = expertValues.get(expertValue++);
            if (same.width() != width || same.rows() != rows) {
                throw new IllegalStateException("experts that do not compute the same");
            }
            return same;
        }
        var value = new Value(values.size(), width, rows);
        values.add(value);
        if (expertValues != null) {
            expertValues.add(value);
            expertValue++;
        }
        return value;
    }

    /** Notes a tensor in the order of its first use and checks its shape. */
    private Tensor use(String name, long... shape) {
        var tensor = checkpoint.tensor(name);
        var expected = LongStream.of(shape).boxed().toList();
        if (!tensor.shape().equals(expected)) {
            throw wrongShape(tensor, expected);
        }
        note(name);
        return tensor;
    }

    private void note(String name) {
        if (used.add(name)) {
            stageTensors.add(name);
        }
    }

    private static LaminaException wrongShape(Tensor tensor, List<Long> expected) {
        return new LaminaException(where(tensor) + " has shape " + tensor.shape() + ", but config.json asks for "
                + expected + ": they belong to different models.");
    }

    private static void requirePlain(Tensor tensor) {
        switch (tensor.dtype()) {
            case F32, F16, BF16 -> { }
            default -> throw new LaminaException(where(tensor) + " is of type " + tensor.dtype()
                    + ", which is not supported here; F32, F16 and BF16 are.");
        }
    }

    private static String where(Tensor tensor) {
        return tensor.parts().getFirst().file() + ": the tensor " + tensor.name();
    }
}
