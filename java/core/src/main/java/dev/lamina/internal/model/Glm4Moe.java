package dev.lamina.internal.model;

import java.util.Set;

/** GLM 4.5 and 4.6: Llama with heads that are rotated in part, and mixtures after DeepSeek V3's design. */
final class Glm4Moe implements Architecture {
    @Override
    public String name() {
        return "GLM-4-MoE";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Glm4MoeForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("glm4_moe");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder p) {
        var decoder = new LlamaDecoder(name(), config.booleanOr("attention_bias", false), false, false,
                config.booleanOr("use_qk_norm", false), 0, 0, LlamaDecoder.Window.NONE);
        var dims = decoder.dims(config);
        var mixture = DeepseekMixture.of(config, dims, DeepseekMixture.sigmoidRouter(config, 1, 1, 1), 1, 1, true);
        return decoder.build(config, p, dims, dims.rotaryDim(config, "partial_rotary_factor", 0.5),
                (x, h, layer) -> mixture.add(p, x, h, layer));
    }
}
