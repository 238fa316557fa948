package dev.lamina.internal.model;

import java.util.Set;

/** Mixtral: Mistral with a mixture of experts in the place of each MLP. */
final class Mixtral implements Architecture {
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
        var dims = Dims.of(config, 0, 0, 4096 * 32);
        int experts = config.intOr("num_local_experts", 8, 1, Dims.MAX_EXPERTS);
        int chosen = config.intOr("num_experts_per_tok", 2, 1, experts);
        int window = config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE);
        var router = Router.of(chosen, Router.Scoring.SOFTMAX, true);
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-5));
        var activation = Activation.of(config, "hidden_act", "silu");
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        var attending = Attending.all(dims.scale()).withWindow(window);
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var h = p.norm(x, "input_layernorm", norm);
            var q = p.rotate(p.linear(h, "self_attn.q_proj", dims.queries(), false), rope, dims.heads());
            var k = p.rotate(p.linear(h, "self_attn.k_proj", dims.keys(), false), rope, dims.kvHeads());
            var v = p.linear(h, "self_attn.v_proj", dims.keys(), false);
            var attended = p.attention(q, k, v, dims.heads(), dims.kvHeads(), attending);
            p.addTo(x, p.linear(attended, "self_attn.o_proj", dims.hidden(), false));

            var normed = p.norm(x, "post_attention_layernorm", norm);
            var logits = p.linear(normed, "block_sparse_moe.gate", experts, false);
            p.experts(logits, router, null, experts, e -> {
                var mlp = "block_sparse_moe.experts." + e;
                var rows = p.chosenRows(normed, false);
                p.addToChosen(x, Mlp.gated(p, rows, mlp + ".w1", mlp + ".w3", mlp + ".w2", dims.intermediate(),
                        activation, false), true);
            });
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.norm", norm);
        p.logits(last, p.head(config, embedding, false), dims.vocabulary(), null);
        return p.program(name(), rope.contextLimit());
    }
}
