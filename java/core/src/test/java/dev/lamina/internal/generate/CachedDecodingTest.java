package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.ModelOptions;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.telemetry.Telemetry;
import java.io.IOException;
import java.nio.ByteOrder;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Of every family: a row has the same logits, to the last bit, beside all rows before it and after them. */
class CachedDecodingTest {
    private static final long MEMORY = 64 << 20;
    private static final int PANEL = 1 << 14;

    static List<Fixture> fixtures() throws IOException {
        return GoldenTest.fixtures();
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void rowByRowIsAsAllRowsTogether(Fixture fixture) throws IOException {
        var ids = fixture.prompts().getLast().ids();
        var config = ModelConfig.load(fixture.directory());
        var use = MemoryUse.of(MEMORY, 0, 0);
        try (var processor = Processor.open("cpu", 1, false).getFirst();
                var weights = Weights.open(Checkpoint.open(fixture.directory()), config, List.of(processor),
                        ModelOptions.defaults(), use, PANEL);
                var budget = new Budget(weights, use, Budget.Name.of(MEMORY), PANEL, weights.streamOptions(),
                        null, null, Telemetry.NONE)) {
            var together = logits(weights, budget, ids, ids.length);
            for (int rows : new int[] {1, 5}) {
                var apart = logits(weights, budget, ids, rows);
                for (int row = 0; row < ids.length; row++) {
                    assertArrayEquals(together[row], apart[row], "row " + row + ", " + rows + " at a time");
                }
            }
        }
    }

    /** The logits of all tokens, of which that many are computed at a time. */
    private static float[][] logits(Weights weights, Budget budget, int[] ids, int rows) throws IOException {
        var logits = new float[ids.length][weights.program().vocabulary()];
        var sweep = budget.prepare(rows, rows, 1, List.of(ids.length), 0);
        try (var sequence = new Sequence(budget.newCache(ids.length), weights.program().ropes())) {
            sequence.setTokens(ids);
            while (sequence.pending() > 0) {
                int first = sequence.cached();
                int count = Math.min(rows, sequence.pending());
                boolean done = sweep.run(List.of(new Sweep.Part(sequence, count, Sweep.Output.ALL)),
                        (outputs, firstColumn, columns, block) -> {
                            var floats = block.asByteBuffer().order(ByteOrder.nativeOrder()).asFloatBuffer();
                            for (int row = 0; row < outputs; row++) {
                                floats.get(row * columns, logits[first + row], firstColumn, columns);
                            }
                        }, progress -> { }, () -> false);
                assertTrue(done);
            }
        }
        return logits;
    }
}
