package dev.lamina.internal.model;

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

    Program build(ModelConfig config, ProgramBuilder p) {
        var dims = Dims.of(config, defaultKvHeads, defaultHeadDim, 2048);
        int hidden = dims.hidden();
        int heads = dims.heads();
        int kvHeads = dims.kvHeads();
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-6));
        var activation = Activation.of(config, "hidden_act", "silu");
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), hidden);
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var h = p.norm(x, "input_layernorm", norm);
            var q = p.linear(h, "self_attn.q_proj", dims.queries(), qkvBias);
            var k = p.linear(h, "self_attn.k_proj", dims.keys(), qkvBias);
            var v = p.linear(h, "self_attn.v_proj", dims.keys(), qkvBias);
            if (headNorm) {
                p.normHeads(q, "self_attn.q_norm", heads, norm);
                p.normHeads(k, "self_attn.k_norm", kvHeads, norm);
            }
            p.rotate(q, rope, heads);
            p.rotate(k, rope, kvHeads);
            var attending = Attending.all(dims.scale()).withWindow(window.of(layer));
            var attended = p.attention(q, k, v, heads, kvHeads, attending);
            p.addTo(x, p.linear(attended, "self_attn.o_proj", hidden, outputBias));

            h = p.norm(x, "post_attention_layernorm", norm);
            p.addTo(x, Mlp.gated(p, h, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", dims.intermediate(), activation,
                    mlpBias));
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.norm", norm);
        p.logits(last, p.head(config, embedding, false), dims.vocabulary(), null);
        return p.program(family, rope.contextLimit());
    }
}
