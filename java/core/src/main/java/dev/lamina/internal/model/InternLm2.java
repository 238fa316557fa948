package dev.lamina.internal.model;

import java.util.Set;

/** InternLM2 and 2.5: Llama with one matrix for queries, keys and values, in which those of a key head lie together. */
final class InternLm2 implements Architecture {
    @Override
    public String name() {
        return "InternLM2";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("InternLM2ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("internlm2");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder p) {
        var dims = Dims.of(config);
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-6));
        var activation = Activation.of(config, "hidden_act", "silu");
        boolean bias = config.booleanOr("bias", true);
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        var attending = Attending.all(dims.scale());
        var embedding = "model.tok_embeddings.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var attended = Qkv.grouped(p, p.norm(x, "attention_norm", norm), dims, "attention.wqkv", bias)
                    .rotated(p, rope, false)
                    .attend(p, attending);
            p.addTo(x, p.linear(attended, "attention.wo", dims.hidden(), bias));
            p.addTo(x, Mlp.gated(p, p.norm(x, "ffn_norm", norm), "feed_forward.w1", "feed_forward.w3",
                    "feed_forward.w2", dims.intermediate(), activation, false));
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.norm", norm);
        p.logits(last, p.head(config, "output.weight", embedding, false), dims.vocabulary(), null);
        return p.program(name(), rope.contextLimit());
    }
}
