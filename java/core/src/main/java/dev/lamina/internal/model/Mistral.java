package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** Mistral: Llama with a sliding window in every layer, where the configuration names one. */
final class Mistral implements Architecture {
    private static final Map<String, Number> DEFAULTS =
            Map.of("num_key_value_heads", 8, "sliding_window", 4096, "max_position_embeddings", 131072);

    @Override
    public String name() {
        return "Mistral";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("MistralForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("mistral");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder builder) {
        var config = given.withDefaults(DEFAULTS);
        int window = config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE);
        return new LlamaDecoder(name(), false, false, false, false, layer -> window).build(config, builder);
    }
}
