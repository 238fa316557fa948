package dev.lamina.internal.model;

import java.util.Set;
import java.util.stream.IntStream;

/** StableLM 2 and StableLM 3B: Llama with layer norms, a part of each head rotated. */
final class StableLm implements Architecture {
    @Override
    public String name() {
        return "StableLM";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("StableLmForCausalLM", "StableLMEpochForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("stablelm", "stablelm_epoch");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder p) {
        var dims = Dims.of(config, 0, 0, 4096);
        // the second names are those of the first publication
        float epsilon = (float) config.positiveOr("layer_norm_eps", config.positiveOr("norm_eps", 1e-5));
        double rotary = config.doubleOr("rope_pct", 0.25);
        var norm = NormStyle.layer(epsilon, true);
        var activation = Activation.of(config, "hidden_act", "silu");
        boolean bias = config.booleanOr("use_qkv_bias", false);
        boolean headNorms = config.booleanOr("qk_layernorm", false);
        boolean parallel = config.booleanOr("use_parallel_residual", false);
        int rotaryDim = dims.rotaryDim(config, "partial_rotary_factor", rotary);
        var rope = p.rope(Rope.of(config, rotaryDim, dims.maxPositions()));
        var attending = Attending.all(dims.scale());
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            var prefix = "model.layers." + layer + ".";
            p.layer(layer, prefix);
            var h = p.norm(x, "input_layernorm", norm);
            var qkv = Qkv.separate(p, h, dims, bias);
            if (headNorms) {
                normHeads(p, qkv.queries(), prefix + "self_attn.q_layernorm", dims.heads(), epsilon);
                normHeads(p, qkv.keys(), prefix + "self_attn.k_layernorm", dims.kvHeads(), epsilon);
            }
            var attended = qkv.rotated(p, rope, false).attend(p, attending);
            p.addTo(x, p.linear(attended, "self_attn.o_proj", dims.hidden(), false));
            if (!parallel) {
                h = p.norm(x, "post_attention_layernorm", norm);
            }
            p.addTo(x, Mlp.gated(p, h, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", dims.intermediate(),
                    activation, false));
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.norm", norm);
        p.logits(last, p.head(config, embedding, false), dims.vocabulary(), null);
        return p.program(name(), rope.contextLimit());
    }

    /** A layer norm of each head, whose weight is a tensor of its own. */
    private static void normHeads(ProgramBuilder p, Value x, String name, int heads, float epsilon) {
        var weights = IntStream.range(0, heads)
                .mapToObj(head -> new Vector.Stored(name + ".norms." + head + ".weight", Vector.Change.NONE))
                .toList();
        p.normHeads(x, p.joined(name, x.width(), weights), heads, true, epsilon);
    }
}
