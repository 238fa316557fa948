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
 * @param window positions that a row sees in each layer
 */
record LlamaDecoder(
        String family,
        boolean qkvBias,
        boolean outputBias,
        boolean mlpBias,
        boolean headNorm,
        Window window) {

    /** Positions that a row of a layer sees, itself included; 0 for all. */
    interface Window {
        Window NONE = layer -> 0;

        int of(int layer);
    }

    Program build(ModelConfig config, ProgramBuilder p) {
        var dims = Dims.of(config);
        var activation = Activation.of(config, "hidden_act", "silu");
        return build(config, p, dims, dims.headDim(), (x, h, layer) -> p.addTo(x, Mlp.gated(p, h, "mlp.gate_proj",
                "mlp.up_proj", "mlp.down_proj", dims.intermediate(), activation, mlpBias)));
    }

    /**
     * The same with something else than one MLP in each layer.
     *
     * @param rotaryDim elements of a head that are rotated, from its first on
     */
    Program build(ModelConfig config, ProgramBuilder p, Dims dims, int rotaryDim,
            PreNormDecoder.FeedForward feedForward) {
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-6));
        var rope = p.rope(Rope.of(config, rotaryDim, dims.maxPositions()));
        var decoder = new PreNormDecoder(family, "model.", dims, norm,
                (h, layer) -> attention(p, dims, norm, rope, h, layer), feedForward);
        return decoder.build(p, p.head(config, decoder.embedding(), false), rope.contextLimit());
    }

    private Value attention(ProgramBuilder p, Dims dims, NormStyle norm, Rope rope, Value h, int layer) {
        var qkv = Qkv.separate(p, h, dims, qkvBias);
        if (headNorm) {
            p.normHeads(qkv.queries(), "self_attn.q_norm", dims.heads(), norm);
            p.normHeads(qkv.keys(), "self_attn.k_norm", dims.kvHeads(), norm);
        }
        var attending = Attending.all(dims.scale()).withWindow(window.of(layer));
        var attended = qkv.rotated(p, rope, false).attend(p, attending);
        return p.linear(attended, "self_attn.o_proj", dims.hidden(), outputBias);
    }
}
