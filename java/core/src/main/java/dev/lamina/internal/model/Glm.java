package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/**
 * GLM-4 in the form that the transformers library gave it, and GLM-4-0414, which normalises what attention and MLP make
 * before it is added.
 */
final class Glm implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("num_key_value_heads", 2, "head_dim", 128);

    @Override
    public String name() {
        return "GLM";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("GlmForCausalLM", "Glm4ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("glm", "glm4");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        boolean doubleNorms = config.isA("Glm4ForCausalLM", "glm4");
        var dims = Dims.of(config, 0, 0, 131072);
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1.5625e-7));
        var activation = Activation.of(config, "hidden_act", "silu");
        boolean bias = config.booleanOr("attention_bias", true);
        int rotaryDim = dims.rotaryDim(config, "partial_rotary_factor", 0.5);
        var rope = p.rope(Rope.of(config, rotaryDim, dims.maxPositions()));
        var attending = Attending.all(dims.scale());
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var attended = Qkv.separate(p, p.norm(x, "input_layernorm", norm), dims, bias)
                    .rotated(p, rope, true)
                    .attend(p, attending);
            var made = p.linear(attended, "self_attn.o_proj", dims.hidden(), false);
            p.addTo(x, doubleNorms ? p.norm(made, "post_self_attn_layernorm", norm) : made);

            made = Mlp.fused(p, p.norm(x, "post_attention_layernorm", norm), "mlp.gate_up_proj", "mlp.down_proj",
                    dims.intermediate(), activation, false);
            p.addTo(x, doubleNorms ? p.norm(made, "post_mlp_layernorm", norm) : made);
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.norm", norm);
        p.logits(last, p.head(config, embedding, false), dims.vocabulary(), null);
        return p.program(name(), rope.contextLimit());
    }
}
