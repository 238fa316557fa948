package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** Mixtral: Mistral with a mixture of experts in every layer. */
final class Mixtral implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("num_key_value_heads", 8, "rope_theta", 1e6,
            "rms_norm_eps", 1e-5, "max_position_embeddings", 131072);

    @Override
    public String name() {
        return "Mixtral";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("MixtralForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("mixtral");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        int window = config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE);
        var decoder = new LlamaDecoder(name(), false, false, false, false, layer -> window);
        var dims = Dims.of(config);
        int experts = config.intOr("num_local_experts", 8, 1, Dims.MAX_EXPERTS);
        int chosen = config.intOr("num_experts_per_tok", 2, 1, experts);
        var mixture = new Mixture(Router.of(chosen, Router.Scoring.SOFTMAX, true), experts,
                dims.intermediate(), Activation.of(config, "hidden_act", "silu"));
        return decoder.build(config, p, dims, dims.headDim(), (x, h, layer) -> {
            if (p.has(p.own("mlp.experts.gate_up_proj"))) { // the transformers library can write that form too
                mixture.add(p, x, h, "mlp", null);
            } else {
                mixture.add(p, x, h, "block_sparse_moe", null, "w1", "w3", "w2");
            }
        });
    }
}
