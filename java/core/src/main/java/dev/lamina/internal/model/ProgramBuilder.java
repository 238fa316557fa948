package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/**
 * Records a program while an {@link Architecture} describes its model, much as modelling code would compute it. Each
 * tensor that is named is looked up in the checkpoint and checked against the shape that the configuration asks for.
 */
public final class ProgramBuilder {
    private final Checkpoint checkpoint;
    private final List<Stage> stages = new ArrayList<>();
    private final List<Value> values = new ArrayList<>();
    private final List<KvShape> kv = new ArrayList<>();
    private final List<Rope> ropes = new ArrayList<>();
    private final Set<String> vectors = new LinkedHashSet<>();
    private final Set<String> used = new LinkedHashSet<>();
    private String stageName = "";
    private String prefix = "";
    private List<String> stageTensors = new ArrayList<>();
    private List<Op> stageOps = new ArrayList<>();

    ProgramBuilder(Checkpoint checkpoint) {
        this.checkpoint = checkpoint;
    }

    /** Whether the checkpoint has a tensor; the prefix of the stage is not added. */
    boolean has(String tensor) {
        return checkpoint.find(tensor) != null;
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

    /** A rotary embedding for the heads of this model. */
    Rope rope(ModelConfig config, int headDim, int maxPositions) {
        var rope = Rope.of(config, ropes.size(), headDim, maxPositions);
        ropes.add(rope);
        return rope;
    }

    /** Looks the rows' tokens up in an embedding table of shape (tokens, width). */
    Value embed(String table, int tokens, int width) {
        use(prefix + table, tokens, width);
        var out = value(width, false);
        stageOps.add(new Op.Embed(out));
        return out;
    }

    /** Root mean square norm of whole rows. */
    Value rmsNorm(Value in, String weight, float epsilon) {
        vector(weight, in.width());
        var out = value(in.width(), in.outputRows());
        stageOps.add(new Op.RmsNorm(out, in, prefix + weight, 1, epsilon));
        return out;
    }

    /** Root mean square norm of each head of {@code x}, in place, with one weight for all heads. */
    void rmsNormHeads(Value x, String weight, int heads, float epsilon) {
        vector(weight, x.width() / heads);
        stageOps.add(new Op.RmsNorm(x, x, prefix + weight, heads, epsilon));
    }

    /** {@code in} times the transposed {@code name.weight}, of shape (width, in.width), plus {@code name.bias}. */
    Value linear(Value in, String name, int width, boolean bias) {
        use(prefix + name + ".weight", width, in.width());
        if (bias) {
            vector(name + ".bias", width);
        }
        var out = value(width, in.outputRows());
        stageOps.add(new Op.Linear(out, in, prefix + name + ".weight", bias ? prefix + name + ".bias" : null));
        return out;
    }

    /** Rotates the heads of {@code x} in place. */
    Value rotate(Value x, Rope rope, int heads) {
        stageOps.add(new Op.Rotate(x, rope, heads, x.width() / heads));
        return x;
    }

    /** Stores keys and values in a KV layer of their own, then attends over it. */
    Value attention(Value queries, Value keys, Value values, int heads, int kvHeads, int window, float scale) {
        int layer = kv.size();
        int headDim = queries.width() / heads;
        int headDimV = values.width() / kvHeads;
        kv.add(new KvShape(kvHeads, headDim, headDimV));
        stageOps.add(new Op.KvStore(keys, values, layer));
        var out = value(Math.multiplyExact(heads, headDimV), false);
        stageOps.add(new Op.Attention(out, queries, layer, heads, headDim, window, scale));
        return out;
    }

    /** Replaces {@code in} by {@code function(in) * gated}. */
    Value activate(Activation function, Value in, Value gated) {
        stageOps.add(new Op.Activate(in, in, gated, function));
        return in;
    }

    /** Adds {@code y} to {@code x} in place. */
    void addTo(Value x, Value y) {
        stageOps.add(new Op.Add(x, x, y));
    }

    /** Keeps the rows whose logits are wanted. */
    Value outputRows(Value in) {
        var out = value(in.width(), true);
        stageOps.add(new Op.GatherRows(out, in));
        return out;
    }

    /**
     * Ends the program: the logits are {@code in} times the transposed {@code head}, of shape (vocabulary, in.width).
     */
    Program logits(String architecture, String embedding, Value in, String head, int vocabulary, int contextLimit) {
        use(head, vocabulary, in.width());
        var logits = value(vocabulary, true);
        stageOps.add(new Op.Linear(logits, in, head, null));
        endStage();
        return new Program(architecture, List.copyOf(stages), List.copyOf(values), List.copyOf(kv), List.copyOf(ropes),
                embedding, vocabulary, in.width(), logits, Set.copyOf(vectors), contextLimit);
    }

    private void endStage() {
        if (!stageOps.isEmpty()) {
            stages.add(new Stage(stageName, List.copyOf(stageTensors), List.copyOf(stageOps)));
            stageTensors = new ArrayList<>();
            stageOps = new ArrayList<>();
        }
    }

    private Value value(int width, boolean outputRows) {
        var value = new Value(values.size(), width, outputRows);
        values.add(value);
        return value;
    }

    private void vector(String name, int length) {
        use(prefix + name, length);
        vectors.add(prefix + name);
    }

    /** Notes a tensor in the order of its first use and checks its shape and type. */
    private void use(String name, long... shape) {
        var tensor = checkpoint.tensor(name);
        var expected = new ArrayList<Long>();
        for (long size : shape) {
            expected.add(size);
        }
        var file = tensor.parts().getFirst().file();
        if (!tensor.shape().equals(expected)) {
            throw new LaminaException(file + ": the tensor " + name + " has shape " + tensor.shape()
                    + ", but config.json asks for " + expected + ": they belong to different models.");
        }
        switch (tensor.dtype()) {
            case F32, F16, BF16 -> { }
            default -> throw new LaminaException(file + ": the tensor " + name + " is of type "
                    + tensor.dtype() + ", which is not supported; F32, F16 and BF16 are.");
        }
        if (used.add(name)) {
            stageTensors.add(name);
        }
    }
}
