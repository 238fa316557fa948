package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.Generation;
import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.MemoryPlan;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import dev.lamina.Rates;
import dev.lamina.SweepProgress;
import dev.lamina.internal.runtime.Device;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Weights on devices, in host memory and on disk; caches on devices and in host memory; one device and two. */
class TiersTest {
    private static final String ONE = "cuda-emulated:1";
    private static final String TWO = "cuda-emulated:0,cuda-emulated:1";
    private static final int TOKENS = 4;
    private static final GenerationOptions GREEDY =
            GenerationOptions.builder().maxTokens(TOKENS).greedy().ignoreEos(true).build();
    private static final GenerationOptions ONE_TOKEN =
            GenerationOptions.builder().maxTokens(1).greedy().ignoreEos(true).build();
    private static final List<Prompt> PROMPTS =
            List.of(Prompt.ids(3, 4, 5), Prompt.ids(9), Prompt.ids(7, 6, 5, 4, 3, 2));

    @TempDir
    private Path temporary;

    @BeforeAll
    static void needsTheBackend() {
        Emulation.assume();
    }

    private static String directory() throws IOException {
        return Fixture.find(List.of("qwen3")).getFirst().directory().toString();
    }

    private static LanguageModel open(String device, long memory, long deviceMemory) throws IOException {
        return LanguageModel.open(directory(), ModelOptions.builder().device(device).memory(memory)
                .deviceMemory(deviceMemory).panel(8192).prefetch(2).build());
    }

    private static List<List<Integer>> expected() throws IOException {
        try (var model = open(ONE, 64 << 20, 64 << 20)) {
            return PROMPTS.stream().map(prompt -> model.generate(prompt, GREEDY).ids()).toList();
        }
    }

    private static long onDevices(MemoryPlan plan) {
        return plan.devices().stream().mapToLong(MemoryPlan.OfDevice::residentBytes).sum();
    }

