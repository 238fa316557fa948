package dev.lamina.internal.model;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Adds predictions to a program: where rows choose experts, what the next router computes is computed on the residual
 * stream as it is there. From layer to layer that changes little, which is what residual connections are about.
 */
public final class Predictions {
    private final Program program;
    private final List<Value> values;
    private final List<Op> flat = new ArrayList<>(); // experts are one op here

    private Predictions(Program program) {
        this.program = program;
        this.values = new ArrayList<>(program.values());
        program.stages().forEach(stage -> flat.addAll(stage.ops()));
    }

    /** The program with a prediction at each choice of experts, where the next router's logits can be computed. */
    public static Program addedTo(Program program) {
        return new Predictions(program).add();
    }

    private Program add() {
        var choices = new ArrayList<Integer>(); // places of Experts
        for (int i = 0; i < flat.size(); i++) {
            if (flat.get(i) instanceof Op.Experts) {
                choices.add(i);
            }
        }
        var replaced = new HashMap<Integer, Op>();
        for (int i = 0; i + 1 < choices.size(); i++) {
            int now = choices.get(i);
            var experts = (Op.Experts) flat.get(now);
            replaced.put(now, experts.with(prediction(now, choices.get(i + 1))));
        }
        int at = 0;
        var stages = new ArrayList<Stage>();
        for (var stage : program.stages()) {
            var ops = new ArrayList<Op>();
            for (var op : stage.ops()) {
                ops.add(replaced.getOrDefault(at++, op));
            }
            stages.add(new Stage(stage.name(), stage.tensors(), List.copyOf(ops)));
        }
        return program.with(stages, values);
    }

    /** The prediction of the choice at the second place, from what is there at the first; null if there is none. */
    private Op.@Nullable Prediction prediction(int now, int next) {
        var choice = (Op.Experts) flat.get(next);
        var chain = chain(now, next, choice.logits());
        if (chain == null || chain.stream().filter(Op.Linear.class::isInstance).count() != 1) {
            return null;
        }
        var copies = new HashMap<Integer, Value>();
        var ops = new ArrayList<Op>();
        for (var op : chain) {
            var copy = copy(op, copies);
            if (copy == null) {
                return null;
            }
            ops.add(copy);
        }
        return new Op.Prediction(ops, copies.get(choice.logits().id()), choice.router(), choice.bias());
    }

    /**
     * The ops that compute a value from what was written before the choice at {@code now}; null if they need what was
     * not.
     */
    private @Nullable List<Op> chain(int now, int next, Value logits) {
        var wanted = new HashSet<Integer>();
        wanted.add(logits.id());
        var chain = new ArrayList<Op>();
        var writtenBefore = new HashSet<Integer>();
        for (var op : flat.subList(0, now)) {
            if (op.out() != null) {
                writtenBefore.add(op.out().id());
            }
        }
        for (int i = next - 1; i > now; i--) {
            var op = flat.get(i);
            if (op.out() != null && wanted.contains(op.out().id()) && !writtenBefore.contains(op.out().id())) {
                chain.addFirst(op);
                op.reads().forEach(value -> wanted.add(value.id()));
            }
        }
        var made = new HashSet<Integer>();
        for (var op : chain) {
            if (!op.reads().stream().allMatch(value ->
                    writtenBefore.contains(value.id()) || made.contains(value.id()))) {
                return null;
            }
            made.add(op.out().id());
        }
        return made.contains(logits.id()) ? chain : null;
    }

    /** The op with values of its own for what it writes; null for ops that no router has. */
    private @Nullable Op copy(Op op, Map<Integer, Value> copies) {
        return switch (op) {
            case Op.Norm norm -> new Op.Norm(written(norm.out(), copies), read(norm.in(), copies), norm.centred(),
                    norm.weight(), norm.groups(), norm.epsilon());
            case Op.AddVector add -> new Op.AddVector(written(add.out(), copies), read(add.a(), copies), add.vector());
            case Op.Scale scale -> new Op.Scale(written(scale.out(), copies), read(scale.a(), copies), scale.scale(),
                    scale.vector());
            case Op.Linear linear -> new Op.Linear(written(linear.out(), copies), read(linear.in(), copies),
                    linear.matrix(), linear.firstRow(), linear.bias());
            default -> null;
        };
    }

    private static Value read(Value value, Map<Integer, Value> copies) {
        var copy = copies.get(value.id());
        return copy == null ? value : value.of(copy);
    }

    private Value written(Value value, Map<Integer, Value> copies) {
        var copy = copies.computeIfAbsent(value.id(), id -> {
            var whole = new Value(values.size(), value.whole().width(), value.rows());
            values.add(whole);
            return whole;
        });
        return value.of(copy);
    }
}
