package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import org.jspecify.annotations.Nullable;

/**
 * The feed-forward of DeepSeek's mixtures and of those after their design: an MLP in the first layers, then mixtures of
 * experts with an MLP beside them that all rows share.
 *
 * @param mixture of the layers that have one
 * @param sharedIntermediate width inside of the MLP beside the experts; 0: there is none
 * @param denseLayers how many layers have no mixture
 * @param frequency of the others, those have one whose number is a multiple
 * @param intermediate width inside of the MLP of a layer without a mixture
 * @param corrected whether scores are corrected by {@code e_score_correction_bias} for the choice
 */
record DeepseekMixture(Mixture mixture, int sharedIntermediate, int denseLayers, int frequency, int intermediate,
        boolean corrected) {
    /**
     * Reads it.
     *
     * @param router how rows choose
     */
    static DeepseekMixture of(ModelConfig config, Dims dims, Router router, int denseLayers, int sharedExperts,
            boolean corrected) {
        int intermediate = config.requireInt("moe_intermediate_size", 1, Dims.MAX_WIDTH);
        int shared = config.intOr("n_shared_experts", config.mentions("n_shared_experts") ? 0 : sharedExperts, 0,
                Dims.MAX_WIDTH / intermediate);
        return new DeepseekMixture(
                new Mixture(router, experts(config), intermediate, Activation.of(config, "hidden_act", "silu")),
                shared * intermediate, config.intOr("first_k_dense_replace", denseLayers, 0, Integer.MAX_VALUE),
                config.intOr("moe_layer_freq", 1, 1, Integer.MAX_VALUE), dims.intermediate(), corrected);
    }

    /**
     * The router of DeepSeek V3: a row chooses by corrected sigmoids among the experts of the groups whose two best add
     * up to most.
     *
     * @param groups where the configuration does not say
     * @param chosenGroups where the configuration does not say
     * @param scale of the weights, where the configuration does not say
     */
    static Router sigmoidRouter(ModelConfig config, int groups, int chosenGroups, double scale) {
        return router(config, Router.Scoring.SIGMOID, Router.GroupScore.LARGEST_TWO,
                config.intOr("n_group", groups, 1, Dims.MAX_EXPERTS),
                config.intOr("topk_group", chosenGroups, 1, Dims.MAX_EXPERTS),
                config.booleanOr("norm_topk_prob", true), scale);
    }

    /** One that the number of experts fits. */
    static Router router(ModelConfig config, Router.Scoring scoring, Router.GroupScore groupScore, int groups,
            int chosenGroups, boolean normalised, double scale) {
        int experts = experts(config);
        int chosen = config.requireInt("num_experts_per_tok", 1, experts);
        if (experts % groups != 0 || chosenGroups > groups || chosen > experts / groups * chosenGroups) {
            throw new LaminaException(config.where() + ": " + chosen + " of " + experts
                    + " experts cannot be chosen from " + chosenGroups + " of " + groups + " equal groups.");
        }
        return new Router(chosen, scoring, groups, chosenGroups, groupScore, normalised,
                (float) config.doubleOr("routed_scaling_factor", scale));
    }

    private static int experts(ModelConfig config) {
        return config.requireInt("n_routed_experts", 1, Dims.MAX_EXPERTS);
    }

    /** Adds to {@code x} what the layer makes of {@code h}. */
    void add(ProgramBuilder p, Value x, Value h, int layer) {
        if (layer < denseLayers || layer % frequency != 0) {
            p.addTo(x, mlp(p, h, "mlp", intermediate));
            return;
        }
        mixture.add(p, x, h, "mlp", correction(p));
        if (sharedIntermediate > 0) {
            p.addTo(x, mlp(p, h, "mlp.shared_experts", sharedIntermediate));
        }
    }

    private @Nullable String correction(ProgramBuilder p) {
        return corrected ? p.vector("mlp.gate.e_score_correction_bias", mixture.experts(), false) : null;
    }

    private Value mlp(ProgramBuilder p, Value h, String name, int width) {
        return Mlp.gated(p, h, name + ".gate_proj", name + ".up_proj", name + ".down_proj", width, mixture.function(),
                false);
    }
}
