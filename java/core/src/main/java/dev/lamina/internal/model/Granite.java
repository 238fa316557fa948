package dev.lamina.internal.model;

import java.util.Set;

/** Granite 3, without experts: Llama with factors of its own in four places. */
final class Granite implements Architecture {
    @Override
    public String name() {
        return "Granite";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("GraniteForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("granite");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder p) {
        var dims = Dims.of(config);
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-6));
        var activation = Activation.of(config, "hidden_act", "silu");
        boolean bias = config.booleanOr("attention_bias", false);
        boolean mlpBias = config.booleanOr("mlp_bias", false);
        float residual = (float) config.doubleOr("residual_multiplier", 1);
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        var attending = Attending.all((float) config.doubleOr("attention_multiplier", 1));
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        p.scale(x, (float) config.doubleOr("embedding_multiplier", 1));
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var attended = Qkv.separate(p, p.norm(x, "input_layernorm", norm), dims, bias)
                    .rotated(p, rope, false)
                    .attend(p, attending);
            p.addTo(x, p.linear(attended, "self_attn.o_proj", dims.hidden(), bias), residual);
            p.addTo(x, Mlp.gated(p, p.norm(x, "post_attention_layernorm", norm), "mlp.gate_proj", "mlp.up_proj",
                    "mlp.down_proj", dims.intermediate(), activation, mlpBias), residual);
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.norm", norm);
        var logits = p.logits(last, p.head(config, embedding, false), dims.vocabulary(), null);
        p.scale(logits, (float) (1 / config.positiveOr("logits_scaling", 1)));
        return p.program(name(), rope.contextLimit());
    }
}
