package dev.lamina.internal.model;

import java.util.List;
import java.util.Set;

/** OLMo, the first generation: Llama with layer norms that have neither weights nor biases. */
final class Olmo implements Architecture {
    private static final float EPSILON = 1e-5f;

    @Override
    public String name() {
        return "OLMo";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("OlmoForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("olmo");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder p) {
        var dims = Dims.of(config);
        var activation = Activation.of(config, "hidden_act", "silu");
        boolean bias = config.booleanOr("attention_bias", false);
        float limit = config.has("clip_qkv") ? (float) config.positiveOr("clip_qkv", 1) : 0;
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        var attending = Attending.all(dims.scale());
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var qkv = Qkv.separate(p, norm(p, x), dims, bias);
            if (limit > 0) {
                for (var each : List.of(qkv.queries(), qkv.keys(), qkv.values())) {
                    p.clamp(each, limit);
                }
            }
            var attended = qkv.rotated(p, rope, false).attend(p, attending);
            p.addTo(x, p.linear(attended, "self_attn.o_proj", dims.hidden(), bias));
            p.addTo(x, Mlp.gated(p, norm(p, x), "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", dims.intermediate(),
                    activation, false));
        }
        p.stage("head", "");
        var last = p.outputRows(x);
        p.normHeads(last, null, 1, true, EPSILON);
        p.logits(last, p.head(config, embedding, false), dims.vocabulary(), null);
        return p.program(name(), rope.contextLimit());
    }

    private static Value norm(ProgramBuilder p, Value x) {
        var h = p.matrixOf(x.width());
        p.copyInto(h, x);
        p.normHeads(h, null, 1, true, EPSILON);
        return h;
    }
}
