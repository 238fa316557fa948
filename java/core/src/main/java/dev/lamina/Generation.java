package dev.lamina;

import java.util.List;

/**
 * What a model answered.
 *
 * @param ids the generated token ids, the stop token included
 * @param text their text, without special tokens and without the stop string
 * @param finishReason why it ended
 * @param stats what it took; of prompts that ran together, each has the figures of all of them but for its own tokens
 */
public record Generation(List<Integer> ids, String text, FinishReason finishReason, GenerationStats stats) {
    /** Copies the list. */
    public Generation {
        ids = List.copyOf(ids);
    }
}
