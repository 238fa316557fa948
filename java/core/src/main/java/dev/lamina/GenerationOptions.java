package dev.lamina;

import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * How a text is generated. Build one with {@link #builder}. What is null comes from the model's
 * {@code generation_config.json}; where that says nothing, decoding is greedy.
 *
 * @param maxTokens most tokens to generate
 * @param temperature divisor of the logits; 0: greedy, always the likeliest token
 * @param topK sample among that many likeliest tokens; 0: among all
 * @param topP sample among the likeliest tokens that together have this probability; 1: among all
 * @param minP sample among tokens that are at least this much as likely as the likeliest; 0: among all
 * @param repetitionPenalty divisor of the positive logits, and factor of the negative ones, of tokens that were seen;
 *     1: none
 * @param seed the same seed gives the same text, in every mode; null: a different text every time
 * @param stop strings at which to stop; they are not part of the text
 * @param ignoreEos whether to go on past the model's end tokens
 */
public record GenerationOptions(
        int maxTokens,
        @Nullable Double temperature,
        @Nullable Integer topK,
        @Nullable Double topP,
        @Nullable Double minP,
        @Nullable Double repetitionPenalty,
        @Nullable Long seed,
        List<String> stop,
        boolean ignoreEos) {
    /** Checks the ranges and copies the list. */
    public GenerationOptions {
        stop = List.copyOf(stop);
        require(maxTokens >= 0, "maxTokens", maxTokens);
        require(temperature == null || temperature >= 0 && temperature < Double.POSITIVE_INFINITY,
                "temperature", temperature);
        require(topK == null || topK >= 0, "topK", topK);
        require(topP == null || topP > 0 && topP <= 1, "topP", topP);
        require(minP == null || minP >= 0 && minP <= 1, "minP", minP);
        require(repetitionPenalty == null || repetitionPenalty > 0 && repetitionPenalty < Double.POSITIVE_INFINITY,
                "repetitionPenalty", repetitionPenalty);
        require(!stop.contains(""), "stop", "an empty string");
    }

    private static void require(boolean fits, String name, @Nullable Object value) {
        if (!fits) {
            throw new LaminaException("The option " + name + " cannot be " + value + ".");
        }
    }

    /** Begins with the defaults of the model and at most 256 tokens. */
    public static Builder builder() {
        return new Builder();
    }

    /** Builds {@link GenerationOptions}. */
    public static final class Builder {
        private int maxTokens = 256;
        private @Nullable Double temperature;
        private @Nullable Integer topK;
        private @Nullable Double topP;
        private @Nullable Double minP;
        private @Nullable Double repetitionPenalty;
        private @Nullable Long seed;
        private List<String> stop = List.of();
        private boolean ignoreEos;

        private Builder() {}

        /** Most tokens to generate. */
        public Builder maxTokens(int count) {
            this.maxTokens = count;
            return this;
        }

        /** Always the likeliest token. */
        public Builder greedy() {
            return temperature(0.0);
        }

        /** Divisor of the logits; 0: greedy; null: the model's default. */
        public Builder temperature(@Nullable Double value) {
            this.temperature = value;
            return this;
        }

        /** Sample among that many likeliest tokens; 0: among all; null: the model's default. */
        public Builder topK(@Nullable Integer value) {
            this.topK = value;
            return this;
        }

        /** Sample among the likeliest tokens that together have this probability; null: the model's default. */
        public Builder topP(@Nullable Double value) {
            this.topP = value;
            return this;
        }

        /** Sample among tokens at least this much as likely as the likeliest; null: the model's default. */
        public Builder minP(@Nullable Double value) {
            this.minP = value;
            return this;
        }

        /** How much tokens that were seen are held back; 1: not; null: the model's default. */
        public Builder repetitionPenalty(@Nullable Double value) {
            this.repetitionPenalty = value;
            return this;
        }

        /** The same seed gives the same text; null: a different text every time. */
        public Builder seed(@Nullable Long value) {
            this.seed = value;
            return this;
        }

        /** Strings at which to stop. */
        public Builder stop(List<String> strings) {
            this.stop = strings;
            return this;
        }

        /** Whether to go on past the model's end tokens. */
        public Builder ignoreEos(boolean ignore) {
            this.ignoreEos = ignore;
            return this;
        }

        /** The options. */
        public GenerationOptions build() {
            return new GenerationOptions(
                    maxTokens, temperature, topK, topP, minP, repetitionPenalty, seed, stop, ignoreEos);
        }
    }
}
