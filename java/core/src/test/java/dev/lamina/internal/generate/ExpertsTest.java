package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.FinishReason;
import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.GenerationStats;
import dev.lamina.LanguageModel;
import dev.lamina.MemoryPlan;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import dev.lamina.Rates;
import dev.lamina.SweepProgress;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.stream.ExpertCache;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Of experts exactly those are read that rows chose, and that are not in memory; results do not depend on it. */
class ExpertsTest {
    private static final int CONTEXT = 300;
    private static final int EXPERTS = 16; // of the fixture: 8 in each of 2 layers
    private static final int CHOSEN = 2; // of each 8, by a row

    private static final int PASSING = ExpertCache.passing(0, false);

    @TempDir
    Path temporary;

    static List<Fixture> mixtures() throws IOException {
        return Fixture.find(List.of("mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2_lite", "deepseek_v3", "glm4_moe",
                "gpt_oss", "llama4_text", "qwen3_next"));
    }

    /** A shard set, in which the matrices of an expert lie side by side. */
    private Path mixtral() throws IOException {
        return ModesTest.split(Fixture.find(List.of("mixtral")).getFirst().directory(), temporary.resolve("mixtral"));
    }

    private static GenerationOptions greedy(int tokens) {
        return GenerationOptions.builder().maxTokens(tokens).greedy().ignoreEos(true).build();
    }

    private static ModelOptions.Builder options() {
        return ModelOptions.builder().context(CONTEXT).prefetch(2).panel(65536);
    }

    private static MemoryPlan plan(LanguageModel model) {
        return model.plan(0, CONTEXT, Rates.assumed());
    }

    /** A budget that holds all of a model but experts, and so many eighths of the panels of these. */
    private static long memory(Path mixtral, int eighths) {
        try (var model = LanguageModel.open(mixtral.toString(), options().build())) {
            long memory = 16L << 20;
            var planned = model.plan(memory, CONTEXT, Rates.assumed());
            int panels = planned.experts().slots() - PASSING;
            assertEquals(planned.experts().bytes(), planned.experts().keptBytes());
            while (planned.experts().slots() > PASSING + panels * eighths / 8) {
                memory -= 4096;
                planned = model.plan(memory, CONTEXT, Rates.assumed());
                assertEquals(0, planned.bytesPerSweep(), "bytes of what is no expert");
            }
            return memory;
        }
    }

    @Test
    void whatIsReadIsWhatRowsChose() throws IOException {
        var mixtral = mixtral();
        long memory = memory(mixtral, 0);
        try (var model = LanguageModel.open(mixtral.toString(), options().memory(memory).build())) {
            long expertBytes = plan(model).experts().bytes() / EXPERTS;
            var prompt = Prompt.ids(new int[] {5});
            for (int round = 0; round < 2; round++) {
                var stats = model.generate(prompt, greedy(40)).stats();
                assertEquals(40 * 2 * CHOSEN, stats.expertsUsed());
                assertEquals(stats.expertsUsed(), stats.expertsRead());
                assertEquals(0, stats.expertHitRate());
                assertEquals(stats.expertsUsed() * expertBytes, stats.expertBytes());
                long dense = round == 0 ? plan(model).weightBytes() : 0; // read once, to stay
                assertEquals(dense + stats.expertBytes(), stats.diskBytes());
            }
        }
    }

    @Test
    void anExpertIsReadOnceForAllRows() throws IOException {
        var mixtral = mixtral();
        long memory = memory(mixtral, 0);
        var ids = Fixture.find(List.of("mixtral")).getFirst().prompts().getLast().ids();
        try (var model = LanguageModel.open(mixtral.toString(), options().memory(memory).build())) {
            long expertBytes = plan(model).experts().bytes() / EXPERTS;
            var stats = model.generate(Prompt.ids(ids), greedy(1)).stats();
            assertEquals(1, stats.sweeps());
            assertTrue(stats.expertsUsed() > 2 * CHOSEN && stats.expertsUsed() <= EXPERTS,
                    stats.expertsUsed() + " of experts that " + ids.length + " rows chose");
            assertEquals(stats.expertsUsed() * expertBytes, stats.expertBytes());
        }
    }

    @Test
    void expertsThatAreUsedTheMostAreKept() throws IOException {
        var mixtral = mixtral();
        long without = expertBytes(mixtral, 0, 220);
        long half = expertBytes(mixtral, 4, 220);
        assertTrue(half <= 0.6 * without,
                half + " of " + without + " bytes are read with half of the experts in memory");
        assertEquals(0, expertBytes(mixtral, 8, 220), "bytes that are read where all experts are in memory");
    }

