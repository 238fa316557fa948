package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** Gemma 2: every other layer has a window, scores and logits are kept within limits. */
final class Gemma2 implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of(
            "num_attention_heads", 8,
            "num_key_value_heads", 4,
            "head_dim", 256,
            "query_pre_attn_scalar", 256,
            "sliding_window", 4096,
            "attn_logit_softcapping", 50,
            "final_logit_softcapping", 30);

    @Override
    public String name() {
        return "Gemma 2";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Gemma2ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("gemma2");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        var dims = Dims.of(config, 0, 0, 8192);
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        float scale = (float) (1 / Math.sqrt(config.positiveOr("query_pre_attn_scalar", dims.headDim())));
        var all = Attending.all(scale).withSoftCap(cap(config, "attn_logit_softcapping"));
        var near = all.withWindow(config.intOr("sliding_window", 0, 1, Integer.MAX_VALUE));
        var sliding = LayerTypes.sliding(config, dims.layers(), layer -> layer % 2 == 0);
        return new GemmaDecoder(name(), "model.", true, false,
                Activation.of(config, "hidden_activation", "gelu_pytorch_tanh"),
                layer -> new GemmaDecoder.Layer(rope, sliding.test(layer) ? near : all),
                cap(config, "final_logit_softcapping"))
                .build(config, dims, p, p.head(config, "model.embed_tokens.weight", true), rope.contextLimit());
    }

    /** A limit; 0 for none. */
    static float cap(ModelConfig config, String key) {
        return (float) config.doubleOr(key, 0, 0, Float.MAX_VALUE);
    }
}
