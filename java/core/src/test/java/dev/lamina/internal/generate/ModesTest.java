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
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.shard.SplitOptions;
import dev.lamina.internal.shard.Splitter;
import dev.lamina.internal.shard.StageTensors;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Logits have the same bits, and texts the same tokens, whatever the memory, panels, threads, reading, batch or files.
 */
class ModesTest {
    @TempDir
    Path temporary;

    static List<Fixture> fixtures() throws IOException {
        return Fixture.find(List.of("llama32_tied", "mistral_swa", "qwen2_tied", "internlm2",
                "baichuan2_13b_alibi_normhead"));
    }

    static Map<String, ModelOptions> modes() {
        var modes = new LinkedHashMap<String, ModelOptions>();
        for (long panel : new long[] {1, 4000, 65536}) {
            modes.put("panel " + panel, ModelOptions.builder().panel(panel).build());
        }
        for (int prefetch : new int[] {0, 1, 7}) {
            modes.put("prefetch " + prefetch, ModelOptions.builder().prefetch(prefetch).panel(10_000).build());
        }
        for (int threads : new int[] {1, 2, 3}) {
            modes.put("threads " + threads, ModelOptions.builder().threads(threads).build());
        }
        for (var io : ModelOptions.Io.values()) {
            if (io != ModelOptions.Io.DIRECT && io != ModelOptions.Io.GDS) {
                modes.put("io " + io, ModelOptions.builder().io(io).build());
            }
        }
        modes.put("all resident", ModelOptions.builder().memory("1GiB").build());
        modes.put("context", ModelOptions.builder().context(500).build());
        return modes;
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void logitsHaveTheSameBits(Fixture fixture) throws IOException {
        var prompt = fixture.prompts().getLast().ids();
        var reference = logits(fixture.directory(), ModelOptions.defaults(), prompt);
        for (var mode : modes().entrySet()) {
            assertArrayEquals(reference, logits(fixture.directory(), mode.getValue(), prompt), mode.getKey());
        }
        long least = leastMemory(fixture.directory(), prompt);
        for (long memory = least; memory < 4 * least; memory += least / 3) {
            var options = ModelOptions.builder().memory(memory).panel(8192).prefetch(1).build();
            assertArrayEquals(reference, logits(fixture.directory(), options, prompt), "memory " + memory);
        }
        var shards = split(fixture.directory(), temporary.resolve(fixture.toString()));
        assertArrayEquals(reference, logits(shards, ModelOptions.defaults(), prompt), "split");
        assertArrayEquals(reference, logits(shards, ModelOptions.builder().panel(3000).prefetch(0).build(), prompt),
                "split, small panels");
    }

    /** A shard set over several drives computes what the others do, whatever the cut and the order of its folders. */
    @ParameterizedTest
    @MethodSource("fixtures")
    void shardsOnSeveralDrivesGiveTheSameBits(Fixture fixture) throws IOException {
        var prompt = fixture.prompts().getLast().ids();
        var greedy = GenerationOptions.builder().maxTokens(20).greedy().ignoreEos(true).build();
        var reference = logits(fixture.directory(), ModelOptions.defaults(), prompt);
        List<Integer> tokens;
        try (var model = LanguageModel.open(fixture.directory().toString())) {
            tokens = model.generate(Prompt.ids(prompt), greedy).ids();
        }
        for (var rates : List.of(List.of(1L, 1L), List.of(1L, 3L), List.of(2L, 1L, 1L))) {
            var folders = split(fixture.directory(), temporary.resolve(fixture.toString() + rates), rates);
            assertTrue(Checkpoint.open(folders).tensors().stream().anyMatch(tensor -> tensor.parts().size() > 1));
            for (long panel : new long[] {0, 1000}) {
                var order = panel == 0 ? folders : folders.reversed();
                var options = ModelOptions.builder().shards(order).panel(panel).prefetch(panel == 0 ? -1 : 3).build();
                assertArrayEquals(reference, logits(order.getFirst(), options, prompt), rates + ", panel " + panel);
            }
            // the folder of the original may be named for what is not in the shards
            var options = ModelOptions.builder().shards(folders).memory("1GiB").build();
            try (var model = LanguageModel.open(fixture.directory().toString(), options)) {
                assertEquals(tokens, model.generate(Prompt.ids(prompt), greedy).ids());
                assertTrue(model.info().split());
            }
        }
    }

    @Test
    void shardsOfAnotherModelAreRefused() throws IOException {
        var fixtures = fixtures();
        var folders = split(fixtures.get(0).directory(), temporary.resolve("set"), List.of(1L, 1L));
        var options = ModelOptions.builder().shards(folders).build();
        var message = assertThrows(LaminaException.class,
                () -> LanguageModel.open(fixtures.get(1).directory().toString(), options)).getMessage();
        assertTrue(message.contains("another model"), message);
        var half = ModelOptions.builder().shards(folders.subList(0, 1)).build();
        message = assertThrows(LaminaException.class,
                () -> LanguageModel.open(folders.getFirst().toString(), half)).getMessage();
        assertTrue(message.contains("part 1 of 2"), message);
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void eachOfABatchIsAsAlone(Fixture fixture) throws IOException {
        var greedy = GenerationOptions.builder().maxTokens(20).greedy().ignoreEos(true).build();
        var seeded = GenerationOptions.builder().maxTokens(20).temperature(1.5).topK(40).topP(0.95).minP(0.01)
                .repetitionPenalty(1.1).seed(42L).ignoreEos(true).build();
        var prompts = new ArrayList<Prompt>();
        for (var prompt : fixture.prompts()) {
            prompts.add(Prompt.ids(prompt.ids()));
        }
        for (var options : List.of(greedy, seeded)) {
            try (var model = LanguageModel.open(fixture.directory().toString())) {
                var alone = prompts.stream().map(prompt -> model.generate(prompt, options).ids()).toList();
                assertEquals(alone, model.generate(prompts, options).stream().map(Generation::ids).toList());
                try (var small = LanguageModel.open(fixture.directory().toString(),
                        ModelOptions.builder().panel(5000).threads(3).prefetch(2).build())) {
                    assertEquals(alone, small.generate(prompts, options).stream().map(Generation::ids).toList());
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void everyInstructionSetGivesTheSameBits(Fixture fixture) throws Exception {
        var prompt = fixture.prompts().getLast().ids();
        var digests = new TreeMap<String, String>();
        for (var simd : List.of("plain", "avx2", "avx512", "neon")) {
            var command = List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                    "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"),
                    LogitsDigest.class.getName(), fixture.directory().toString(), Arrays.toString(prompt));
            var builder = new ProcessBuilder(command).redirectErrorStream(true);
            builder.environment().put("LAMINA_SIMD", simd);
            var process = builder.start();
            var output = new String(process.getInputStream().readAllBytes()).strip();
            assertTrue(process.waitFor(1, TimeUnit.MINUTES));
            if (process.exitValue() == LogitsDigest.UNSUPPORTED) {
                continue;
            }
            assertEquals(0, process.exitValue(), output);
            digests.put(simd, output);
        }
        assertTrue(digests.containsKey("plain"), "the plain version runs everywhere");
        assertEquals(1, digests.values().stream().distinct().count(), digests.toString());
        assertEquals(LogitsDigest.of(logits(fixture.directory(), ModelOptions.defaults(), prompt)),
                digests.get("plain"));
    }

    static float[] logits(Path directory, ModelOptions options, int[] ids) {
        try (var model = LanguageModel.open(directory.toString(), options)) {
            int vocabulary = model.info().vocabulary();
            var all = new float[ids.length * vocabulary];
            model.logits(ids, (firstRow, rows, firstColumn, columns, values) -> {
                for (int row = 0; row < rows; row++) {
                    values.get(row * columns, all, (firstRow + row) * vocabulary + firstColumn, columns);
                }
            });
            return all;
        }
    }

    /** The smallest power of two that is accepted as a budget, with small panels. */
    private static long leastMemory(Path directory, int[] prompt) {
        for (long memory = 1 << 10; ; memory *= 2) {
            try (var model = LanguageModel.open(directory.toString(),
                    ModelOptions.builder().memory(memory).panel(8192).prefetch(1).build())) {
                model.logits(prompt, (firstRow, rows, firstColumn, columns, values) -> { });
                return memory;
            } catch (LaminaException e) {
                assertTrue(e.getMessage().contains("memory"), e.getMessage());
            }
        }
    }

    static Path split(Path source, Path out) throws IOException {
        return split(source, out, List.of(1L)).getFirst();
    }

    /** Splits a model over one folder for each rate, and returns them. */
    static List<Path> split(Path source, Path out, List<Long> rates) throws IOException {
        var folders = IntStream.range(0, rates.size()).mapToObj(i -> out.resolve("drive" + i)).toList();
        Splitter.split(source, folders, checkpoint -> Architectures.program(ModelConfig.load(source), checkpoint)
                .stages().stream()
                .map(stage -> new StageTensors(stage.name(), stage.tensors()))
                .toList(), new SplitOptions(false, rates), (phase, done, total) -> { });
        return folders;
    }
}
