package dev.lamina.internal.shard;

import java.util.List;

/**
 * How to split.
 *
 * @param deleteOriginal delete each file of the original once all its tensors are on disk and were read back
 * @param rates bytes per second, or any numbers of the same proportions, at which the folders can be read: what each
 *     gets of the matrices; empty: measured where there are several folders
 */
public record SplitOptions(boolean deleteOriginal, List<Long> rates) {
    /** Copies the list. */
    public SplitOptions {
        rates = List.copyOf(rates);
    }

    /** Options with measured rates. */
    public SplitOptions(boolean deleteOriginal) {
        this(deleteOriginal, List.of());
    }
}
