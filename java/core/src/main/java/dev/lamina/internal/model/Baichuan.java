package dev.lamina.internal.model;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * Baichuan and Baichuan2, 7B and 13B: Llama with one matrix for queries, keys and values. Four designs share two names
 * of a class, so that the rest of the configuration tells them apart:
 *
 * <ul>
 * <li>The 7B models rotate and have {@code max_position_embeddings}. The 13B models, which have
 * {@code model_max_length} alone, add a slope times the distance to the scores (ALiBi,
 * <a href="https://arxiv.org/abs/2108.12409">arXiv 2108.12409</a>).
 * <li>Baichuan2 divides each row of the head by its norm. It is never of the class {@code BaiChuanForCausalLM}, with a
 * capital C, which is the first 7B alone, and never has that one's 64000 tokens. Of the others it is what has
 * Baichuan2's 125696 tokens, what rotates, and what names a {@code tokenizer_class} or a {@code z_loss_weight}, as the
 * first 13B does not.
 * </ul>
 */
final class Baichuan implements Architecture {
    private static final String FIRST_7B = "BaiChuanForCausalLM";
    private static final int FIRST_VOCABULARY = 64000;
    private static final int SECOND_VOCABULARY = 125696;
    private static final float SMALLEST_NORM = 1e-12f;

    @Override
    public String name() {
        return "Baichuan";
    }

    @Override
    public Set<String> architectures() {
        return Set.of(FIRST_7B, "BaichuanForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("baichuan");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder p) {
        boolean rotates = config.has("max_position_embeddings") || config.strings("architectures").contains(FIRST_7B);
        var dims = Dims.of(config, 0, 0, config.intOr("model_max_length", 4096, 1, Integer.MAX_VALUE));
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-6));
        var activation = Activation.of(config, "hidden_act", "silu");
        var rope = rotates ? p.rope(Rope.of(config, dims.headDim(), dims.maxPositions())) : null;
        var attending = Attending.all(dims.scale());
        if (!rotates) {
            var slopes = p.joined("alibi", dims.heads(), List.of(new Vector.Given(slopes(dims.heads()))));
            attending = attending.with(Attending.Kind.ALIBI, slopes);
        }
        var embedding = "model.embed_tokens.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "model.layers." + layer + ".");
            var qkv = Qkv.packed(p, p.norm(x, "input_layernorm", norm), dims, "self_attn.W_pack", false);
            if (rope != null) {
                qkv.rotated(p, rope, false);
            }
            p.addTo(x, p.linear(qkv.attend(p, attending), "self_attn.o_proj", dims.hidden(), false));
            p.addTo(x, Mlp.gated(p, p.norm(x, "post_attention_layernorm", norm), "mlp.gate_proj", "mlp.up_proj",
                    "mlp.down_proj", dims.intermediate(), activation, false));
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "model.norm", norm);
        var logits = p.logits(last, p.head(config, embedding, false), dims.vocabulary(), null);
        if (isSecond(config, dims.vocabulary(), rotates)) {
            p.weightNorm(logits, SMALLEST_NORM);
        }
        return p.program(name(), rope == null ? dims.maxPositions() : rope.contextLimit());
    }

    private static boolean isSecond(ModelConfig config, int vocabulary, boolean rotates) {
        if (vocabulary == FIRST_VOCABULARY || config.strings("architectures").contains(FIRST_7B)) {
            return false;
        }
        return vocabulary == SECOND_VOCABULARY || rotates || config.has("tokenizer_class")
                || config.has("z_loss_weight");
    }

    /**
     * The slopes of the heads: the powers of 2^(-8 / n) where there are n heads and n is a power of two; else those of
     * the power of two below, then every other one of those of the power of two above.
     */
    private static List<Float> slopes(int heads) {
        int below = Integer.highestOneBit(heads);
        var slopes = new ArrayList<Float>();
        for (int head = 0; head < heads; head++) {
            double exponent = head < below ? 8.0 * (head + 1) / below : 4.0 * (2 * (head - below) + 1) / below;
            slopes.add((float) StrictMath.pow(2, -exponent));
        }
        return slopes;
    }
}
