package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.Generation;
import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Products on tensor cores: other bits than exact ones, but the same in all modes. */
class FastModeTest {
    private static final ModelOptions FAST = Emulation.OPTIONS.toBuilder().mode(ModelOptions.Mode.FAST).build();

    /**
     * What rounding the activations of every product to bf16 may do to a logit of the fixture, which are up to 10 in
     * size. The family's published code, which rounds more in bf16, is off by 0.26.
     */
    private static final float TOLERANCE = 0.15f;

    @BeforeAll
    static void needsTheBackend() {
        Emulation.assume();
    }

    @Test
    void logitsAreNearTheExactOnes() throws IOException {
        var exact = EmulatedDeviceTest.logits(Emulation.OPTIONS, EmulatedDeviceTest.IDS);
        var fast = EmulatedDeviceTest.logits(FAST, EmulatedDeviceTest.IDS);
        float most = 0;
        for (int i = 0; i < exact.length; i++) {
            most = Math.max(most, Math.abs(fast[i] - exact[i]));
        }
        assertTrue(most > 1e-4f && most < TOLERANCE, "the largest difference is " + most);
    }

    @Test
    void logitsHaveTheSameBitsInAllModes() throws IOException {
        var ids = IntStream.range(0, 70).map(i -> 3 + i * 7 % 50).toArray();
        var reference = EmulatedDeviceTest.logits(FAST, ids);
        for (int rows : new int[] {1, 5, 12}) {
            assertArrayEquals(Arrays.copyOf(reference, reference.length / ids.length * rows),
                    EmulatedDeviceTest.logits(FAST, Arrays.copyOf(ids, rows)), rows + " rows");
        }
        for (int prefetch : new int[] {0, 7}) {
            for (long panel : new long[] {1, 5000, 65536}) {
                var options = FAST.toBuilder().prefetch(prefetch).panel(panel).build();
                assertArrayEquals(reference, EmulatedDeviceTest.logits(options, ids), options.toString());
            }
        }
    }

    @Test
    void answersAreTheSameAloneAndInABatch() throws IOException {
        var greedy = GenerationOptions.builder().maxTokens(5).greedy().ignoreEos(true).build();
        var prompts = List.of(Prompt.ids(3, 4, 5), Prompt.ids(9), Prompt.ids(7, 6, 5, 4, 3, 2, 8, 11, 12, 13, 14));
        var directory = EmulatedDeviceTest.fixture().directory().toString();
        try (var model = LanguageModel.open(directory, FAST)) {
            var alone = prompts.stream().map(prompt -> model.generate(prompt, greedy).ids()).toList();
            assertEquals(alone, model.generate(prompts, greedy).stream().map(Generation::ids).toList());
            for (var ids : alone) {
                assertEquals(5, ids.size());
            }
        }
    }
}
