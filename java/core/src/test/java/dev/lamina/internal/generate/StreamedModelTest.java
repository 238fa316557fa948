package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.FinishReason;
import dev.lamina.Generation;
import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.MemoryNeeds;
import dev.lamina.MemoryPlan;
import dev.lamina.Message;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import dev.lamina.Rates;
import dev.lamina.SweepProgress;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StreamedModelTest {
    private static final Path MODEL = Path.of("src/test/resources/fixtures/chat_qwen2");
    private static final GenerationOptions GREEDY =
            GenerationOptions.builder().maxTokens(12).greedy().ignoreEos(true).build();

    @TempDir
    Path temporary;

    private static LanguageModel open() {
        return open(ModelOptions.defaults());
    }

    private static LanguageModel open(ModelOptions options) {
        return LanguageModel.open(MODEL.toString(), options);
    }

    @Test
    void piecesJoinedAreTheText() {
        try (var model = open()) {
            var pieces = new StringBuilder();
            var answer = model.generate("Hello, how are you?", GREEDY, pieces::append);
            assertEquals(answer.text(), pieces.toString());
            assertEquals(answer.text(), model.decode(answer.ids().stream().mapToInt(Integer::intValue).toArray()));
            assertEquals(12, answer.ids().size());
            assertEquals(model.encode("Hello, how are you?").length, answer.stats().promptTokens());
            assertEquals(12, answer.stats().sweeps());
        }
    }

    @Test
    void aTurnOfAConversationComputesOnlyWhatIsNew() {
        try (var model = open(); var chat = model.chat(List.of(Message.system("Be brief.")), GREEDY)) {
            var first = chat.send("Hello", text -> { });
            assertEquals(0, first.stats().cachedTokens());
            var second = chat.send("What is 2 + 2?", text -> { });
            assertTrue(second.stats().cachedTokens() >= first.stats().promptTokens(),
                    second.stats() + " after " + first.stats());
            assertEquals(5, chat.messages().size());

            var whole = new ArrayList<>(chat.messages().subList(0, 4));
            var again = model.generate(new Prompt.Conversation(whole), GREEDY);
            assertEquals(again.ids(), second.ids(), "the cache changes nothing");
        }
    }

    @Test
    void aConversationThatNoLongerFitsSaysSo() {
        try (var model = open(ModelOptions.builder().context(40).build()); var chat = model.chat(List.of(), GREEDY)) {
            assertEquals(40, chat.context().capacity());
            var first = chat.send("Hi", text -> { });
            assertEquals(FinishReason.LENGTH, first.finishReason());
            var error = assertThrows(LaminaException.class, () -> {
                for (int i = 0; i < 10; i++) {
                    chat.send("And then?", text -> { });
                }
            });
            assertTrue(error.getMessage().contains("--context"), error.getMessage());
        }
    }

    @Test
    void aFullContextEndsWithLength() {
        int prompt;
        try (var model = open()) {
            prompt = model.encode("Hello").length;
        }
        try (var model = open(ModelOptions.builder().context(prompt + 3).build())) {
            var answer = model.generate("Hello", GREEDY);
            assertEquals(3, answer.ids().size());
            assertEquals(FinishReason.LENGTH, answer.finishReason());
        }
        try (var model = open(ModelOptions.builder().context(prompt - 1).build())) {
            assertThrows(LaminaException.class, () -> model.generate("Hello", GREEDY));
        }
    }

    @Test
    void stopStringsAndStopTokensEndTheText() {
        try (var model = open()) {
            var whole = model.generate("Hello", GREEDY);
            var stop = whole.text().substring(4, 7);
            var cut = model.generate("Hello", GenerationOptions.builder().maxTokens(12).greedy().ignoreEos(true)
                    .stop(List.of(stop)).build());
            assertEquals(FinishReason.STOP, cut.finishReason());
            assertEquals(whole.text().substring(0, whole.text().indexOf(stop)), cut.text());
        }
    }

    @Test
    void cancellingEndsWithinAPanel() {
        try (var model = open(ModelOptions.builder().panel(1000).build())) {
            var panels = new AtomicInteger();
            var answer = model.generate("Hello", GREEDY, new GenerationListener() {
                @Override
                public void text(String piece) {}

                @Override
                public void progress(SweepProgress progress) {
                    if (progress.sweep() == 3 && panels.incrementAndGet() == 5) {
                        model.cancel();
                    }
                }
            });
            assertEquals(FinishReason.CANCELLED, answer.finishReason());
            assertEquals(3, answer.ids().size());
            assertEquals(5, panels.get());
            assertEquals(12, model.generate("Hello", GREEDY).ids().size(), "the next call works");
        }
    }

    @Test
    void closingCancelsFirst() throws Exception {
        var model = open(ModelOptions.builder().panel(1000).build());
        var started = new CountDownLatch(1);
        var running = CompletableFuture.supplyAsync(() -> model.generate("Hello",
                GenerationOptions.builder().maxTokens(30_000).greedy().ignoreEos(true).build(),
                text -> started.countDown()));
        started.await();
        model.close();
        assertEquals(FinishReason.CANCELLED, running.get().finishReason());
        model.close();
        assertThrows(LaminaException.class, () -> model.generate("Hello", GREEDY));
    }

    @Test
    void concurrentCallsTakeTurns() throws ExecutionException, InterruptedException {
        try (var model = open()) {
            var alone = model.generate("Hello", GREEDY).ids();
            var calls = new ArrayList<CompletableFuture<Generation>>();
            for (int i = 0; i < 6; i++) {
                calls.add(CompletableFuture.supplyAsync(() -> model.generate("Hello", GREEDY)));
            }
            for (var call : calls) {
                assertEquals(alone, call.get().ids());
            }
        }
    }

    @Test
    void whatAListenerThrowsReachesTheCallerAndTheModelStaysUsable() {
        try (var model = open()) {
            var error = assertThrows(IllegalStateException.class, () -> model.generate("Hello", GREEDY, text -> {
                throw new IllegalStateException("enough");
            }));
            assertEquals("enough", error.getMessage());
            assertThrows(LaminaException.class,
                    () -> model.generate("Hello", GREEDY, text -> model.generate("again", GREEDY)));
            assertEquals(12, model.generate("Hello", GREEDY).ids().size());
        }
    }

    @Test
    void aFileThatChangesUnderTheModelIsOneErrorAndTheNextModelWorks() throws IOException {
        for (var name : List.of("config.json", "tokenizer.json", "model.safetensors")) {
            Files.copy(MODEL.resolve(name), temporary.resolve(name));
        }
        var weights = temporary.resolve("model.safetensors");
        long size = Files.size(weights);
        var options = ModelOptions.builder().memory("700KiB").panel(4096).prefetch(1).build();
        try (var model = LanguageModel.open(temporary.toString(), options)) {
            model.generate("Hello", GREEDY);
            try (var file = new RandomAccessFile(weights.toFile(), "rw")) {
                file.setLength(size / 2);
            }
            var error = assertThrows(LaminaException.class, () -> model.generate("Hello", GREEDY));
            assertTrue(error.getMessage().contains("model.safetensors"), error.getMessage());
        }
        Files.delete(weights);
        Files.copy(MODEL.resolve("model.safetensors"), weights);
        try (var model = LanguageModel.open(temporary.toString(), options)) {
            assertEquals(12, model.generate("Hello", GREEDY).ids().size());
        }
    }

    @Test
    void memoryIsAPromiseAndWhatIsLeftHoldsPanels() {
        try (var model = open(ModelOptions.builder().memory("700KiB").panel(4096).prefetch(1).build())) {
            var stats = model.generate("Hello", GREEDY).stats();
            assertTrue(stats.peakHostBytes() <= 700 << 10, stats.toString());
            assertTrue(stats.residentBytes() < model.info().weightBytes(), stats.toString());
            assertTrue(stats.diskBytes() > 0);
        }
        try (var model = open(ModelOptions.builder().memory("64MiB").build())) {
            long first = model.generate("Hello", GREEDY).stats().diskBytes();
            assertEquals(model.info().weightBytes(), first, "each panel is read once");
            assertEquals(0, model.generate("Hello", GREEDY).stats().diskBytes(), "then all are in memory");
        }
        try (var model = open(ModelOptions.builder().memory("10KiB").build())) {
            var error = assertThrows(LaminaException.class, () -> model.generate("Hello", GREEDY));
            assertTrue(error.getMessage().startsWith("--memory 10KiB is too small"), error.getMessage());
            var number = error.getMessage().replaceAll(".*at least (\\w+) are.*", "$1");
            try (var enough = open(ModelOptions.builder().memory(number).build())) {
                assertEquals(12, enough.generate("Hello", GREEDY).ids().size(), "the number in the message would do");
            }
        }
    }

    @Test
    void aConversationTakesTheContextThatFitsAndStillComputesManyRowsAtOnce() {
        var demo = "../cli/src/main/resources/dev/lamina/cli/demo";
        try (var model = LanguageModel.open(demo, ModelOptions.builder().memory("2MiB").build());
                var chat = model.chat(List.of(), GREEDY)) {
            assertTrue(chat.context().capacity() < 512, chat.context().toString());
            var answer = chat.send("What is the capital of France?", text -> { });
            assertTrue(answer.stats().sweeps() < 8 + answer.ids().size(), answer.stats().toString());
            assertTrue(answer.stats().peakHostBytes() <= 2 << 20, answer.stats().toString());
        }
    }

    @Test
    void closingAConversationWhileItAnswersIsRefused() {
        try (var model = open(); var chat = model.chat(List.of(), GREEDY)) {
            assertThrows(LaminaException.class, () -> chat.send("Hi", text -> chat.close()));
            assertEquals(12, model.generate("Hello", GREEDY).ids().size());
            assertEquals(12, chat.send("Hi", text -> { }).ids().size(), "it was not closed");
            chat.close();
            chat.close();
            assertThrows(LaminaException.class, () -> chat.send("Hi", text -> { }));
        }
    }

    @Test
    void anInterruptCancels() {
        try (var model = open()) {
            var answer = model.generate("Hello", GREEDY, text -> Thread.currentThread().interrupt());
            assertTrue(Thread.interrupted(), "the flag is kept");
            assertEquals(FinishReason.CANCELLED, answer.finishReason());
            assertEquals(12, model.generate("Hello", GREEDY).ids().size());
        }
    }

    @Test
    void withoutASeedEachOfABatchIsDifferent() {
        var sampling = GenerationOptions.builder().maxTokens(20).temperature(2.0).topK(0).ignoreEos(true).build();
        try (var model = open()) {
            var prompts = List.of(Prompt.text("Hello"), Prompt.text("Hello"));
            var answers = model.generate(prompts, sampling);
            assertNotEquals(answers.getFirst().ids(), answers.getLast().ids());
            assertTrue(answers.getFirst().stats().unusedReadAheadBytes() >= 0);
        }
    }

    @Test
    void memoryNeedsAreWhatTheySay() {
        try (var model = open(); var big = LanguageModel.open("../cli/src/main/resources/dev/lamina/cli/demo")) {
            assertEquals(0, model.plan(model.memoryNeeds(100).whole(), 100, Rates.assumed()).bytesPerSweep());
            var needs = big.memoryNeeds(64);
            assertTrue(big.plan(needs.least(), 64, Rates.assumed()).bytesPerSweep() > 0, needs.toString());
            assertEquals(0, big.plan(needs.whole(), 64, Rates.assumed()).bytesPerSweep());
            var directory = big.info().directory().toString();
            var prompt = Prompt.ids(new int[52]);
            try (var enough = LanguageModel.open(directory, ModelOptions.builder().memory(needs.least()).build());
                    var half = LanguageModel.open(
                            directory, ModelOptions.builder().memory(needs.least() / 2).build())) {
                assertEquals(12, enough.generate(prompt, GREEDY).ids().size());
                assertThrows(LaminaException.class, () -> half.generate(prompt, GREEDY));
            }
        }
    }

    @Test
    void eachSweepReadsWhatIsNotResidentAndThePlanSaysHowMuch() {
        var random = new Random(12);
        for (var folder : List.of(MODEL.toString(), "../cli/src/main/resources/dev/lamina/cli/demo")) {
            for (int round = 0; round < 8; round++) {
                int context = 14 + random.nextInt(100);
                var options = ModelOptions.builder().context(context).panel(16384L << random.nextInt(6))
                        .prefetch(random.nextInt(4) - 1).ioLimit(random.nextInt(2) * 500_000_000L);
                MemoryNeeds needs;
                try (var model = LanguageModel.open(folder, options.build())) {
                    needs = model.memoryNeeds(context);
                }
                long memory = round == 0 ? needs.whole()
                        : random.nextLong(needs.least(), needs.whole() + needs.whole() / 4);
                try (var model = LanguageModel.open(folder, options.memory(memory).build())) {
                    var plan = model.plan(0, context, Rates.assumed());
                    assertEquals(plan, model.plan(memory, context, Rates.assumed()));
                    assertConsistent(plan, model.info().weightBytes());
                    assertEquals(memory, plan.memoryBytes());
                    assertTrue(round > 0 || plan.bytesPerSweep() == 0, plan.toString());
                    for (int call = 0; call < 2; call++) {
                        var prompt = Prompt.ids(random.ints(1 + random.nextInt(context - 12), 3, 200).toArray());
                        var stats = model.generate(prompt, GREEDY).stats();
                        long firstTime = call == 0 ? plan.residentBytes() : 0;
                        assertEquals(stats.sweeps() * plan.bytesPerSweep() + firstTime, stats.diskBytes());
                        assertEquals(plan.residentBytes(), stats.residentBytes());
                        assertEquals(memory - plan.unusedBytes(), stats.peakHostBytes());
                    }
                }
            }
        }
    }

    private static void assertConsistent(MemoryPlan plan, long weightBytes) {
        assertEquals(weightBytes, plan.weightBytes());
        for (var shares : List.of(plan.kinds(), plan.stages())) {
            assertEquals(weightBytes, shares.stream().mapToLong(MemoryPlan.Share::bytes).sum());
            assertEquals(plan.residentBytes(), shares.stream().mapToLong(MemoryPlan.Share::residentBytes).sum());
            assertEquals(plan.kinds().stream().mapToInt(MemoryPlan.Share::panels).sum(),
                    shares.stream().mapToInt(MemoryPlan.Share::panels).sum());
        }
        assertEquals("head", plan.stages().getLast().name());
        assertTrue(plan.unusedBytes() >= 0 && plan.residentMemoryBytes() >= plan.residentBytes(), plan.toString());
        double disk = plan.bytesPerSweep() / plan.rates().diskBytesPerSecond();
        double compute = weightBytes / plan.rates().computeBytesPerSecond();
        assertEquals(disk > compute ? MemoryPlan.Limit.DISK : MemoryPlan.Limit.COMPUTE, plan.limit());
        assertTrue(plan.secondsPerSweep() >= 0.9999 * Math.max(disk, compute), plan.toString());
        assertTrue(plan.secondsPerSweep() <= 1.0001 * (disk + compute), plan.toString());
        assertEquals(1, plan.tokensPerSecond() * plan.secondsPerSweep(), 1e-9);
    }

    @Test
    void aPlanOfTooLittleMemorySaysHowMuchWouldDo() {
        try (var model = open()) {
            var error = assertThrows(LaminaException.class, () -> model.plan(10 << 10, 64, Rates.assumed()));
            assertTrue(error.getMessage().startsWith("--memory 10KiB is too small"), error.getMessage());
            long enough = ModelOptions.parseSize(error.getMessage().replaceAll(".*at least (\\w+) are.*", "$1"));
            assertEquals("as asked", model.plan(enough, 64, Rates.assumed()).memoryOrigin());
            assertTrue(model.plan(0, 64, Rates.assumed()).memoryOrigin().startsWith("auto: "));
        }
    }

    @Test
    void ratesAreMeasuredAndLimited() {
        try (var model = open(); var slow = open(ModelOptions.builder().ioLimit(1000).build())) {
            var rates = model.measureRates();
            assertTrue(Set.of(Rates.Origin.MEASURED, Rates.Origin.REMEMBERED).contains(rates.disk()), rates.toString());
            assertEquals(Rates.Origin.MEASURED, rates.compute());
            assertEquals(Rates.Origin.MEASURED, model.measureRates(true).disk());
            assertEquals(Rates.Origin.LIMIT, slow.measureRates().disk());
            assertEquals(1000, slow.measureRates().diskBytesPerSecond());
        }
    }

    @Test
    void seedsDecideAndDefaultsComeFromTheModel() {
        var sampling = GenerationOptions.builder().maxTokens(20).temperature(2.0).topK(0).ignoreEos(true);
        try (var model = open()) {
            var first = model.generate("Hello", sampling.seed(1L).build());
            assertEquals(first.ids(), model.generate("Hello", sampling.seed(1L).build()).ids());
            assertNotEquals(first.ids(), model.generate("Hello", sampling.seed(2L).build()).ids());
        }
    }

    @Test
    void halfPrecisionCachesTakeHalfTheMemory() {
        try (var full = open(); var half = open(ModelOptions.builder().kv(ModelOptions.KvType.F16).build())) {
            assertEquals(full.info().kvBytesPerToken(), 2 * half.info().kvBytesPerToken());
            assertEquals(full.plan(0, 128, Rates.assumed()).kvBytes(),
                    2 * half.plan(0, 128, Rates.assumed()).kvBytes());
            assertEquals(full.generate("Hello", GREEDY).ids().getFirst(),
                    half.generate("Hello", GREEDY).ids().getFirst());
        }
    }

    @Test
    void perplexityIsThatOfTheLogits() {
        try (var model = open()) {
            var text = "The quick brown fox jumps over the lazy dog. ".repeat(3);
            var ids = model.encode(text);
            int vocabulary = model.info().vocabulary();
            var logits = ModesTest.logits(MODEL, ModelOptions.defaults(), ids);
            double sum = 0;
            for (int row = 0; row + 1 < ids.length; row++) {
                double total = 0;
                for (int column = 0; column < vocabulary; column++) {
                    total += Math.exp(logits[row * vocabulary + column]);
                }
                sum += Math.log(total) - logits[row * vocabulary + ids[row + 1]];
            }
            var result = model.perplexity(text);
            assertEquals(ids.length - 1, result.tokens());
            assertEquals(Math.exp(sum / (ids.length - 1)), result.perplexity(), 1e-6 * result.perplexity());
        }
    }

    @Test
    void decodingWithTheCacheEqualsComputingAllAnew() {
        try (var model = open()) {
            var ids = model.encode("Hello, how are you?");
            var answer = model.generate(Prompt.ids(ids), GREEDY);
            var all = new ArrayList<Integer>();
            for (int id : ids) {
                all.add(id);
            }
            for (int expected : answer.ids()) {
                var one = model.generate(new Prompt.Ids(all),
                        GenerationOptions.builder().maxTokens(1).greedy().ignoreEos(true).build());
                assertEquals(expected, one.ids().getFirst());
                all.add(expected);
            }
        }
    }

    @Test
    void badPromptsAreRefused() {
        try (var model = open()) {
            assertThrows(LaminaException.class, () -> model.generate(Prompt.ids(), GREEDY));
            assertThrows(LaminaException.class, () -> model.generate(Prompt.ids(-1), GREEDY));
            assertThrows(LaminaException.class, () -> model.generate(Prompt.ids(model.info().vocabulary()), GREEDY));
            assertThrows(LaminaException.class, () -> model.logits(new int[0], (a, b, c, d, e) -> { }));
            assertArrayEquals(new int[0], model.encode(""));
        }
    }
}
