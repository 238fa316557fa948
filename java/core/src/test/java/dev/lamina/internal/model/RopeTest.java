package dev.lamina.internal.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import org.junit.jupiter.api.Test;

/** Frequencies against their closed forms; the golden fixtures hold llama3 and yarn against the reference code. */
class RopeTest {
    private static Rope rope(String scaling) {
        return Rope.of(
                ModelConfig.parse("config.json", "{\"rope_theta\": 10000.0, \"rope_scaling\": " + scaling + "}"),
                8, 64);
    }

    @Test
    void default_() {
        assertArrayEquals(new float[] {1f, 0.1f, 0.01f, 0.001f}, rope("null").frequencies(10), 1e-9f);
        assertEquals(64, rope("null").contextLimit());
    }

    @Test
    void linearDividesAll() {
        var rope = rope("{\"type\": \"linear\", \"factor\": 4.0}");
        assertArrayEquals(new float[] {0.25f, 0.025f, 0.0025f, 0.00025f}, rope.frequencies(10), 1e-9f);
        assertEquals(256, rope.contextLimit());
    }

    @Test
    void dynamicGrowsWithTheSequence() {
        var rope = rope("{\"rope_type\": \"dynamic\", \"factor\": 2.0}");
        assertArrayEquals(rope("null").frequencies(1), rope.frequencies(64), "no change up to max_position_embeddings");
        double base = 10000 * Math.pow(2.0 * 128 / 64 - 1, 8.0 / 6);
        assertEquals(Math.pow(base, -0.75), rope.frequencies(128)[3], 1e-9);
    }

    @Test
    void newerFormOfTheConfiguration() {
        var config = ModelConfig.parse("config.json",
                "{\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2.0, \"rope_theta\": 10000.0}}");
        assertArrayEquals(new float[] {0.5f, 0.05f, 0.005f, 0.0005f}, Rope.of(config, 8, 64).frequencies(1), 1e-9f);
    }

    @Test
    void unknownTypeIsNamed() {
        var error = assertThrows(LaminaException.class, () -> rope("{\"rope_type\": \"spiral\", \"factor\": 2.0}"));
        assertTrue(error.getMessage().contains("spiral"), error.getMessage());
        assertThrows(LaminaException.class, () -> rope("{\"rope_type\": \"linear\"}"));
    }
}
