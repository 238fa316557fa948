package dev.lamina.internal.model;

import dev.lamina.LaminaException;

/**
 * The decoder that Llama introduced and its descendants share: RMS norm, rotary grouped-query attention, gated MLP, two
 * residual additions a layer. What a family changes is a field here.
 *
 * @param family name of the family
 * @param qkvBias whether the projections to queries, keys and values have biases
 * @param outputBias whether the projection of the attention's output has one
 * @param mlpBias whether the projections of the MLP have biases
 * @param headNorm whether each head of queries and keys is normalised before it is rotated
 * @param defaultHeadDim {@code head_dim} where the configuration has none; 0: hidden size / query heads
 * @param defaultKvHeads {@code num_key_value_heads} where the configuration has none; 0: as many as query heads
 * @param window positions that a row sees in each layer
 */
record LlamaDecoder(
        String family,
        boolean qkvBias,
        boolean outputBias,
        boolean mlpBias,
        boolean headNorm,
        int defaultHeadDim,
        int defaultKvHeads,
        Window window) {

    /** Positions that a row of a layer sees, itself included; 0 for all. */
    interface Window {
        Window NONE = layer -> 0;

        int of(int layer);
    }

    private static final int MAX_WIDTH = 1 << 24;
    private static final int MAX_LAYERS = 1 << 12;

    Program build(ModelConfig config, ProgramBuilder p) {
        int hidden = config.requireInt("hidden_size", 1, MAX_WIDTH);
        int intermediate = config.requireInt("intermediate_size", 1, MAX_WIDTH);
        int layers = config.requireInt("num_hidden_layers", 1, MAX_LAYERS);
        int heads = config.requireInt("num_attention_heads", 1, hidden);
        int vocabulary = config.requireInt("vocab_size", 1, Integer.MAX_VALUE);
        int kvHeads = config.intOr("num_key_value_heads", defaultKvHeads == 0 ? heads : defaultKvHeads, 1, heads);
        int headDim = config.intOr(
                "head_dim", defaultHeadDim == 0 ? hidden / heads : defaultHeadDim, 1, MAX_WIDTH / heads);
        int maxPositions = config.intOr("max_position_embeddings", 2048, 1, Integer.MAX_VALUE);
        float epsilon = (float) config.positiveOr("rms_norm_eps", 1e-6);
        if (heads % kvHeads != 0) {
            throw new LaminaException(config.where() + ": " + heads + " attention heads cannot share " + kvHeads
                    + " key-value heads evenly.");
        }
        var activation = Activation.of(config, "hidden_act", "silu");
        var rope = p.rope(config, headDim, maxPositions);
        float scale = (float) (1 / Math.sqrt(headDim));
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, vocabulary, hidden);
        for (int layer = 0; layer < layers; layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var h = p.rmsNorm(x, "input_layernorm.weight", epsilon);
            var q = p.linear(h, "self_attn.q_proj", heads * headDim, qkvBias);
            var k = p.linear(h, "self_attn.k_proj", kvHeads * headDim, qkvBias);
            var v = p.linear(h, "self_attn.v_proj", kvHeads * headDim, qkvBias);
            if (headNorm) {
                p.rmsNormHeads(q, "self_attn.q_norm.weight", heads, epsilon);
                p.rmsNormHeads(k, "self_attn.k_norm.weight", kvHeads, epsilon);
            }
            p.rotate(q, rope, heads);
            p.rotate(k, rope, kvHeads);
            var attended = p.attention(q, k, v, heads, kvHeads, window.of(layer), scale);
            p.addTo(x, p.linear(attended, "self_attn.o_proj", hidden, outputBias));

            h = p.rmsNorm(x, "post_attention_layernorm.weight", epsilon);
            var gate = p.linear(h, "mlp.gate_proj", intermediate, mlpBias);
            var up = p.linear(h, "mlp.up_proj", intermediate, mlpBias);
            p.addTo(x, p.linear(p.activate(activation, gate, up), "mlp.down_proj", hidden, mlpBias));
        }
        p.stage("head", "");
        var last = p.rmsNorm(p.outputRows(x), "model.norm.weight", epsilon);
        // A head of its own wins over a configuration that says there is none, as in the transformers library.
        boolean tied = config.booleanOr("tie_word_embeddings", false) && !p.has("lm_head.weight");
        return p.logits(family, embedding, last, tied ? embedding : "lm_head.weight", vocabulary,
                rope.contextLimit());
    }
}