    /** Bytes of experts that a second text of so many tokens takes, with memory for so many eighths of them. */
    private static long expertBytes(Path mixtral, int eighths, int tokens) {
        var options = options().memory(memory(mixtral, eighths)).build();
        try (var model = LanguageModel.open(mixtral.toString(), options)) {
            var sampled = GenerationOptions.builder().maxTokens(tokens).temperature(1.5).seed(3L).ignoreEos(true);
            model.generate(Prompt.ids(new int[] {3, 4, 5}), sampled.build());
            return model.generate(Prompt.ids(new int[] {7, 8}), sampled.seed(4L).build()).stats().expertBytes();
        }
    }

    /** A call that leaves less memory for experts drops those that are kept, and not what others pass through. */
    @Test
    @Timeout(60)
    void fewerAreKeptWhereACallNeedsMoreMemory() throws IOException {
        var mixtral = mixtral();
        var options = ModelOptions.builder().prefetch(2).panel(65536).memory(memory(mixtral, 4)).build();
        try (var model = LanguageModel.open(mixtral.toString(), options)) {
            int most = model.plan(0, 20, Rates.assumed()).experts().slots();
            int least = model.plan(0, CONTEXT, Rates.assumed()).experts().slots();
            assertTrue(most - least >= PASSING, least + " of " + most + " slots are left");
            for (int round = 0; round < 3; round++) {
                model.generate(Prompt.ids(new int[] {3 + round}), greedy(19));
                var sampled = GenerationOptions.builder().maxTokens(CONTEXT - 1).temperature(1.5).seed(5L + round);
                var stats = model.generate(Prompt.ids(new int[] {9}), sampled.ignoreEos(true).build()).stats();
                assertEquals((CONTEXT - 1) * 2 * CHOSEN, stats.expertsUsed());
                assertTrue(stats.expertHitRate() > 0.1, "a hit rate of " + stats.expertHitRate());
            }
        }
    }

    @ParameterizedTest
    @MethodSource("mixtures")
    void resultsHaveTheSameBits(Fixture fixture) throws IOException {
        var ids = fixture.prompts().getLast().ids();
        var reference = ModesTest.logits(fixture.directory(), ModelOptions.defaults(), ids);
        long least = leastMemory(fixture, ids);
        var modes = new ArrayList<ModelOptions>();
        for (long panel : new long[] {1, 700, 4000}) {
            modes.add(ModelOptions.builder().panel(panel).prefetch(panel == 700 ? 0 : 3).threads(2).build());
        }
        for (int third = 0; third < 4; third++) {
            var mode = ModelOptions.builder().memory(least + third * least / 3).panel(4096).prefetch(1);
            modes.add(mode.build());
            modes.add(mode.memory(least + (third + 1) * least / 3).predictExperts(true).build());
        }
        for (var mode : modes) {
            assertArrayEquals(reference, ModesTest.logits(fixture.directory(), mode, ids), mode.toString());
        }
        var shards = ModesTest.split(fixture.directory(), temporary.resolve(fixture.toString()));
        assertArrayEquals(reference, ModesTest.logits(shards, ModelOptions.defaults(), ids), "split");
        assertArrayEquals(reference, ModesTest.logits(shards, modes.get(1), ids), "split, small panels");
    }

    private static long leastMemory(Fixture fixture, int[] ids) {
        try (var model = LanguageModel.open(fixture.directory().toString(),
                ModelOptions.builder().panel(4096).prefetch(1).build())) {
            return model.memoryNeeds(ids.length + 8).least();
        }
    }

    /** A call that ends in the middle of a sweep leaves nothing behind: not in caches, states, or slots. */
    @ParameterizedTest
    @MethodSource("mixtures")
    void whatComesAfterACancelledCallIsTheSame(Fixture fixture) throws IOException {
        var least = leastMemory(fixture, fixture.prompts().getLast().ids());
        var options = ModelOptions.builder().memory(least).panel(4096).prefetch(1);
        whatComesAfterACancelledCallIsTheSame(fixture, options.build());
        whatComesAfterACancelledCallIsTheSame(fixture, options.memory(2 * least).predictExperts(true).build());
    }

