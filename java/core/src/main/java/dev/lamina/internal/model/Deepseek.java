package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** DeepSeek V2, V2 Lite, V3, R1 and models of their design: latent attention, and mixtures of many small experts. */
final class Deepseek implements Architecture {
    private static final Map<String, Number> SECOND = Map.of("n_routed_experts", 64);
    private static final Map<String, Number> THIRD =
            Map.of("n_routed_experts", 256, "num_experts_per_tok", 8, "max_position_embeddings", 4096);

    @Override
    public String name() {
        return "DeepSeek";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("deepseek_v2", "deepseek_v3");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        boolean third = given.isA("DeepseekV3ForCausalLM", "deepseek_v3");
        var config = given.withDefaults(third ? THIRD : SECOND);
        var dims = Dims.of(config);
        var attention = LatentAttention.of(config, dims, !third || config.booleanOr("rope_interleave", true));
        var mixture = third
                ? DeepseekMixture.of(config, dims, thirdRouter(config), 3, 1, true)
                : DeepseekMixture.of(config, dims, secondRouter(config), 0, 2, false);
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-6));
        var rope = p.rope(Rope.of(config, attention.rotated(), dims.maxPositions()));
        var decoder = new PreNormDecoder(name(), "model.", dims, norm, (h, layer) -> attention.of(p, h, rope),
                (x, h, layer) -> mixture.add(p, x, h, layer));
        return decoder.build(p, p.head(config, decoder.embedding(), false), rope.contextLimit());
    }

    private static Router secondRouter(ModelConfig config) {
        var method = config.stringOr("topk_method", "greedy");
        boolean grouped = switch (method) {
            case "greedy" -> false;
            case "group_limited_greedy" -> true;
            default -> throw config.unsupported("topk_method", method, "greedy and group_limited_greedy are");
        };
        refuseUnless(config, "scoring_func", "softmax");
        if (config.booleanOr("norm_topk_prob", false)) { // what published code makes of it differs
            throw config.unsupported("norm_topk_prob", "true", "false is");
        }
        return DeepseekMixture.router(config, Router.Scoring.SOFTMAX, Router.GroupScore.LARGEST,
                grouped ? config.requireInt("n_group", 1, Dims.MAX_EXPERTS) : 1,
                grouped ? config.requireInt("topk_group", 1, Dims.MAX_EXPERTS) : 1, false, 1);
    }

    private static Router thirdRouter(ModelConfig config) {
        refuseUnless(config, "topk_method", "noaux_tc");
        refuseUnless(config, "scoring_func", "sigmoid");
        return DeepseekMixture.sigmoidRouter(config, 8, 4, 2.5);
    }

    private static void refuseUnless(ModelConfig config, String key, String value) {
        if (!config.stringOr(key, value).equals(value)) {
            throw config.unsupported(key, config.stringOr(key, value), value + " is");
        }
    }
}
