package dev.lamina.internal.model;

import java.util.List;

/**
 * Small numbers that are loaded once, widened to f32, and stay: a norm, a bias, the scales of a weight.
 *
 * @param name its name in the program
 * @param parts what it is made of, one part after the other
 */
public record Vector(String name, List<Part> parts) {
    /** What becomes of each element of a tensor. */
    public enum Change {
        NONE,
        /** 1 + x */
        PLUS_ONE,
        /** -exp(x) */
        NEGATIVE_EXP
    }

    /** Consecutive elements. */
    public sealed interface Part {}

    /** All elements of a tensor, whatever its dimensions. */
    public record Stored(String tensor, Change change) implements Part {}

    /** Numbers that follow from the configuration. */
    public record Given(List<Float> values) implements Part {
        /** Copies the list. */
        public Given {
            values = List.copyOf(values);
        }
    }

    /** Copies the list. */
    public Vector {
        parts = List.copyOf(parts);
    }
}
