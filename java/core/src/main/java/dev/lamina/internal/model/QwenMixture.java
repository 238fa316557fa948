package dev.lamina.internal.model;

import java.util.HashSet;
import java.util.Set;

/**
 * The feed-forward of Qwen's mixtures: a mixture of experts in some layers, an MLP in all others.
 *
 * @param mixture of the layers that have one
 * @param sharedIntermediate width inside of the expert that all rows of such a layer share; 0: there is none
 * @param sparseStep every so many layers there is a mixture
 * @param denseLayers the numbers of layers that have none in any case
 * @param intermediate width inside of an MLP
 */
record QwenMixture(Mixture mixture, int sharedIntermediate, int sparseStep, Set<Integer> denseLayers,
        int intermediate) {
    /**
     * Reads it.
     *
     * @param shared whether there is an expert that all rows share
     * @param normalised whether the weights of a row have the sum 1, where the configuration does not say
     */
    static QwenMixture of(ModelConfig config, Dims dims, boolean shared, boolean normalised) {
        return new QwenMixture(
                mixture(config, config.booleanOr("norm_topk_prob", normalised)), shared ? shared(config) : 0,
                config.intOr("decoder_sparse_step", 1, 1, Integer.MAX_VALUE),
                new HashSet<>(config.ids("mlp_only_layers")), dims.intermediate());
    }

    /** That of Qwen3.5: in every layer, with weights of the sum 1, whatever else the configuration says. */
    static QwenMixture everywhere(ModelConfig config, Dims dims) {
        return new QwenMixture(mixture(config, true), shared(config), 1, Set.of(), dims.intermediate());
    }

    private static Mixture mixture(ModelConfig config, boolean normalised) {
        var count = config.has("num_experts") ? "num_experts" : "num_local_experts";
        int experts = config.requireInt(count, 1, Dims.MAX_EXPERTS);
        int chosen = config.requireInt("num_experts_per_tok", 1, experts);
        return new Mixture(Router.of(chosen, Router.Scoring.SOFTMAX, normalised), experts,
                config.requireInt("moe_intermediate_size", 1, Dims.MAX_WIDTH),
                Activation.of(config, "hidden_act", "silu"));
    }

    private static int shared(ModelConfig config) {
        return config.requireInt("shared_expert_intermediate_size", 1, Dims.MAX_WIDTH);
    }

    /** Adds to {@code x} what the layer makes of {@code h}. */
    void add(ProgramBuilder p, Value x, Value h, int layer) {
        if (denseLayers.contains(layer) || (layer + 1) % sparseStep != 0) {
            p.addTo(x, mlp(p, h, "mlp", intermediate));
            return;
        }
        mixture.add(p, x, h, "mlp", null);
        if (sharedIntermediate > 0) {
            var shared = mlp(p, h, "mlp.shared_expert", sharedIntermediate);
            p.addTo(x, p.gate(Activation.SIGMOID, p.linear(h, "mlp.shared_expert_gate", 1, false), shared));
        }
    }

    private Value mlp(ProgramBuilder p, Value h, String name, int width) {
        return Mlp.gated(p, h, name + ".gate_proj", name + ".up_proj", name + ".down_proj", width, mixture.function(),
                false);
    }
}
