package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** Qwen2 and Qwen2.5: Llama with biases on queries, keys and values; later layers may have a sliding window. */
final class Qwen2 implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("max_position_embeddings", 32768);
    private static final int DEFAULT_WINDOW = 4096;
    private static final int DEFAULT_FULL_LAYERS = 28;

    @Override
    public String name() {
        return "Qwen2";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Qwen2ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("qwen2");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder builder) {
        var config = given.withDefaults(DEFAULTS);
        return new LlamaDecoder(name(), true, false, false, false, window(config)).build(config, builder);
    }

    /** The window of each layer: {@code layer_types} where given, else the layers from {@code max_window_layers} on. */
    static LlamaDecoder.Window window(ModelConfig config) {
        int fallback = config.mentions("sliding_window") ? 0 : DEFAULT_WINDOW;
        int window = config.booleanOr("use_sliding_window", false)
                ? config.intOr("sliding_window", fallback, 0, Integer.MAX_VALUE)
                : 0;
        int fullLayers = config.intOr("max_window_layers", DEFAULT_FULL_LAYERS, 0, Integer.MAX_VALUE);
        int layers = config.requireInt("num_hidden_layers", 1, Dims.MAX_LAYERS);
        var sliding = LayerTypes.sliding(config, layers, layer -> layer >= fullLayers);
        return layer -> sliding.test(layer) ? window : 0;
    }
}
