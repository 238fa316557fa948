package dev.lamina.internal.model;

/**
 * The frame that most decoders share: a residual stream, to which each layer adds twice what a part of it makes of the
 * stream's norm.
 *
 * @param family name of the family
 * @param prefix what the names of all tensors but the head begin with
 * @param dims its dimensions
 * @param norm the style of all norms of the stream
 * @param attention the first part of each layer
 * @param feedForward the second part
 */
record PreNormDecoder(String family, String prefix, Dims dims, NormStyle norm, Attention attention,
        FeedForward feedForward) {

    /** What rows of a sequence tell one another. */
    interface Attention {
        /** Returns (rows, hidden) of {@code h}, which has the same shape. */
        Value of(Value h, int layer);
    }

    /** What each row computes by itself. */
    interface FeedForward {
        /** Adds to the stream {@code x} what it makes of its norm {@code h}. */
        void add(Value x, Value h, int layer);
    }

    /** The name of the embedding table. */
    String embedding() {
        return prefix + "embed_tokens.weight";
    }

    /**
     * Records the program.
     *
     * @param head the whole name of the head's weight
     */
    Program build(ProgramBuilder p, String head, int contextLimit) {
        p.stage("embedding", "");
        var x = p.embed(embedding(), dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, prefix + "layers." + layer + ".");
            p.addTo(x, attention.of(p.norm(x, "input_layernorm", norm), layer));
            feedForward.add(x, p.norm(x, "post_attention_layernorm", norm), layer);
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), prefix + "norm", norm);
        p.logits(last, head, dims.vocabulary(), null);
        return p.program(family, contextLimit);
    }
}
