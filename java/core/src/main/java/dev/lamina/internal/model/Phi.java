package dev.lamina.internal.model;

import java.util.Set;

/** Phi-1, 1.5 and 2: layer norms, biases everywhere, attention and MLP of the same norm side by side. */
final class Phi implements Architecture {
    @Override
    public String name() {
        return "Phi";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("PhiForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("phi");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder p) {
        var dims = Dims.of(config);
        var norm = NormStyle.layer((float) config.positiveOr("layer_norm_eps", 1e-5), true);
        var activation = Activation.of(config, "hidden_act", "gelu_new");
        boolean headNorms = config.booleanOr("qk_layernorm", false);
        int rotaryDim = dims.rotaryDim(config, "partial_rotary_factor", 0.5);
        var rope = p.rope(Rope.of(config, rotaryDim, dims.maxPositions()));
        var attending = Attending.all(dims.scale());
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var h = p.norm(x, "input_layernorm", norm);
            var qkv = Qkv.separate(p, h, dims, true);
            if (headNorms) {
                p.normHeads(qkv.queries(), "self_attn.q_layernorm", dims.heads(), norm);
                p.normHeads(qkv.keys(), "self_attn.k_layernorm", dims.kvHeads(), norm);
            }
            var attended = qkv.rotated(p, rope, false).attend(p, attending);
            p.addTo(x, p.linear(attended, "self_attn.dense", dims.hidden(), true));
            p.addTo(x, Mlp.plain(p, h, "mlp.fc1", "mlp.fc2", dims.intermediate(), activation, true));
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.final_layernorm", norm);
        p.logits(last, p.head(config, embedding, false), dims.vocabulary(), "lm_head.bias");
        return p.program(name(), rope.contextLimit());
    }
}
