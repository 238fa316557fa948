package dev.lamina.internal.shard;

import java.util.List;

/**
 * What one stage of a model's program reads.
 *
 * @param stage name of the stage, which becomes the name of its shard: lower-case letters, digits, '.', '-' and '_',
 *     for example {@code embedding}, {@code layer.000}, {@code head}
 * @param tensors names of its tensors in the order of their first use
 */
public record StageTensors(String stage, List<String> tensors) {
    /** Copies the list. */
    public StageTensors {
        tensors = List.copyOf(tensors);
    }
}
