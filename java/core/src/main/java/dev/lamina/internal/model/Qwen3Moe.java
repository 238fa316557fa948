package dev.lamina.internal.model;

import java.util.Set;

/** Qwen3 MoE: Qwen3 with mixtures of experts. */
final class Qwen3Moe implements Architecture {
    private static final int DEFAULT_WINDOW = 4096;

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
    public Program build(ModelConfig config, ProgramBuilder p) {
        boolean bias = config.booleanOr("attention_bias", false);
        int fallback = config.mentions("sliding_window") ? 0 : DEFAULT_WINDOW;
        int window = config.booleanOr("use_sliding_window", false)
                ? config.intOr("sliding_window", fallback, 0, Integer.MAX_VALUE)
                : 0;
        var decoder = new LlamaDecoder(name(), bias, bias, false, true, 0, 0, layer -> window);
        var dims = decoder.dims(config);
        var mixture = QwenMixture.of(config, dims, false, false);
        return decoder.build(config, p, dims, dims.headDim(), (x, h, layer) -> mixture.add(p, x, h, layer));
    }
}
