package dev.lamina.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.Prompt;
import dev.lamina.benchmarks.SyntheticCheckpoint.Shape;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class SyntheticCheckpointTest {
    private static final long SIZE = 8_000_000;

    @TempDir
    private Path work;

    @Test
    void generatesAsItIsAndSplit() throws IOException {
        var model = SyntheticCheckpoint.write(work, SIZE);
        long bytes = SyntheticCheckpoint.bytes(SyntheticCheckpoint.weightFiles(model));
        assertEquals(SIZE, bytes, 0.05 * SIZE);
        var shards = SyntheticCheckpoint.split(model);

        assertEquals(generate(model), generate(shards));

        var written = Files.getLastModifiedTime(model.resolve("config.json"));
        assertEquals(model, SyntheticCheckpoint.write(work, SIZE));
        assertEquals(written, Files.getLastModifiedTime(model.resolve("config.json")));
        SyntheticCheckpoint.deleteAll(work);
        assertFalse(Files.exists(model));
        assertFalse(Files.exists(shards));
    }

    private static Object generate(Path model) {
        try (var opened = LanguageModel.open(model.toString())) {
            var options = GenerationOptions.builder().maxTokens(5).greedy().ignoreEos(true).build();
            var logits = new double[1];
            opened.logits(new int[] {1, 5, 9}, (firstRow, rows, firstColumn, columns, values) -> {
                for (int i = 0; i < rows * columns; i++) {
                    logits[0] += values.get(i);
                }
            });
            assertTrue(Double.isFinite(logits[0]));
            return opened.generate(Prompt.ids(1, 5, 9), options).ids();
        }
    }

    @ParameterizedTest
    @ValueSource(longs = {268_435_456L, 1_000_000_000L, 4_000_000_000L, 16_000_000_000L, 140_000_000_000L})
    void meetsItsSize(long bytes) {
        var shape = Shape.of(bytes);
        long tables = (shape.tied() ? 2L : 4L) * shape.vocabulary() * shape.hidden();
        // With grouped queries, keys and values are a quarter as wide.
        double layer = 2.0 * shape.hidden() * (2.5 * shape.hidden() + 3.0 * shape.intermediate());
        assertEquals(bytes, tables + shape.layers() * layer, 0.01 * bytes);
        assertTrue(shape.intermediate() > 2 * shape.hidden() && shape.intermediate() < 5 * shape.hidden());
    }
}
