package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import java.util.Set;

/**
 * QWen, the first generation. Beyond {@code seq_length} positions its rope is stretched, and queries are multiplied
 * with the logarithm of the positions so far.
 */
final class Qwen implements Architecture {
    private static final int DEFAULT_HEAD_DIM = 128;
    private static final int DEFAULT_LENGTH = 8192;

    @Override
    public String name() {
        return "QWen";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("QWenLMHeadModel");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("qwen");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder p) {
        int headDim = config.intOr("kv_channels", DEFAULT_HEAD_DIM, 1, Dims.MAX_WIDTH);
        var dims = Dims.of(config, 0, headDim, DEFAULT_LENGTH);
        var norm = NormStyle.rms((float) config.positiveOr("layer_norm_epsilon", 1e-6));
        boolean bias = !config.booleanOr("no_bias", true);
        int gateAndUp = config.requireInt("intermediate_size", 2, Dims.MAX_WIDTH);
        int length = config.intOr("seq_length", DEFAULT_LENGTH, 2, Integer.MAX_VALUE);
        int rotaryDim = dims.rotaryDim(config, "rotary_pct", 1);
        double base = config.positiveOr("rotary_emb_base", 10000);
        var plain = Rope.of(config, null, base, rotaryDim, dims.maxPositions());
        var keyRope = p.rope(config.booleanOr("use_dynamic_ntk", true)
                ? plain.withScaling(new Rope.Scaling.QwenDynamic(length))
                : plain);
        boolean logarithm = config.booleanOr("use_logn_attn", true);
        if (logarithm && rotaryDim < dims.headDim()) {
            throw new LaminaException(config.where() + ": \"use_logn_attn\" together with \"rotary_pct\" below 1 is not"
                    + " supported.");
        }
        var queryRope = logarithm ? p.rope(keyRope.withGrowth(new Rope.Growth.Logarithm(length))) : keyRope;
        var attending = Attending.all(dims.scale());
        var embedding = "transformer.wte.weight";

        p.stage("embedding", "");
        var x = p.embed(embedding, dims.vocabulary(), dims.hidden());
        for (int layer = 0; layer < dims.layers(); layer++) {
            p.layer(layer, "transformer.h." + layer + ".");
            var attended = Qkv.packed(p, p.norm(x, "ln_1", norm), dims, "attn.c_attn", true)
                    .rotated(p, queryRope, keyRope, false)
                    .attend(p, attending);
            p.addTo(x, p.linear(attended, "attn.c_proj", dims.hidden(), bias));
            p.addTo(x, Mlp.gated(p, p.norm(x, "ln_2", norm), "mlp.w2", "mlp.w1", "mlp.c_proj", gateAndUp / 2,
                    Activation.SILU, bias));
        }
        p.stage("head", "");
        var last = p.norm(p.outputRows(x), "transformer.ln_f", norm);
        p.logits(last, p.head(config, embedding, false), dims.vocabulary(), null);
        return p.program(name(), keyRope.contextLimit());
    }
}
