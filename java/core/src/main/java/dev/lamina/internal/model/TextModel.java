package dev.lamina.internal.model;

import java.util.List;

/**
 * Where the language model is in a checkpoint that may have more, such as an encoder of images, which is left alone.
 *
 * @param config its configuration: {@code text_config} where there is one
 * @param prefix what the names of its tensors begin with
 * @param ownHead the name that a head of its own has
 */
record TextModel(ModelConfig config, String prefix, String ownHead) {
    /** What language models' names begin with, and their heads: alone, as first published, as written since. */
    private static final List<List<String>> NAMES = List.of(
            List.of("model.", "lm_head.weight"),
            List.of("language_model.model.", "language_model.lm_head.weight"),
            List.of("model.language_model.", "lm_head.weight"));

    /** Finds it by its embedding. */
    static TextModel of(ModelConfig config, ProgramBuilder p) {
        var names = NAMES.stream()
                .filter(each -> p.has(each.getFirst() + "embed_tokens.weight"))
                .findFirst()
                .orElse(NAMES.getFirst());
        return new TextModel(config.text(), names.getFirst(), names.getLast());
    }

    /** The tensor of the head; {@code outer} is the configuration of all. */
    String head(ModelConfig outer, ProgramBuilder p, boolean tiedByDefault) {
        boolean tied = config.booleanOr("tie_word_embeddings", tiedByDefault);
        return p.head(outer, ownHead, prefix + "embed_tokens.weight", tied);
    }
}
