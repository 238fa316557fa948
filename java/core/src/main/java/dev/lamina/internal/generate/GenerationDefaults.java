package dev.lamina.internal.generate;

import dev.lamina.GenerationOptions;
import dev.lamina.internal.model.ModelConfig;
import java.nio.file.Path;
import java.util.Set;
import java.util.TreeSet;

/**
 * What a model's {@code generation_config.json} says, and what its users' options leave open.
 *
 * @param sample whether to sample at all; greedy otherwise
 * @param stopTokens all tokens that end a text
 */
record GenerationDefaults(
        boolean sample,
        double temperature,
        int topK,
        double topP,
        double minP,
        double repetitionPenalty,
        Set<Integer> stopTokens) {
    /** The value of {@code top_k} where sampling is on and the file has none, as in the transformers library. */
    private static final int DEFAULT_TOP_K = 50;

    /** Reads generation_config.json of a model folder; end tokens also come from its config.json. */
    static GenerationDefaults load(Path directory, ModelConfig config) {
        var stopTokens = new TreeSet<>(config.endTokens());
        var file = ModelConfig.loadIfPresent(directory.resolve("generation_config.json"));
        if (file == null) {
            return new GenerationDefaults(false, 1, 0, 1, 0, 1, Set.copyOf(stopTokens));
        }
        if (file.has("eos_token_id")) {
            stopTokens = new TreeSet<>(file.ids("eos_token_id"));
        }
        boolean sample = file.booleanOr("do_sample", false);
        return new GenerationDefaults(
                sample,
                file.doubleOr("temperature", 1, 0, Double.MAX_VALUE),
                Math.max(0, file.intOr("top_k", sample ? DEFAULT_TOP_K : 0, -1, Integer.MAX_VALUE)),
                file.doubleOr("top_p", 1, Double.MIN_VALUE, 1),
                file.doubleOr("min_p", 0, 0, 1),
                file.positiveOr("repetition_penalty", 1),
                Set.copyOf(stopTokens));
    }

    /** A sampler for one sequence. */
    Sampler sampler(GenerationOptions options, long seed) {
        double temperature = options.temperature() != null ? options.temperature() : sample ? this.temperature : 0;
        return new Sampler(
                temperature,
                options.topK() != null ? options.topK() : topK,
                options.topP() != null ? options.topP() : topP,
                options.minP() != null ? options.minP() : minP,
                options.repetitionPenalty() != null ? options.repetitionPenalty() : repetitionPenalty,
                seed);
    }
}
