package dev.lamina.internal.model;

import java.util.function.IntFunction;

/**
 * The decoder of the Gemma models: Llama with norms that multiply with one more than what is stored, and an embedding
 * that is multiplied with the square root of its width. Published code rounds that factor to the type it computes in,
 * which is f32 here.
 *
 * @param family name of the family
 * @param prefix what the names of tensors begin with
 * @param doubleNorms whether what attention and MLP make is normalised too before it is added
 * @param headNorms whether each head of queries and keys is normalised before it is rotated
 * @param function of the MLP's gates
 * @param layers what is different from layer to layer
 * @param finalCap limit of the logits; 0 for none
 */
record GemmaDecoder(String family, String prefix, boolean doubleNorms, boolean headNorms, Activation function,
        IntFunction<Layer> layers, float finalCap) {

    /** How a layer rotates and attends. */
    record Layer(Rope rope, Attending attending) {}

    /**
     * Records the program.
     *
     * @param head tensor of the head
     */
    Program build(ModelConfig config, Dims dims, ProgramBuilder p, String head, int contextLimit) {
        config.refuse("use_bidirectional_attention");
        var norm = NormStyle.rmsPlusOne((float) config.positiveOr("rms_norm_eps", 1e-6));
        boolean bias = config.booleanOr("attention_bias", false);
        int hidden = dims.hidden();

        p.stage("embedding", "");
        var x = p.embed(prefix + "embed_tokens.weight", dims.vocabulary(), hidden);
        p.scale(x, (float) Math.sqrt(hidden));
        for (int number = 0; number < dims.layers(); number++) {
            p.layer(number, prefix + "layers." + number + ".");
            var layer = layers.apply(number);
            var qkv = Qkv.separate(p, p.norm(x, "input_layernorm", norm), dims, bias);
            if (headNorms) {
                p.normHeads(qkv.queries(), "self_attn.q_norm", dims.heads(), norm);
                p.normHeads(qkv.keys(), "self_attn.k_norm", dims.kvHeads(), norm);
            }
            var attended = qkv.rotated(p, layer.rope, false).attend(p, layer.attending);
            var made = p.linear(attended, "self_attn.o_proj", hidden, bias);
            p.addTo(x, doubleNorms ? p.norm(made, "post_attention_layernorm", norm) : made);

            var h = p.norm(x, doubleNorms ? "pre_feedforward_layernorm" : "post_attention_layernorm", norm);
            made = Mlp.gated(p, h, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", dims.intermediate(), function,
                    false);
            p.addTo(x, doubleNorms ? p.norm(made, "post_feedforward_layernorm", norm) : made);
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), prefix + "norm", norm);
        var logits = p.logits(last, head, dims.vocabulary(), null);
        if (finalCap > 0) {
            p.softCap(logits, finalCap);
        }
        return p.program(family, contextLimit);
    }
}
