package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import java.util.Set;

/**
 * ChatGLM2, ChatGLM3 and GLM-4 in the form of their first publication. The first ChatGLM has the same names in its
 * configuration but another design, and is refused.
 */
final class ChatGlm implements Architecture {
    private static final double THETA = 10000;

    @Override
    public String name() {
        return "ChatGLM";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("ChatGLMModel", "ChatGLMForConditionalGeneration");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("chatglm");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder p) {
        refuseOthers(config);
        boolean shared = config.booleanOr("multi_query_attention", false);
        var dims = dims(config, shared);
        float epsilon = (float) config.positiveOr("layernorm_epsilon", 1e-5);
        var norm = config.booleanOr("rmsnorm", true) ? NormStyle.rms(epsilon) : NormStyle.layer(epsilon, true);
        boolean bias = config.booleanOr("add_bias_linear", false);
        boolean qkvBias = bias || config.booleanOr("add_qkv_bias", false);
        boolean normedResidual = config.booleanOr("apply_residual_connection_post_layernorm", false);
        boolean interleaved = config.booleanOr("original_rope", true);
        var rope = p.rope(rope(config, dims));
        var attending = Attending.all(dims.scale());
        var embedding = "transformer.embedding.word_embeddings.weight";
        var head = "transformer.output_layer.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "transformer.encoder.layers." + layer + ".");
            var h = p.norm(x, "input_layernorm", norm);
            var packed = "self_attention.query_key_value";
            var qkv = shared ? Qkv.packed(p, h, dims, packed, qkvBias) : Qkv.grouped(p, h, dims, packed, qkvBias);
            var attended = qkv.rotated(p, rope, interleaved).attend(p, attending);
            x = normedResidual ? h : x;
            p.addTo(x, p.linear(attended, "self_attention.dense", dims.hidden(), bias));

            h = p.norm(x, "post_attention_layernorm", norm);
            var made = Mlp.fused(p, h, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", dims.intermediate(), Activation.SILU,
                    bias);
            x = normedResidual ? h : x;
            p.addTo(x, made);
        }
        p.stage("head", "");
        var last = p.outputRows(x);
        if (config.booleanOr("post_layer_norm", true)) {
            last = p.norm(last, "transformer.encoder.final_layernorm", norm);
        }
        p.logits(last, p.head(config, head, embedding, false), dims.vocabulary(), null);
        return p.program(name(), dims.maxPositions());
    }

    /** A quarter of a head's elements are cosines, a quarter sines, and half of it is not rotated. */
    private static Rope rope(ModelConfig config, Dims dims) {
        double ratio = config.positiveOr("rope_ratio", 1);
        int rotated = dims.headDim() / 2;
        if (config.stringOr("_name_or_path", "").contains("chatglm2")) { // its code alone divides positions
            return Rope.of(config, null, THETA, rotated, dims.maxPositions())
                    .withScaling(new Rope.Scaling.Linear(ratio));
        }
        return Rope.of(config, null, THETA * ratio, rotated, dims.maxPositions());
    }

    private static Dims dims(ModelConfig config, boolean shared) {
        int hidden = config.requireInt("hidden_size", 1, Dims.MAX_WIDTH);
        int heads = config.requireInt("num_attention_heads", 1, hidden);
        var vocabulary = config.has("padded_vocab_size") ? "padded_vocab_size" : "vocab_size";
        return Dims.checked(config, new Dims(
                hidden,
                config.requireInt("ffn_hidden_size", 1, Dims.MAX_WIDTH),
                config.requireInt("num_layers", 1, Dims.MAX_LAYERS),
                heads,
                shared ? config.intOr("multi_query_group_num", 1, 1, heads) : heads,
                config.intOr("kv_channels", config.mentions("kv_channels") ? hidden / heads : 128, 4,
                        Dims.MAX_WIDTH / heads),
                config.requireInt(vocabulary, 1, Integer.MAX_VALUE),
                config.intOr("seq_length", 2048, 1, Integer.MAX_VALUE)));
    }

    private static void refuseOthers(ModelConfig config) {
        if (config.has("inner_hidden_size") || config.has("position_encoding_2d")) {
            throw new LaminaException(config.where() + " is of the first ChatGLM, which is not supported; ChatGLM2,"
                    + " ChatGLM3 and GLM-4 are.");
        }
        for (var key : new String[] {"pre_seq_len", "quantization_bit"}) {
            if (config.intOr(key, 0, 0, Integer.MAX_VALUE) > 0) {
                throw new LaminaException(config.where() + ": \"" + key + "\" is not supported.");
            }
        }
    }
}
