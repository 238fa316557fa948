package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;
import java.util.function.IntPredicate;

/**
 * OLMo 2, and OLMo 3, most of whose layers have a window: what attention and MLP make is normalised before it is added,
 * what they read is not; all queries of a row are normalised together, and all keys.
 */
final class Olmo2 implements Architecture {
    private static final Map<String, Number> THIRD = Map.of("sliding_window", 4096, "rope_theta", 500000);

    @Override
    public String name() {
        return "OLMo 2";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Olmo2ForCausalLM", "Olmo3ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("olmo2", "olmo3");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        boolean third = given.isA("Olmo3ForCausalLM", "olmo3");
        var config = third ? given.withDefaults(THIRD) : given;
        var dims = Dims.of(config);
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-5));
        var activation = Activation.of(config, "hidden_act", "silu");
        boolean bias = config.booleanOr("attention_bias", false);
        double theta = config.positiveOr("rope_theta", 10000);
        var rope = p.rope(third
                ? LayerTypes.rope(config, "full_attention", theta, dims)
                : Rope.of(config, dims.headDim(), dims.maxPositions()));
        var nearRope = third ? p.rope(LayerTypes.rope(config, "sliding_attention", theta, dims)) : rope;
        int window = third ? config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE) : 0;
        IntPredicate sliding = third
                ? LayerTypes.sliding(config, dims.layers(), layer -> layer % 4 != 3)
                : layer -> false;
        var all = Attending.all(dims.scale());
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            boolean near = sliding.test(layer);
            var qkv = Qkv.separate(p, x, dims, bias);
            p.normHeads(qkv.queries(), "self_attn.q_norm", 1, norm);
            p.normHeads(qkv.keys(), "self_attn.k_norm", 1, norm);
            var attended = qkv.rotated(p, near ? nearRope : rope, false)
                    .attend(p, near ? all.withWindow(window) : all);
            var made = p.linear(attended, "self_attn.o_proj", dims.hidden(), bias);
            p.addTo(x, p.norm(made, "post_attention_layernorm", norm));

            made = Mlp.gated(p, x, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", dims.intermediate(), activation,
                    false);
            p.addTo(x, p.norm(made, "post_feedforward_layernorm", norm));
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.norm", norm);
        p.logits(last, p.head(config, embedding, false), dims.vocabulary(), null);
        return p.program(name(), rope.contextLimit());
    }
}
