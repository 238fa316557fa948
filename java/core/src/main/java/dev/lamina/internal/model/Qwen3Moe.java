package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** Qwen3 MoE: Qwen3 with mixtures of experts. */
final class Qwen3Moe implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("num_key_value_heads", 4, "num_experts_per_tok", 8,
            "sliding_window", 4096, "max_position_embeddings", 32768);

    @Override
    public String name() {
        return "Qwen3-MoE";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Qwen3MoeForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("qwen3_moe");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        boolean bias = config.booleanOr("attention_bias", false);
        int window = config.booleanOr("use_sliding_window", false)
                ? config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE)
                : 0;
        var decoder = new LlamaDecoder(name(), bias, bias, false, true, layer -> window);
        var dims = Dims.of(config);
        var mixture = QwenMixture.of(config, dims, false, false);
        return decoder.build(config, p, dims, dims.headDim(), (x, h, layer) -> mixture.add(p, x, h, layer));
    }
}
