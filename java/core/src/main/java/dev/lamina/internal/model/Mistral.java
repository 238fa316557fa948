package dev.lamina.internal.model;

import java.util.Set;

/** Mistral: Llama with a sliding window in every layer, where the configuration names one. */
final class Mistral implements Architecture {
    /** The window where the configuration has no such key at all; {@code null} there means none. */
    private static final int DEFAULT_WINDOW = 4096;

    private static final int DEFAULT_KV_HEADS = 8;

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
    public Program build(ModelConfig config, ProgramBuilder builder) {
        int fallback = config.mentions("sliding_window") ? 0 : DEFAULT_WINDOW;
        int window = config.intOr("sliding_window", fallback, 0, Integer.MAX_VALUE);
        int kvHeads = config.mentions("num_key_value_heads") ? 0 : DEFAULT_KV_HEADS;
        return new LlamaDecoder(name(), false, false, false, false, 0, kvHeads, layer -> window).build(config, builder);
    }
}
