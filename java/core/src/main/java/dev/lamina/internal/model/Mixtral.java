package dev.lamina.internal.model;

import java.util.Set;

/** Mixtral: Mistral with a mixture of experts in every layer. */
final class Mixtral implements Architecture {
    private static final int DEFAULT_KV_HEADS = 8;

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
    public Program build(ModelConfig config, ProgramBuilder p) {
        int window = config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE);
        int kvHeads = config.mentions("num_key_value_heads") ? 0 : DEFAULT_KV_HEADS;
        var decoder = new LlamaDecoder(name(), false, false, false, false, 0, kvHeads, layer -> window);
        var dims = decoder.dims(config);
        int experts = config.intOr("num_local_experts", 8, 1, Dims.MAX_EXPERTS);
        int chosen = config.intOr("num_experts_per_tok", 2, 1, experts);
        var mixture = new Mixture(Router.of(chosen, Router.Scoring.SOFTMAX, true), experts,
                dims.intermediate(), Activation.of(config, "hidden_act", "silu"));
        return decoder.build(config, p, dims, dims.headDim(),
                (x, h, layer) -> mixture.add(p, x, h, "block_sparse_moe", null, "w1", "w3", "w2"));
    }
}
