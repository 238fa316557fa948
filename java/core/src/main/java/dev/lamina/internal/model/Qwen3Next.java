package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/**
 * Qwen3-Next and the text part of Qwen3.5: linear attention in most layers, gated attention in every fourth, and
 * mixtures of experts or, in Qwen3.5, MLPs too.
 */
final class Qwen3Next implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("head_dim", 256, "max_position_embeddings", 32768);

    @Override
    public String name() {
        return "Qwen3-Next";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Qwen3NextForCausalLM", "Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration",
                "Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var text = TextModel.of(given, p);
        boolean first = given.isA("Qwen3NextForCausalLM", "qwen3_next");
        boolean dense = !text.config().has("num_experts");
        var config = text.config().withDefaults(DEFAULTS).withDefaults(Map.of(
                "num_key_value_heads", dense ? 4 : 2, "num_experts_per_tok", first ? 10 : 8));
        var dims = Dims.of(config);
        float epsilon = (float) config.positiveOr("rms_norm_eps", 1e-6);
        var norm = NormStyle.rmsPlusOne(epsilon);
        var linear = GatedDeltaNet.of(config, epsilon);
        boolean bias = config.booleanOr("attention_bias", false);
        int rotaryDim = dims.rotaryDim(config, "partial_rotary_factor", 0.25);
        var rope = p.rope(Rope.of(config, rotaryDim, dims.maxPositions()));
        int interval = config.intOr("full_attention_interval", 4, 1, Integer.MAX_VALUE);
        var recurrent = LayerTypes.of(config, dims.layers(), "linear_attention", layer -> (layer + 1) % interval != 0);
        var decoder = new PreNormDecoder(name(), text.prefix(), dims, norm,
                (h, layer) -> recurrent.test(layer) ? linear.of(p, h) : attention(p, h, dims, norm, rope, bias),
                feedForward(config, p, dims, first));
        return decoder.build(p, text.head(given, p, false), rope.contextLimit());
    }

    private static PreNormDecoder.FeedForward feedForward(ModelConfig config, ProgramBuilder p, Dims dims,
            boolean first) {
        if (config.has("num_experts")) {
            var mixture = first
                    ? QwenMixture.of(config, dims, true, true)
                    : QwenMixture.everywhere(config, dims);
            return (x, h, layer) -> mixture.add(p, x, h, layer);
        }
        var activation = Activation.of(config, "hidden_act", "silu");
        return (x, h, layer) -> p.addTo(x, Mlp.gated(p, h, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
                dims.intermediate(), activation, false));
    }

    /** Attention whose output is gated: the rows of each head's query and of its gate lie together. */
    private static Value attention(ProgramBuilder p, Value h, Dims dims, NormStyle norm, Rope rope, boolean bias) {
        int heads = dims.heads();
        int kvHeads = dims.kvHeads();
        int headDim = dims.headDim();
        int rows = Math.multiplyExact(2, dims.queries());
        var q = p.matrixOf(dims.queries());
        var gate = p.matrixOf(dims.queries());
        var weight = p.matrix("self_attn.q_proj.weight", rows, h.width());
        var biases = bias ? p.vector("self_attn.q_proj.bias", rows, false) : null;
        for (int head = 0; head < heads; head++) {
            int row = 2 * head * headDim;
            p.productInto(q.columns(head * headDim, headDim), h, weight, row,
                    biases == null ? null : new Op.Bias(biases, row));
            p.productInto(gate.columns(head * headDim, headDim), h, weight, row + headDim,
                    biases == null ? null : new Op.Bias(biases, row + headDim));
        }
        var k = p.linear(h, "self_attn.k_proj", dims.keys(), bias);
        var v = p.linear(h, "self_attn.v_proj", dims.keys(), bias);
        p.normHeads(q, "self_attn.q_norm", heads, norm);
        p.normHeads(k, "self_attn.k_norm", kvHeads, norm);
        p.rotate(q, rope, heads);
        p.rotate(k, rope, kvHeads);
        var attended = p.attention(q, k, v, heads, kvHeads, Attending.all(dims.scale()));
        return p.linear(p.gate(Activation.SIGMOID, gate, attended), "self_attn.o_proj", dims.hidden(), bias);
    }
}
