package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.GenerationOptions;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.MemoryPlan;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import dev.lamina.Rates;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Plans that were saved do the same again. */
class SavedPlanTest {
    private static final GenerationOptions GREEDY =
            GenerationOptions.builder().maxTokens(3).greedy().ignoreEos(true).build();
    private static final int POSITIONS = 12;

    @TempDir
    private Path temporary;

    private static String directory(String fixture) throws IOException {
        return Fixture.find(List.of(fixture)).getFirst().directory().toString();
    }

    private static MemoryPlan plan(LanguageModel model, int positions) {
        return model.plan(0, positions, Rates.assumed());
    }

    private Path save(ModelOptions options) throws IOException {
        var file = temporary.resolve("plan");
        try (var model = LanguageModel.open(directory("qwen3"), options)) {
            model.savePlan(file, POSITIONS);
        }
        return file;
    }

    /** Options with which the fixture is in memory in part, and a longer context takes some of that. */
    private static ModelOptions thatStream(String device) throws IOException {
        for (long memory = 500 << 10; memory < 1 << 20; memory += 20 << 10) {
            var options = ModelOptions.builder().device(device).memory(memory).deviceMemory(120 << 10).panel(8192)
                    .prefetch(1).build();
            try (var model = LanguageModel.open(directory("qwen3"), options)) {
                if (plan(model, POSITIONS).bytesPerSweep() > 0
                        && plan(model, 50).residentBytes() < plan(model, POSITIONS).residentBytes()) {
                    return options;
                }
            } catch (LaminaException e) {
                assertTrue(e.getMessage().contains("is too small"), e.getMessage());
            }
        }
        throw new AssertionError("no budget is between all and nothing");
    }

    @ParameterizedTest
    @ValueSource(strings = {"cpu", "cuda-emulated", "cuda-emulated:1,cuda-emulated:0"})
    void aPlanIsDoneAgain(String device) throws IOException {
        if (!device.equals("cpu")) {
            Emulation.assume();
        }
        var options = thatStream(device);
        var file = save(options);
        try (var first = LanguageModel.open(directory("qwen3"), options);
                var again = LanguageModel.open(directory("qwen3"), ModelOptions.builder().plan(file).build())) {
            var expected = plan(first, POSITIONS);
            var planned = plan(again, POSITIONS);
            assertTrue(expected.residentBytes() > 0 && expected.bytesPerSweep() > 0, expected.toString());
            assertEquals(expected.stages(), planned.stages());
            assertEquals(expected.devices(), planned.devices());
            assertEquals(expected.ringSlots(), planned.ringSlots());
            assertEquals(expected.unusedBytes(), planned.unusedBytes());
            assertEquals("as the plan " + file + " has it", planned.memoryOrigin());
            var prompt = Prompt.ids(4, 5, 6, 7);
            first.generate(prompt, GREEDY);
            again.generate(prompt, GREEDY);
            var answer = again.generate(prompt, GREEDY);
            assertEquals(first.generate(prompt, GREEDY).ids(), answer.ids());
            assertEquals(answer.stats().sweeps() * planned.bytesPerSweep(), answer.stats().diskBytes());
            // a longer context takes the place of panels, and the short one gets them back
            var longer = plan(again, 50);
            assertTrue(longer.residentBytes() < planned.residentBytes(), longer.toString());
            assertTrue(longer.unusedBytes() >= 0, longer.toString());
            again.generate(Prompt.ids(new int[45]), GREEDY);
            assertEquals(answer.ids(), again.generate(prompt, GREEDY).ids());
        }
    }

    @Test
    void aPlanOfAllPanelsNeedsNoRing() throws IOException {
        var file = save(ModelOptions.builder().memory(64 << 20).panel(8192).build());
        try (var again = LanguageModel.open(directory("qwen3"), ModelOptions.builder().plan(file).build())) {
            assertEquals(0, plan(again, POSITIONS).ringSlots());
            assertEquals(0, plan(again, POSITIONS).bytesPerSweep());
        }
    }

    @Test
    void aPlanFitsItsModelAndDevicesOnly() throws IOException {
        var file = save(thatStream("cpu"));
        var options = ModelOptions.builder().plan(file);
        refused("is of another model", "llama32_tied", options.build());
        refused("give either a plan or these options", "qwen3", options.memory(1 << 20).build());
        refused("give either a plan or these options", "qwen3", options.memory(0).device("cuda").build());
        refused("nowhere", "qwen3", ModelOptions.builder().plan(temporary.resolve("nowhere")).build());
        var text = Files.readString(file);
        Files.writeString(file, text.replace("\"device\":\"cpu\"", "\"device\":\"gpu\""));
        refused("There is no device gpu", "qwen3", ModelOptions.builder().plan(file).build());
        Files.writeString(file, text.replace("\"device_panels\":[]", "\"device_panels\":[[[399]]]")
                .replace("\"device_memory\":[]", "\"device_memory\":[5]"));
        refused("is no plan that this version reads (panel 399", "qwen3", ModelOptions.builder().plan(file).build());
        for (var bad : List.of("\"row_cache_bytes\":9223372036854775807", "\"panels\":2147483647")) {
            var name = bad.substring(0, bad.indexOf(':') + 1);
            Files.writeString(file, text.replaceFirst(name + "[0-9]+", bad));
            refused("is no plan that this version reads", "qwen3", ModelOptions.builder().plan(file).build());
        }
        Files.writeString(file, text.replace("\"device_panels\":[]", "\"device_panels\":[[[]]]")
                .replace("\"device_memory\":[]", "\"device_memory\":[5]"));
        refused("but none of them", "qwen3", ModelOptions.builder().plan(file).build());
        Files.writeString(file, text.replace("\"host_panels\":[", "\"host_panels\":[1,1,"));
        refused("or twice", "qwen3", ModelOptions.builder().plan(file).build());
    }

    private static void refused(String message, String fixture, ModelOptions options) {
        var error = assertThrows(LaminaException.class, () -> LanguageModel.open(directory(fixture), options).close());
        assertTrue(error.getMessage().contains(message) && error.getMessage().lines().count() == 1,
                error.getMessage());
    }

    @Test
    void whateverIsInTheFileItIsReadOrRefused() throws IOException {
        var file = save(thatStream("cpu"));
        var good = Files.readAllBytes(file);
        var random = new Random(8);
        int read = 0;
        for (int round = 0; round < 500; round++) {
            var bad = good.clone();
            for (int i = 0; i <= random.nextInt(3); i++) {
                bad[random.nextInt(bad.length)] = (byte) "0123456789-.[]{}\",:eax\0\n".charAt(random.nextInt(24));
            }
            Files.write(file, bad);
            try {
                SavedPlan.read(file);
                read++;
            } catch (LaminaException e) {
                assertEquals(1, e.getMessage().lines().count(), e.getMessage());
            }
        }
        assertTrue(read > 3 && read < 490, read + " of 500 were read");
        Files.writeString(file, "[".repeat(100_000));
        assertThrows(LaminaException.class, () -> SavedPlan.read(file));
        Files.write(file, new byte[65 << 20]);
        assertThrows(LaminaException.class, () -> SavedPlan.read(file));
    }
}
