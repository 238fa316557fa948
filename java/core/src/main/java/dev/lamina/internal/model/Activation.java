package dev.lamina.internal.model;

import dev.lamina.LaminaException;

/** An activation function. */
public enum Activation {
    SILU,
    GELU,
    GELU_TANH,
    RELU;

    /** The function that a configuration names, as Hugging Face spells it. */
    static Activation of(ModelConfig config, String key, String fallback) {
        var name = config.stringOr(key, fallback);
        return switch (name) {
            case "silu", "swish" -> SILU;
            case "gelu" -> GELU;
            case "gelu_new", "gelu_pytorch_tanh", "gelu_fast" -> GELU_TANH;
            case "relu" -> RELU;
            default -> throw new LaminaException(config.where() + ": \"" + key + "\" is \"" + name
                    + "\", which is not supported; silu, gelu, gelu_pytorch_tanh and relu are.");
        };
    }
}
