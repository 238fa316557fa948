package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.Generation;
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
    void answersAreTheSameInEveryBudgetAndBatch() throws IOException {
        var greedy = GenerationOptions.builder().maxTokens(5).greedy().ignoreEos(true).build();
        var prompts = List.of(Prompt.ids(3, 4, 5), Prompt.ids(9), Prompt.ids(7, 6, 5, 4, 3, 2));
        var directory = fixture().directory().toString();
        List<List<Integer>> expected;
        try (var model = LanguageModel.open(directory, Emulation.OPTIONS)) {
            expected = prompts.stream().map(prompt -> model.generate(prompt, greedy).ids()).toList();
            assertTrue(model.info().device().startsWith("cuda-emulated"), model.info().device());
        }
        int streamed = 0;
        for (long memory = 400 << 10; memory < 3 << 20; memory += 250 << 10) {
            var options = Emulation.OPTIONS.toBuilder().memory(memory).panel(8192).prefetch(2).build();
            try (var model = LanguageModel.open(directory, options)) {
                var answers = model.generate(prompts, greedy);
                assertEquals(expected, answers.stream().map(Generation::ids).toList());
                streamed += answers.getFirst().stats().residentBytes() < model.info().weightBytes() ? 1 : 0;
            } catch (LaminaException e) {
                assertTrue(e.getMessage().contains("is too small"), e.getMessage());
            }
        }
        assertTrue(streamed > 1, streamed + " budgets left something to stream");
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
