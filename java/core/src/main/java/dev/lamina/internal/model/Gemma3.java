package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/**
 * Gemma 3: most layers have a window and a rope of their own, queries and keys are normalised. Of models that see
 * images too, the part that reads and writes text.
 */
final class Gemma3 implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of(
            "vocab_size", 262208,
            "hidden_size", 2304,
            "intermediate_size", 9216,
            "num_hidden_layers", 26,
            "num_attention_heads", 8,
            "num_key_value_heads", 4,
            "head_dim", 256,
            "query_pre_attn_scalar", 256,
            "sliding_window", 4096);

    @Override
    public String name() {
        return "Gemma 3";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("gemma3", "gemma3_text");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var text = TextModel.of(given, p);
        var config = text.config().withDefaults(DEFAULTS);
        var dims = Dims.of(config, 0, 0, 131072);
        var far = p.rope(LayerTypes.rope(config, "full_attention", config.positiveOr("rope_theta", 1e6), dims));
        double localTheta = config.positiveOr("rope_local_base_freq", 1e4);
        var local = p.rope(LayerTypes.rope(config, "sliding_attention", localTheta, dims));
        float scale = (float) (1 / Math.sqrt(config.positiveOr("query_pre_attn_scalar", dims.headDim())));
        var all = Attending.all(scale);
        var near = all.withWindow(config.intOr("sliding_window", 0, 1, Integer.MAX_VALUE));
        var sliding = LayerTypes.sliding(config, dims.layers(),
                LayerTypes.allButEvery(config, "sliding_window_pattern", 6));
        return new GemmaDecoder(name(), text.prefix(), true, true,
                Activation.of(config, "hidden_activation", "gelu_pytorch_tanh"),
                layer -> sliding.test(layer) ? new GemmaDecoder.Layer(local, near) : new GemmaDecoder.Layer(far, all),
                Gemma2.cap(config, "final_logit_softcapping"))
                .build(config, dims, p, text.head(given, p, true), dims.maxPositions());
    }
}
