package dev.lamina.internal.shard;

/**
 * How to split.
 *
 * @param deleteOriginal delete each file of the original once all its tensors are on disk and were read back
 */
public record SplitOptions(boolean deleteOriginal) {}
