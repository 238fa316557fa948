package dev.lamina.internal.model;

import java.util.List;
import java.util.stream.Stream;

/**
 * One part of a program: the embedding, a layer, or the head.
 *
 * @param name {@code "embedding"}, {@code "layer.000"} and so on, or {@code "head"}: also the name of its shard
 * @param tensors the tensors it is the first to use, in the order of use
 * @param ops what it computes
 */
public record Stage(String name, List<String> tensors, List<Op> ops) {
    /** The ops, those of all experts included. */
    public Stream<Op> flatOps() {
        return ops.stream().flatMap(Op::flat);
    }

    /** What its rows' next choices of experts are predicted with. */
    public Stream<Op.Linear> predictionProducts() {
        return ops.stream()
                .filter(op -> op instanceof Op.Experts experts && experts.prediction() != null)
                .map(op -> ((Op.Experts) op).prediction().product());
    }
}
