package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import java.util.List;
import java.util.stream.Collectors;

/** What a configuration says of weights that were quantized by whoever published them. */
final class Quantization {
    private static final List<Double> BLOCK = List.of(128.0, 128.0);

    private Quantization() {}

    /** Refuses what cannot be read, and names it. */
    static void check(ModelConfig config) {
        var text = config.object("text_config");
        var found = config.object("quantization_config");
        if (found == null && text != null) {
            found = text.object("quantization_config");
        }
        if (found == null) {
            return;
        }
        var method = found.stringOr("quant_method", "an unnamed method");
        switch (method) {
            case "mxfp4" -> { }
            case "fp8" -> {
                var format = found.stringOr("fmt", "e4m3");
                if (!format.equals("e4m3")) {
                    throw unsupported(config, "fp8 of the format " + format);
                }
                var block = found.numbers("weight_block_size");
                if (!block.equals(BLOCK)) {
                    throw unsupported(config, block.isEmpty()
                            ? "fp8 and one scale for a tensor"
                            : "fp8 and a scale for a block of " + block.stream()
                                    .map(size -> String.valueOf(size.longValue()))
                                    .collect(Collectors.joining(" x ")));
                }
            }
            default -> throw unsupported(config, method);
        }
    }

    private static LaminaException unsupported(ModelConfig config, String what) {
        return new LaminaException(config.where() + ": the weights are quantized with " + what
                + ", which is not supported. Take the model in bf16, or in fp8 with a scale for a block of 128 x 128.");
    }
}
