package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.lamina.GenerationOptions;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import java.io.IOException;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** A device with memory of its own: panels are copied to it, in a ring. */
class EmulatedDeviceTest {
    static final int[] IDS = {3, 4, 5, 6, 7, 8, 9};

    @BeforeAll
    static void needsTheBackend() {
        Emulation.assume();
    }

    static Fixture fixture() throws IOException {
        return Fixture.find(List.of("qwen3")).getFirst();
    }

    /** The logits of a prompt's tokens, row after row. */
    static float[] logits(ModelOptions options, int... ids) throws IOException {
        try (var model = LanguageModel.open(fixture().directory().toString(), options)) {
            var all = new float[ids.length][];
            int vocabulary = model.info().vocabulary();
            for (int i = 0; i < all.length; i++) {
                all[i] = new float[vocabulary];
            }
            model.logits(ids, (firstRow, rows, firstColumn, columns, values) -> {
                for (int row = 0; row < rows; row++) {
                    values.get(row * columns, all[firstRow + row], firstColumn, columns);
                }
            });
            var flat = new float[all.length * vocabulary];
            for (int i = 0; i < all.length; i++) {
                System.arraycopy(all[i], 0, flat, i * vocabulary, vocabulary);
            }
            return flat;
        }
    }

    @Test
    void logitsAreThoseOfTheCpuAndHaveTheSameBitsInAllModes() throws IOException {
        var cpu = logits(ModelOptions.defaults(), IDS);
        var reference = logits(Emulation.OPTIONS, IDS);
        for (int i = 0; i < cpu.length; i++) {
            assertEquals(cpu[i], reference[i], 1e-3f);
        }
        for (int prefetch : new int[] {0, 1, 7}) {
            for (long panel : new long[] {1, 5000, 65536}) {
                var options = Emulation.OPTIONS.toBuilder().prefetch(prefetch).panel(panel).build();
                assertArrayEquals(reference, logits(options, IDS), options.toString());
            }
        }
    }

    @Test
    void aCancelledSweepLeavesNothingBehind() throws IOException {
        var options = Emulation.OPTIONS.toBuilder().panel(4096).build(); // so that there is something left to do
        try (var model = LanguageModel.open(fixture().directory().toString(), options)) {
            assertThrows(LaminaException.class, () -> model.logits(IDS, (row, rows, column, columns, values) ->
                    model.cancel()));
            var greedy = GenerationOptions.builder().maxTokens(2).greedy().ignoreEos(true).build();
            assertEquals(2, model.generate(Prompt.ids(IDS), greedy).ids().size());
        } // closing the device fails if any memory was not returned
    }
}
