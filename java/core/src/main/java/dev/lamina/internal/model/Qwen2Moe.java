package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** Qwen1.5 MoE and Qwen2 MoE: Qwen2 with mixtures of experts, and an expert beside them that all rows share. */
final class Qwen2Moe implements Architecture {
    private static final Map<String, Number> DEFAULTS =
            Map.of("num_experts_per_tok", 4, "max_position_embeddings", 32768);
    private static final int DEFAULT_WINDOW = 4096;
    private static final int DEFAULT_WINDOW_LAYERS = 28;

    @Override
    public String name() {
        return "Qwen2-MoE";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Qwen2MoeForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("qwen2_moe");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        boolean bias = config.booleanOr("qkv_bias", true);
        var decoder = new LlamaDecoder(name(), bias, false, false, false, window(config));
        var dims = Dims.of(config);
        var mixture = QwenMixture.of(config, dims, true, false);
        return decoder.build(config, p, dims, dims.headDim(), (x, h, layer) -> mixture.add(p, x, h, layer));
    }

    /** Every other layer below {@code max_window_layers}, unlike in Qwen2, where {@code layer_types} says nothing. */
    private static LlamaDecoder.Window window(ModelConfig config) {
        int fallback = config.mentions("sliding_window") ? 0 : DEFAULT_WINDOW;
        int window = config.booleanOr("use_sliding_window", false)
                ? config.intOr("sliding_window", fallback, 0, Integer.MAX_VALUE)
                : 0;
        int end = config.intOr("max_window_layers", DEFAULT_WINDOW_LAYERS, 0, Integer.MAX_VALUE);
        int layers = config.requireInt("num_hidden_layers", 1, Dims.MAX_LAYERS);
        var sliding = LayerTypes.sliding(config, layers, layer -> layer % 2 == 0 && layer < end);
        return layer -> sliding.test(layer) ? window : 0;
    }
}