    /** Bytes of all emulated devices that are taken. */
    private static long taken(int ordinal) {
        try (var device = Device.open("cuda-emulated:" + ordinal, 0, false)) {
            return device.info().memoryBytes() - device.info().freeBytes();
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {ONE, TWO})
    void answersAreTheSameInEveryPairOfBudgetsAndPlansSayWhatHappens(String devices) throws IOException {
        var expected = expected();
        int threeTiers = 0;
        int tooSmall = 0;
        for (long deviceMemory = 80 << 10; deviceMemory < 600 << 10; deviceMemory += 200 << 10) {
            for (long memory = 260 << 10; memory < 700 << 10; memory += 200 << 10) {
                try (var model = open(devices, memory, deviceMemory)) {
                    var plan = model.plan(0, 3 + TOKENS, Rates.assumedOfGpu());
                    assertTrue(plan.unusedBytes() >= 0, plan.toString());
                    plan.devices().forEach(device -> assertTrue(device.unusedBytes() >= 0, device.toString()));
                    assertEquals(plan.residentBytes(), plan.stages().stream()
                            .mapToLong(MemoryPlan.Share::residentBytes).sum());
                    assertEquals(onDevices(plan), plan.kinds().stream().mapToLong(MemoryPlan.Share::deviceBytes).sum());
                    model.generate(PROMPTS.getFirst(), GREEDY);
                    var again = model.generate(PROMPTS.getFirst(), GREEDY);
                    assertEquals(expected.getFirst(), again.ids());
                    assertEquals(plan.residentBytes(), again.stats().residentBytes());
                    assertEquals(again.stats().sweeps() * plan.bytesPerSweep(), again.stats().diskBytes());
                    threeTiers += onDevices(plan) > 0 && plan.residentBytes() > onDevices(plan)
                            && plan.bytesPerSweep() > 0 ? 1 : 0;
                    assertEquals(expected, model.generate(PROMPTS, GREEDY).stream().map(Generation::ids).toList());
                } catch (LaminaException e) {
                    assertTrue(e.getMessage().contains("is too small"), e.getMessage());
                    tooSmall++;
                }
            }
        }
        assertTrue(threeTiers > 1, threeTiers + " budgets used all three tiers, " + tooSmall + " were too small");
    }

    @Test
    void twoDevicesGiveTheBitsOfOne() throws IOException {
        var one = logits(open(ONE, 64 << 20, 64 << 20));
        assertArrayEquals(one, logits(open(TWO, 64 << 20, 64 << 20)));
        assertArrayEquals(one, logits(open(TWO, 1 << 20, 300 << 10)));
        try (var model = open(TWO, 64 << 20, 64 << 20)) {
            model.generate(PROMPTS.getFirst(), GREEDY);
            var plan = model.plan(0, 20, Rates.assumedOfGpu());
            assertEquals(List.of("cuda-emulated:0", "cuda-emulated:1"),
                    plan.devices().stream().map(MemoryPlan.OfDevice::name).toList());
            assertEquals(0, plan.bytesPerSweep());
            assertEquals(0, plan.copiedBytesPerSweep());
            for (var device : plan.devices()) {
                assertTrue(device.residentBytes() > plan.weightBytes() / 4, device.toString());
                assertTrue(device.kvBytes() > 0, device.toString());
            }
        }
    }

    private static float[] logits(LanguageModel opened) {
        try (var model = opened) {
            var ids = new int[] {3, 4, 5, 6, 7};
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

    @ParameterizedTest
    @ValueSource(strings = {ONE, TWO})
    void aCacheThatDoesNotFitTheDeviceIsInHostMemoryInPart(String devices) throws IOException {
        var prompt = Prompt.ids(IntStream.range(3, 43).toArray());
        List<Integer> expected;
        try (var model = open(ONE, 64 << 20, 64 << 20)) {
            expected = model.generate(prompt, GREEDY).ids();
        }
        int spilled = 0;
        int parts = 0;
        for (long deviceMemory = 40 << 10; deviceMemory < 160 << 10; deviceMemory += 20 << 10) {
            try (var model = open(devices, 4 << 20, deviceMemory)) {
                var plan = model.plan(0, 40 + TOKENS, Rates.assumedOfGpu());
                assertEquals(expected, model.generate(prompt, GREEDY).ids());
                long onDevices = plan.devices().stream().mapToLong(MemoryPlan.OfDevice::kvBytes).sum();
                spilled += plan.kvBytes() > 0 ? 1 : 0;
                parts += plan.kvBytes() > 0 && onDevices > 0 ? 1 : 0;
            } catch (LaminaException e) {
                assertTrue(e.getMessage().contains("is too small"), e.getMessage());
            }
        }
        assertTrue(spilled > parts && parts > 0, spilled + " caches in host memory, " + parts + " of them in part");
    }

    @ParameterizedTest
    @ValueSource(strings = {ONE, TWO})
    void devicesHoldNoMoreThanTheirBudgets(String devices) throws IOException {
        var before = List.of(taken(0), taken(1));
        var most = List.of(new AtomicLong(), new AtomicLong());
        long deviceMemory = 500 << 10;
        try (var model = open(devices, 1 << 20, deviceMemory)) {
            for (int round = 0; round < 2; round++) {
                var prompts = new ArrayList<>(PROMPTS);
                prompts.add(Prompt.ids(IntStream.range(3, 40 + 20 * round).toArray()));
                model.generate(prompts, GREEDY, new GenerationListener() {
                    @Override
                    public void text(String piece) {}

                    @Override
                    public void progress(SweepProgress progress) {
                        for (int i = 0; i < 2; i++) {
                            most.get(i).accumulateAndGet(taken(i) - before.get(i), Math::max);
                        }
                    }
                });
            }
        }
        assertTrue(most.get(1).get() > deviceMemory / 2, most.toString());
        for (int i = 0; i < 2; i++) {
            assertTrue(most.get(i).get() <= deviceMemory, most.toString());
            assertEquals(before.get(i), taken(i));
        }
    }

    /** Positions, sequences and places of caches, which no call with few sequences has many of. */
    @Test
    void arraysOfManySequencesAreCounted() throws IOException {
        var faults = new EmulatedFaults();
        faults.reset();
        int budget = 400 << 10;
        var many = IntStream.range(0, 100).mapToObj(i -> Prompt.ids(3 + i % 50)).toList();
        try (var model = LanguageModel.open(directory(), ModelOptions.builder().device("cuda-emulated")
                .memory(4 << 20).deviceMemory(budget).panel(2048).build())) {
            model.generate(many, ONE_TOKEN);
            assertTrue(faults.peak() <= budget, faults.peak() + " of " + budget);
            assertTrue(faults.pinned() <= 4 << 20, faults.pinned() + " page-locked");
        }
    }

    /** What kernels work in, and what a larger call before has left. */
    @Test
    void noCallTakesMoreThanItsBudgets() throws IOException {
        var faults = new EmulatedFaults();
        faults.reset();
        var many = IntStream.range(0, 40).mapToObj(i -> Prompt.ids(3 + i % 50, 4)).toList();
        for (var mode : ModelOptions.Mode.values()) {
            faults.reset();
            int few = 300 << 10;
            try (var model = LanguageModel.open(directory(), ModelOptions.builder().device("cuda-emulated")
                    .memory(1 << 20).deviceMemory(few).panel(8192).mode(mode).build())) {
                model.generate(Prompt.ids(IntStream.range(3, 80).toArray()), ONE_TOKEN);
                model.generate(PROMPTS.getFirst(), ONE_TOKEN);
                assertTrue(faults.used() <= few, faults.used() + " of " + few + " after a short call");
                model.generate(many, ONE_TOKEN);
                assertTrue(faults.peak() <= few, faults.peak() + " of " + few + ", " + mode);
                assertTrue(faults.pinned() <= 1 << 20, faults.pinned() + " page-locked");
            }
        }
        faults.reset();
        int budget = 420 << 10;
        var options = ModelOptions.builder().device("cuda-emulated").memory(4 << 20).deviceMemory(budget).panel(4096)
                .context(1200).build();
        try (var model = LanguageModel.open("src/test/resources/fixtures/chat_qwen2", options);
                var chat = model.chat(List.of(), ONE_TOKEN)) {
            chat.send("a ".repeat(1030), piece -> { });
            assertTrue(chat.context().used() > 1024, chat.context().toString());
            assertTrue(faults.peak() <= budget, faults.peak() + " of " + budget);
        }
    }

    @Test
    void panelsAreReadStraightIntoADevice() throws IOException {
        var expected = expected();
        var split = ModesTest.split(Path.of(directory()), temporary, List.of(1L)).getFirst().toString();
        int streamed = 0;
        for (var directory : List.of(directory(), split)) {
            for (long deviceMemory = 200 << 10; deviceMemory < 1 << 20; deviceMemory += 350 << 10) {
                var before = taken(1);
                var most = new AtomicLong();
                var options = ModelOptions.builder().device(ONE).memory(2 << 20).deviceMemory(deviceMemory).panel(8192)
                        .prefetch(2).io(ModelOptions.Io.GDS).build();
                try (var model = LanguageModel.open(directory, options)) {
                    assertTrue(model.info().reading().startsWith("gds"), model.info().reading());
                    assertEquals(expected, model.generate(PROMPTS, GREEDY).stream().map(Generation::ids).toList());
                    model.generate(PROMPTS.getFirst(), GREEDY);
                    var plan = model.plan(0, 3 + TOKENS, Rates.assumedOfGpu());
                    assertTrue(plan.unusedBytes() >= 0, plan.toString());
                    assertTrue(plan.devices().getFirst().unusedBytes() >= 0, plan.toString());
                    assertEquals(plan.residentBytes(), onDevices(plan));
                    assertEquals(0, plan.ringBytes() + plan.residentMemoryBytes());
                    var again = model.generate(PROMPTS.getFirst(), GREEDY, new GenerationListener() {
                        @Override
                        public void text(String piece) {}

                        @Override
                        public void progress(SweepProgress progress) {
                            most.accumulateAndGet(taken(1) - before, Math::max);
                        }
                    });
                    assertEquals(expected.getFirst(), again.ids());
                    assertEquals(again.stats().sweeps() * plan.bytesPerSweep(), again.stats().diskBytes());
                    assertTrue(most.get() > 0 && most.get() <= deviceMemory, most + " of " + deviceMemory);
                    streamed += plan.residentBytes() > 0 && plan.bytesPerSweep() > 0 ? 1 : 0;
                }
                assertEquals(before, taken(1));
            }
        }
        assertTrue(streamed > 1, streamed + " budgets held a part");
    }

    @Test
    void whatCannotBeReadStraightIntoADeviceIsRefused() {
        for (var device : List.of("cpu", TWO)) {
            var options = ModelOptions.builder().device(device).io(ModelOptions.Io.GDS).build();
            var error = assertThrows(LaminaException.class, () -> LanguageModel.open(directory(), options));
            assertTrue(error.getMessage().startsWith("--io gds reads into the memory of one GPU"), error.getMessage());
        }
    }

    @Test
    void aConversationKeepsItsPartOfTheDevice() throws IOException {
        var directory = "src/test/resources/fixtures/chat_qwen2";
        var options = ModelOptions.builder().device(TWO).memory(8 << 20).deviceMemory(3 << 20).context(96).build();
        var few = GenerationOptions.builder().maxTokens(5).greedy().build();
        String expected;
        try (var model = LanguageModel.open(directory, options.toBuilder().device("cuda-emulated").build());
                var chat = model.chat(List.of(), few)) {
            expected = chat.send("a b c", piece -> { }).text();
        }
        try (var model = LanguageModel.open(directory, options); var chat = model.chat(List.of(), few)) {
            long beside = kvOnDevices(model);
            assertEquals(expected, chat.send("a b c", piece -> { }).text());
            chat.close();
            assertTrue(kvOnDevices(model) < beside);
        }
    }

    private static long kvOnDevices(LanguageModel model) {
        return model.plan(0, 20, Rates.assumedOfGpu()).devices().stream().mapToLong(MemoryPlan.OfDevice::kvBytes).sum();
    }

    @Test
    void budgetsThatAreTooSmallAreToldWithWhatIsEnough() throws IOException {
        try (var model = LanguageModel.open(directory(), ModelOptions.builder().device(ONE).memory(64 << 20)
                .deviceMemory(50 << 10).panel(1 << 20).build())) {
            var error = assertThrows(LaminaException.class, () -> model.generate(PROMPTS.getFirst(), GREEDY));
            assertTrue(error.getMessage().matches("50KiB of device memory is too small for cuda-emulated:1: at least "
                    + "\\d+MiB are needed for its ring, norms and activations\\. Raise --device-memory, or lower "
                    + "--panel\\."), error.getMessage());
        }
        try (var model = LanguageModel.open(directory(), ModelOptions.builder().device(ONE).memory(64 << 20)
                .deviceMemory(1 << 20).panel(1 << 20).build())) {
            model.generate(PROMPTS.getFirst(), GREEDY);
        }
    }

    @Test
    void devicesThatCannotWorkTogetherAreRefused() {
        for (var names : List.of("cpu,cuda-emulated", "cuda-emulated,cpu", "cuda-emulated,cuda-emulated:0",
                "cuda-emulated:0,cuda-emulated", "cuda-emulated:1,cuda-emulated:01", "gpu", "", "cuda-emulated,",
                "cuda-emulated:7", "auto,cpu")) {
            var options = ModelOptions.builder().device(names).build();
            var error = assertThrows(LaminaException.class, () -> LanguageModel.open(directory(), options), names);
            assertTrue(error.getMessage().matches(".*(cannot compute one model together|is named twice|"
                    + "There is no device|there is no GPU 7).*"), error.getMessage());
        }
        assertEquals(0, taken(0));
    }
}
