package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import java.util.function.IntPredicate;

/** Which layers of a model attend to all positions, and which do something else. */
final class LayerTypes {
    private LayerTypes() {}

    /**
     * Reads {@code layer_types}, of {@code sliding_attention} and {@code full_attention}.
     *
     * @param fallback whether a layer has a window, where the configuration has no such list
     */
    static IntPredicate sliding(ModelConfig config, int layers, IntPredicate fallback) {
        return of(config, layers, "sliding_attention", fallback);
    }

    /** Which layers are of a type that is not {@code full_attention}, as all others are. */
    static IntPredicate of(ModelConfig config, int layers, String wanted, IntPredicate fallback) {
        var types = config.strings("layer_types");
        if (types.isEmpty()) {
            return fallback;
        }
        if (types.size() < layers) {
            throw new LaminaException(config.where() + ": \"layer_types\" has " + types.size() + " entries for "
                    + layers + " layers.");
        }
        for (var type : types) {
            if (!type.equals(wanted) && !type.equals("full_attention")) {
                throw config.unsupported("layer_types", type, wanted + " and full_attention are");
            }
        }
        return layer -> types.get(layer).equals(wanted);
    }

    /** All layers but every so manyth have a window; {@code key} says how many, else {@code fallback}. */
    static IntPredicate allButEvery(ModelConfig config, String key, int fallback) {
        int period = config.intOr(key, fallback, 1, Integer.MAX_VALUE);
        return layer -> (layer + 1) % period != 0;
    }

    /**
     * The rope of a type of layers, from an object of its own in {@code rope_parameters}; {@code rope_scaling} is that
     * of the layers without a window alone.
     */
    static Rope rope(ModelConfig config, String type, double defaultTheta, Dims dims) {
        var each = config.object("rope_parameters");
        var parameters = each == null ? null : each.object(type);
        if (parameters == null && type.equals("full_attention")) {
            parameters = config.object("rope_scaling");
        }
        return Rope.of(config, parameters, defaultTheta, dims.headDim(), dims.maxPositions());
    }
}
