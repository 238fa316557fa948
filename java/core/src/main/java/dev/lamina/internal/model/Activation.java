package dev.lamina.internal.model;

import dev.lamina.LaminaException;

/** An activation function; the formulas stand in {@code lamina.h}. */
public enum Activation {
    SILU,
    GELU,
    GELU_TANH,
    RELU,
    SIGMOID,
    IDENTITY,
    RELU_SQUARED,
    QUICK_GELU,
    SOFT_CAP,
    CLAMPED_SWIGLU;

    /** The function that a configuration names, as Hugging Face spells it. */
    static Activation of(ModelConfig config, String key, String fallback) {
        var name = config.stringOr(key, fallback);
        return switch (name) {
            case "silu", "swish", "swiglu" -> SILU;
            case "gelu", "gelu_python" -> GELU;
            case "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python_tanh", "gelu_accurate" -> GELU_TANH;
            case "quick_gelu" -> QUICK_GELU;
            case "relu" -> RELU;
            case "relu2" -> RELU_SQUARED;
            case "sigmoid" -> SIGMOID;
            case "linear" -> IDENTITY;
            default -> throw new LaminaException(config.where() + ": \"" + key + "\" is \"" + name
                    + "\", which is not supported; silu, gelu, gelu_pytorch_tanh, quick_gelu, relu, relu2, sigmoid and"
                    + " linear are.");
        };
    }
}
