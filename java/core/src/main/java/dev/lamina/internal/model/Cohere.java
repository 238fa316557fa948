package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/**
 * Command R and R+, Aya (Cohere), and Command R7B (Cohere2), in which only layers with a window rotate: attention and
 * MLP of the same layer norm side by side.
 */
final class Cohere implements Architecture {
    private static final Map<String, Number> SECOND = Map.of("sliding_window", 4096, "rope_theta", 10000);
    private static final Map<String, Number> FIRST = Map.of("rope_theta", 500000);

    @Override
    public String name() {
        return "Cohere";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("CohereForCausalLM", "Cohere2ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("cohere", "cohere2");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        boolean second = given.isA("Cohere2ForCausalLM", "cohere2");
        var config = given.withDefaults(second ? SECOND : FIRST);
        var dims = Dims.of(config, 0, 0, 8192);
        var norm = NormStyle.layer((float) config.positiveOr("layer_norm_eps", 1e-5), false);
        var activation = Activation.of(config, "hidden_act", "silu");
        boolean bias = config.booleanOr("attention_bias", false);
        boolean headNorms = !second && config.booleanOr("use_qk_norm", false);
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        int window = second ? config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE) : 0;
        var sliding = LayerTypes.sliding(config, dims.layers(),
                LayerTypes.allButEvery(config, "sliding_window_pattern", 4));
        var all = Attending.all(dims.scale());
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var h = p.norm(x, "input_layernorm", norm);
            var qkv = Qkv.separate(p, h, dims, bias);
            if (headNorms) {
                p.normHeads(qkv.queries(), "self_attn.q_norm", dims.heads(), norm);
                p.normHeads(qkv.keys(), "self_attn.k_norm", dims.kvHeads(), norm);
            }
            boolean near = window > 0 && sliding.test(layer);
            if (near || !second) {
                qkv.rotated(p, rope, true);
            }
            var attended = qkv.attend(p, near ? all.withWindow(window) : all);
            p.addTo(x, p.linear(attended, "self_attn.o_proj", dims.hidden(), bias));
            p.addTo(x, Mlp.gated(p, h, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", dims.intermediate(),
                    activation, false));
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.norm", norm);
        var logits = p.logits(last, p.head(config, embedding, true), dims.vocabulary(), null);
        p.scale(logits, (float) config.doubleOr("logit_scale", 0.0625));
        // the longer context that the model was trained for in the end stands beside the one that it began with
        int context = config.intOr("model_max_length", 1, 1, Integer.MAX_VALUE);
        return p.program(name(), Math.max(rope.contextLimit(), context));
    }
}
