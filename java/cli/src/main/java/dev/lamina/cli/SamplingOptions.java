package dev.lamina.cli;

import dev.lamina.GenerationOptions;
import java.util.List;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Options that say how a text is generated. What is not given comes from the model's generation_config.json. */
final class SamplingOptions {
    @Option(names = {"-n", "--max-tokens"}, paramLabel = "N",
            description = "Most tokens to generate. Default: 256, in a chat 1024.")
    private @Nullable Integer maxTokens;

    @Option(names = "--temperature", paramLabel = "X", description = "0: always the likeliest token.")
    private @Nullable Double temperature;

    @Option(names = "--top-k", paramLabel = "N", description = "Sample among that many likeliest tokens; 0: among all.")
    private @Nullable Integer topK;

    @Option(names = "--top-p", paramLabel = "X",
            description = "Sample among the likeliest tokens that together have this probability.")
    private @Nullable Double topP;

    @Option(names = "--min-p", paramLabel = "X",
            description = "Sample among tokens at least this much as likely as the likeliest.")
    private @Nullable Double minP;

    @Option(names = "--repetition-penalty", paramLabel = "X",
            description = "Hold back tokens that were seen; 1: do not.")
    private @Nullable Double repetitionPenalty;

    @Option(names = "--seed", paramLabel = "N", description = "The same seed gives the same text.")
    private @Nullable Long seed;

    @Option(names = "--stop", paramLabel = "TEXT", description = "Stop before this text. May be repeated.")
    private List<String> stop = List.of();

    @Option(names = "--ignore-eos", description = "Go on past the model's end tokens.")
    private boolean ignoreEos;

    @Spec(Spec.Target.MIXEE)
    private CommandSpec spec;

    /** The options, checked. */
    GenerationOptions options(int defaultMaxTokens) {
        return EngineOptions.checked(spec, () -> GenerationOptions.builder()
                .maxTokens(maxTokens == null ? defaultMaxTokens : maxTokens)
                .temperature(temperature)
                .topK(topK)
                .topP(topP)
                .minP(minP)
                .repetitionPenalty(repetitionPenalty)
                .seed(seed)
                .stop(stop)
                .ignoreEos(ignoreEos)
                .build());
    }
}
