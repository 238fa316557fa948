package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** GLM 4.5 and 4.6: Llama with heads that are rotated in part, and mixtures after DeepSeek V3's design. */
final class Glm4Moe implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("num_key_value_heads", 8, "num_experts_per_tok", 8,
            "n_routed_experts", 128, "rms_norm_eps", 1e-5, "max_position_embeddings", 131072);

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
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        var decoder = new LlamaDecoder(name(), config.booleanOr("attention_bias", false), false, false,
                config.booleanOr("use_qk_norm", false), LlamaDecoder.Window.NONE);
        var dims = Dims.of(config);
        var mixture = DeepseekMixture.of(config, dims, DeepseekMixture.sigmoidRouter(config, 1, 1, 1), 1, 1, true);
        return decoder.build(config, p, dims, dims.rotaryDim(config, "partial_rotary_factor", 0.5),
                (x, h, layer) -> mixture.add(p, x, h, layer));
    }
}