    private static void whatComesAfterACancelledCallIsTheSame(Fixture fixture, ModelOptions options)
            throws IOException {
        var prompt = Prompt.ids(fixture.prompts().getLast().ids());
        try (var model = LanguageModel.open(fixture.directory().toString(), options)) {
            var expected = model.generate(prompt, greedy(8)).ids();
            for (int after = 1; after < 60; after += 7) {
                var cancelled = model.generate(prompt, greedy(8), new CancelAfter(model, after));
                assertEquals(FinishReason.CANCELLED, cancelled.finishReason());
                assertEquals(expected.subList(0, cancelled.ids().size()), cancelled.ids());
            }
            assertEquals(expected, model.generate(prompt, greedy(8)).ids());
        }
    }

    private static final class CancelAfter implements GenerationListener {
        private final LanguageModel model;
        private int left;

        CancelAfter(LanguageModel model, int panels) {
            this.model = model;
            this.left = panels;
        }

        @Override
        public void text(String piece) {}

        @Override
        public void progress(SweepProgress progress) {
            if (--left == 0) {
                model.cancel();
            }
        }
    }

    /** Prompts of different lengths that run together get what each gets by itself. */
    @ParameterizedTest
    @MethodSource("mixtures")
    void batchesGetWhatEachPromptGets(Fixture fixture) throws IOException {
        try (var model = LanguageModel.open(fixture.directory().toString())) {
            var prompts = fixture.prompts().stream().map(prompt -> Prompt.ids(prompt.ids())).toList();
            var together = model.generate(prompts, greedy(12), new CancelAfter(model, Integer.MAX_VALUE));
            for (int i = 0; i < prompts.size(); i++) {
                assertEquals(model.generate(prompts.get(i), greedy(12)).ids(), together.get(i).ids(), "prompt " + i);
            }
        }
    }

    /** Where nothing is added from one choice to the next, that is what was predicted. */
    @Test
    void predictionsAreWhatTheNextRouterChoosesNow() throws IOException {
        var mixtral = mixtral();
        var copy = Files.createDirectory(temporary.resolve("copy"));
        try (var files = Files.list(Fixture.find(List.of("mixtral")).getFirst().directory())) {
            for (var file : files.toList()) {
                Files.copy(file, copy.resolve(file.getFileName()));
            }
        }
        for (var tensor : Checkpoint.open(copy).tensors()) {
            if (tensor.name().endsWith(".w2.weight") || tensor.name().endsWith(".o_proj.weight")) {
                zero(tensor);
            }
        }
        var still = ModesTest.split(copy, temporary.resolve("still"));
        long memory = memory(mixtral, 2);
        var options = options().memory(memory).predictExperts(true).build();
        var counts = new ArrayList<GenerationStats>();
        for (var directory : List.of(mixtral, still)) {
            try (var model = LanguageModel.open(directory.toString(), options)) {
                counts.add(model.generate(Prompt.ids(new int[] {5}), greedy(100), new Slow()).stats());
            }
        }
        assertTrue(counts.getFirst().mispredictedExpertBytes() > 0, "random experts are not predicted so well");
        assertTrue(counts.getLast().predictedExpertBytes() > 0, "nothing was read ahead");
        assertEquals(0, counts.getLast().mispredictedExpertBytes());
        assertTrue(counts.getLast().predictedExpertBytes() <= counts.getLast().expertBytes());
        assertTrue(counts.getLast().peakHostBytes() <= memory);
    }

    /** The router that predicts belongs to a layer that may be another device's. */
    @Test
    void devicesPredictToo() throws IOException {
        Emulation.assume();
        var directory = Fixture.find(List.of("glm4_moe")).getFirst().directory();
        var options = ModelOptions.builder().device("cuda-emulated");
        var reference = ModesTest.logits(directory, options.build(), new int[] {5, 6, 7});
        options.device("cuda-emulated:0,cuda-emulated:1").predictExperts(true);
        assertArrayEquals(reference, ModesTest.logits(directory, options.build(), new int[] {5, 6, 7}));
        try (var model = LanguageModel.open(directory.toString(), options.build())) {
            var stats = model.generate(Prompt.ids(new int[] {5}), greedy(20), new Slow()).stats();
            assertTrue(stats.predictedExpertBytes() + stats.mispredictedExpertBytes() > 0, "nothing was read ahead");
        }
    }

    private static void zero(Tensor tensor) throws IOException {
        try (var file = new RandomAccessFile(tensor.file().toFile(), "rw")) {
            file.seek(tensor.offset());
            file.write(new byte[Math.toIntExact(tensor.bytes())]);
        }
    }

    /** Computes slowly, so that there is time to read ahead. */
    private static final class Slow implements GenerationListener {
        @Override
        public void text(String piece) {}

        @Override
        public void progress(SweepProgress progress) {
            LockSupport.parkNanos(1_000_000);
        }
    }
}
