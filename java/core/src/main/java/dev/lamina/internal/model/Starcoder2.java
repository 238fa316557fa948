package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** StarCoder2: layer norms, an MLP without gates, and a sliding window in every layer, where there is one. */
final class Starcoder2 implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("num_key_value_heads", 2);

    @Override
    public String name() {
        return "StarCoder2";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Starcoder2ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("starcoder2");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        var dims = Dims.of(config, 0, 0, 4096);
        var norm = NormStyle.layer((float) config.positiveOr("norm_epsilon", 1e-5), true);
        var activation = Activation.of(config, "hidden_act", "gelu_pytorch_tanh");
        boolean bias = config.booleanOr("use_bias", true);
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        var attending = Attending.all(dims.scale())
                .withWindow(config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE));
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var attended = Qkv.separate(p, p.norm(x, "input_layernorm", norm), dims, bias)
                    .rotated(p, rope, false)
                    .attend(p, attending);
            p.addTo(x, p.linear(attended, "self_attn.o_proj", dims.hidden(), bias));
            p.addTo(x, Mlp.plain(p, p.norm(x, "post_attention_layernorm", norm), "mlp.c_fc", "mlp.c_proj",
                    dims.intermediate(), activation, bias));
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.norm", norm);
        p.logits(last, p.head(config, embedding, true), dims.vocabulary(), null);
        return p.program(name(), rope.contextLimit());
    }
}
