package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** Qwen3: Qwen2 with normalised heads of queries and keys, and without their biases. */
final class Qwen3 implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("head_dim", 128, "max_position_embeddings", 32768);

    @Override
    public String name() {
        return "Qwen3";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Qwen3ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("qwen3");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder builder) {
        var config = given.withDefaults(DEFAULTS);
        boolean bias = config.booleanOr("attention_bias", false);
        return new LlamaDecoder(name(), bias, bias, false, true, Qwen2.window(config))
                .build(config, builder);
    }
}
