package dev.lamina.internal.model;

import java.util.List;

/**
 * One part of a program: the embedding, a layer, or the head.
 *
 * @param name {@code "embedding"}, {@code "layer.000"} and so on, or {@code "head"}: also the name of its shard
 * @param tensors the tensors it is the first to use, in the order of use
 * @param ops what it computes
 */
public record Stage(String name, List<String> tensors, List<Op> ops) {}
