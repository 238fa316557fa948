package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/**
 * GPT-OSS: attention with sinks, a window in every other layer, and mixtures whose experts are stored in MXFP4, or
 * transposed where somebody widened them.
 */
final class GptOss implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("num_key_value_heads", 8, "head_dim", 64,
            "rope_theta", 150000, "sliding_window", 128, "num_experts_per_tok", 4, "max_position_embeddings", 131072);
    private static final ModelConfig DEFAULT_ROPE = ModelConfig.parse("the default rope of GPT-OSS", """
            {"rope_type": "yarn", "factor": 32, "truncate": false, "original_max_position_embeddings": 4096}""");
    private static final double DEFAULT_LIMIT = 7;

    @Override
    public String name() {
        return "GPT-OSS";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("GptOssForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("gpt_oss");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        var dims = Dims.of(config);
        var parameters = Rope.parameters(config);
        var rope = p.rope(Rope.of(config, parameters == null ? DEFAULT_ROPE : parameters, dims.headDim(),
                dims.maxPositions()));
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-5));
        boolean bias = config.booleanOr("attention_bias", true);
        int experts = config.requireInt("num_local_experts", 1, Dims.MAX_EXPERTS);
        int chosen = config.requireInt("num_experts_per_tok", 1, experts);
        var router = Router.of(chosen, Router.Scoring.SOFTMAX_OF_CHOSEN, false);
        float limit = (float) config.positiveOr("swiglu_limit", DEFAULT_LIMIT);
        int window = config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE);
        var sliding = LayerTypes.sliding(config, dims.layers(), layer -> layer % 2 == 0);
        var decoder = new PreNormDecoder(name(), "model.", dims, norm,
                (h, layer) -> attention(p, h, dims, rope, bias, sliding.test(layer) ? window : 0),
                (x, h, layer) -> mixture(p, x, h, router, experts, dims.intermediate(), limit));
        return decoder.build(p, p.head(config, decoder.embedding(), false), rope.contextLimit());
    }

    private static Value attention(ProgramBuilder p, Value h, Dims dims, Rope rope, boolean bias, int window) {
        var attending = Attending.all(dims.scale()).withWindow(window)
                .with(Attending.Kind.SINKS, p.vector("self_attn.sinks", dims.heads(), false));
        var attended = Qkv.separate(p, h, dims, bias).rotated(p, rope, false).attend(p, attending);
        return p.linear(attended, "self_attn.o_proj", dims.hidden(), bias);
    }

    private static void mixture(ProgramBuilder p, Value x, Value h, Router router, int experts, int intermediate,
            float limit) {
        int hidden = h.width();
        int pairs = Math.multiplyExact(2, intermediate);
        var logits = p.linear(h, "mlp.router", experts, true);
        boolean packed = p.has(p.own("mlp.experts.gate_up_proj_blocks"));
        var up = packed
                ? p.mxfp4("mlp.experts.gate_up_proj", experts, pairs, hidden)
                : p.matrix("mlp.experts.gate_up_proj", experts, hidden, pairs);
        var down = packed
                ? p.mxfp4("mlp.experts.down_proj", experts, hidden, intermediate)
                : p.matrix("mlp.experts.down_proj", experts, intermediate, hidden);
        var upBias = p.vector("mlp.experts.gate_up_proj_bias", (long) experts * pairs, false);
        var downBias = p.vector("mlp.experts.down_proj_bias", (long) experts * hidden, false);
        p.experts(logits, router, null, experts, number -> {
            var raised = product(p, p.chosenRows(h, false), up, number, pairs, packed, upBias);
            var made = product(p, p.clampedSwiglu(raised, limit), down, number, hidden, packed, downBias);
            p.addToChosen(x, made, true);
        });
    }

    private static Value product(ProgramBuilder p, Value in, Matrix matrix, int expert, int width, boolean packed,
            String biases) {
        var bias = new Op.Bias(biases, expert * width);
        return packed
                ? p.product(in, matrix, expert * width, width, bias)
                : p.transposed(in, matrix, expert * in.width(), bias);
    }
}
