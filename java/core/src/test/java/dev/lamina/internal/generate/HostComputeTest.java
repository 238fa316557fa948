package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.lamina.FinishReason;
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
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.generate.EmulatedFaults.Call;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.Matrix;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Value;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.HostRates;
import dev.lamina.internal.stream.Extent;
import dev.lamina.internal.stream.Planner;
import dev.lamina.internal.telemetry.Telemetry;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** Panels in host memory that the host's processor computes beside a device. */
class HostComputeTest {
    private static final Matrix MATRIX = new Matrix("w", 4, 4, Matrix.Format.BF16, null);

    private static final String ONE = "cuda-emulated";
    private static final int FEW = HostCompute.MOST_ROWS;
    private static final GenerationOptions GREEDY =
            GenerationOptions.builder().maxTokens(5).greedy().ignoreEos(true).build();
    private static final List<Prompt> PROMPTS =
            List.of(Prompt.ids(3, 4, 5), Prompt.ids(9), Prompt.ids(7, 6, 5, 4, 3, 2));
    private static final int[] IDS = IntStream.range(3, 3 + FEW).toArray();

    private final EmulatedFaults faults = new EmulatedFaults();

    @TempDir
    private Path temporary;

    @BeforeAll
    static void needsTheBackend() {
        Emulation.assume();
    }

    @BeforeEach
    void nothingIsWrong() {
        faults.reset();
    }

    private static String directory(String fixture) throws IOException {
        return Fixture.find(List.of(fixture)).getFirst().directory().toString();
    }

    private static ModelOptions.Builder options(String device) {
        return ModelOptions.builder().device(device).memory(4 << 20).deviceMemory(120 << 10).panel(4096).prefetch(2)
                .mode(ModelOptions.Mode.FAST);
    }

    /** Options with a plan by which the host computes all panels that it can, or every so many of them; 0: none. */
    private ModelOptions.Builder planned(String fixture, String device, int each) throws IOException {
        return planned(fixture, options(device), each);
    }

    private ModelOptions.Builder planned(String fixture, ModelOptions.Builder options, int each) throws IOException {
        var directory = directory(fixture);
        var file = Files.createTempFile(temporary, "plan", null);
        try (var model = LanguageModel.open(directory, options.hostCompute(true).build())) {
            model.savePlan(file, 40);
        }
        var json = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
        mark(json, possible(directory, json), each);
        Files.writeString(file, json.toString());
        return ModelOptions.builder().plan(file).mode(ModelOptions.Mode.FAST).hostCompute(true);
    }

    private static void mark(JsonObject json, HostPanels possible, int each) {
        var marked = new JsonArray();
        json.getAsJsonArray("host_panels").asList().stream().mapToInt(panel -> panel.getAsInt()).sorted()
                .filter(panel -> each > 0 && possible.possible().get(panel) && panel % each == 0).forEach(marked::add);
        json.add("computed_by_host", marked);
    }

    /** What the host can compute of a model that is cut as a plan says. */
    private static HostPanels possible(String directory, JsonObject json) throws IOException {
        var config = ModelConfig.load(Path.of(directory));
        var checkpoint = Checkpoint.open(Path.of(directory));
        var program = Architectures.program(config, checkpoint);
        var numbers = new HashMap<Path, Integer>();
        program.stages().forEach(stage -> stage.tensors().forEach(name -> checkpoint.tensor(name).parts()
                .forEach(part -> numbers.putIfAbsent(part.file(), numbers.size()))));
        int ranks = json.getAsJsonArray("device_memory").size();
        var schedule = Schedule.of(program, checkpoint, numbers, json.get("panel").getAsLong(),
                Rank.ofStages(program, checkpoint, ranks));
        assertEquals(json.get("panels").getAsInt(), schedule.panels().size());
        return HostPanels.of(schedule);
    }

    private static float[] logits(String fixture, ModelOptions options, int... ids) throws IOException {
        try (var model = LanguageModel.open(directory(fixture), options)) {
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

    private static MemoryPlan plan(LanguageModel model) {
        return model.plan(0, 40, Rates.assumedOfGpu());
    }

    private static float furthest(float[] a, float[] b) {
        float most = 0;
        for (int i = 0; i < a.length; i++) {
            most = Math.max(most, Math.abs(a[i] - b[i]));
        }
        return most;
    }

    /**
     * With exact products for most of the weights, what is left of the difference to exact logits is less than without,
     * and not nothing: panels on the device round.
     */
    @ParameterizedTest
    @CsvSource({"qwen3, cuda-emulated", "qwen3, 'cuda-emulated:0,cuda-emulated:1'", "qwen2_yarn, cuda-emulated"})
    void whatTheHostComputesIsExact(String fixture, String device) throws IOException {
        var exact = logits(fixture, options(device).mode(ModelOptions.Mode.EXACT).build(), IDS);
        var fast = logits(fixture, options(device).build(), IDS);
        var options = planned(fixture, device, 1).build();
        var mixed = logits(fixture, options, IDS);
        assertTrue(furthest(mixed, exact) < furthest(fast, exact),
                furthest(mixed, exact) + " is not below " + furthest(fast, exact));
        assertFalse(Arrays.equals(mixed, fast), "the host computes nothing");
        assertArrayEquals(mixed, logits(fixture, options, IDS), "the same plan gives other bits");
        for (int each = 2; each < 4; each++) {
            assertTrue(furthest(logits(fixture, planned(fixture, device, each).build(), IDS), exact) < 0.15f);
        }
    }

    /** All products on the host, with biases and without: what is left is another order of sums than the device's. */
    @ParameterizedTest
    @CsvSource({"qwen3, cuda-emulated", "qwen3, 'cuda-emulated:0,cuda-emulated:1'", "qwen2_yarn, cuda-emulated"})
    void withAllPanelsOnTheHostNothingIsRounded(String fixture, String device) throws IOException {
        var exact = logits(fixture, options(device).mode(ModelOptions.Mode.EXACT).build(), IDS);
        List<Integer> exactIds;
        try (var model = LanguageModel.open(directory(fixture),
                options(device).mode(ModelOptions.Mode.EXACT).build())) {
            exactIds = model.generate(PROMPTS.getFirst(), GREEDY).ids();
        }
        for (long deviceMemory = 30 << 10; deviceMemory < 120 << 10; deviceMemory += 256) {
            try {
                var options = planned(fixture, options(device).panel(2048).deviceMemory(deviceMemory), 1).build();
                try (var model = LanguageModel.open(directory(fixture), options)) {
                    if (plan(model).weightBytes() > plan(model).onHost().bytes()) {
                        continue; // the device holds some
                    }
                    assertEquals(0, plan(model).copiedBytesPerSweep());
                    assertEquals(exactIds, model.generate(PROMPTS.getFirst(), GREEDY).ids());
                }
                assertTrue(furthest(logits(fixture, options, IDS), exact) < 1e-4f, "other logits");
                return;
            } catch (LaminaException e) {
                assertTrue(e.getMessage().contains("is too small"), e.getMessage());
            }
        }
        throw new AssertionError("no budget holds none of them");
    }

    @Test
    void sweepsOfMoreRowsAreTheDevicesAlone() throws IOException {
        var room = options(ONE).deviceMemory(300 << 10);
        var ids = IntStream.range(0, FEW + 1).map(i -> 3 + i * 7 % 50).toArray();
        var fast = logits("qwen3", room.build(), ids);
        var options = planned("qwen3", room, 1).build();
        assertArrayEquals(fast, logits("qwen3", options, ids));
        var few = Arrays.copyOf(ids, FEW);
        assertFalse(Arrays.equals(Arrays.copyOf(fast, fast.length / ids.length * FEW), logits("qwen3", options, few)));
        var none = planned("qwen3", ONE, 0).build();
        assertArrayEquals(logits("qwen3", options(ONE).build(), IDS), logits("qwen3", none, IDS),
                "a plan by which the host computes none");
    }

    @ParameterizedTest
    @CsvSource({"cuda-emulated", "'cuda-emulated:0,cuda-emulated:1'"})
    void answersAreThoseOfThePlanWithinTheBudgets(String device) throws IOException {
        var options = planned("qwen3", device, 2).build();
        List<List<Integer>> expected = null;
        for (int run = 0; run < 2; run++) {
            faults.reset();
            try (var model = LanguageModel.open(directory("qwen3"), options)) {
                var answers = model.generate(PROMPTS, GREEDY).stream().map(Generation::ids).toList();
                expected = expected == null ? answers : expected;
                assertEquals(expected, answers);
                var plan = plan(model);
                assertTrue(plan.onHost().panels() > 5, plan.toString());
                assertTrue(plan.onHost().bytesPerSecond() > 0 && plan.onHost().busBytesPerSecond() > 0);
                assertEquals(plan.weightBytes() - plan.devices().stream().mapToLong(MemoryPlan.OfDevice::residentBytes)
                        .sum() - plan.onHost().bytes(), plan.copiedBytesPerSweep());
                assertTrue(plan.unusedBytes() >= 0, plan.toString());
                model.generate(Prompt.ids(IntStream.range(3, 60).toArray()), GREEDY); // takes the place of panels
                assertEquals(expected.getFirst().size(), model.generate(PROMPTS.getFirst(), GREEDY).ids().size());
            }
            assertTrue(faults.pinned() == 0 && faults.handles() == 0, "not given back");
        }
    }

    @Test
    void whatItWorksInIsCounted() throws IOException {
        for (long memory = 900 << 10; memory < 1200 << 10; memory += 100 << 10) {
            faults.reset();
            var most = new long[1];
            try (var model = LanguageModel.open(directory("qwen3"),
                    options(ONE).memory(memory).hostCompute(true).build())) {
                model.generate(PROMPTS.getFirst(), GREEDY,
                        listener(() -> most[0] = Math.max(most[0], faults.pinned())));
                assertTrue(most[0] > memory / 2 && most[0] <= memory, most[0] + " of " + memory);
                assertTrue(faults.peak() <= 120 << 10, faults.peak() + " of the device");
            }
        }
    }

    private static GenerationListener listener(Runnable atEachPanel) {
        return new GenerationListener() {
            @Override
            public void text(String piece) {}

            @Override
            public void progress(SweepProgress progress) {
                atEachPanel.run();
            }
        };
    }

    /** Each call of the device fails once, of many some; then it goes on as if nothing had happened. */
    @ParameterizedTest
    @EnumSource(value = Call.class, names = {"COPY", "LAUNCH", "WAIT", "RECORD"})
    void aFailureEndsTheCallAndNoMore(Call call) throws IOException {
        var options = planned("qwen3", ONE, 1).build();
        int failed = 0;
        try (var model = LanguageModel.open(directory("qwen3"), options)) {
            var expected = model.generate(PROMPTS.getFirst(), GREEDY).ids();
            for (long after = 0; after < 1000; after = after * 3 / 2 + 7) {
                faults.fail(call, after, EmulatedFaults.INVALID_VALUE);
                try {
                    assertEquals(expected, model.generate(PROMPTS.getFirst(), GREEDY).ids());
                } catch (LaminaException e) {
                    assertEquals(1, e.getMessage().lines().count(), e.getMessage());
                    failed++;
                }
                faults.reset();
                assertEquals(expected, model.generate(PROMPTS.getFirst(), GREEDY).ids());
            }
            int[] panels = {0};
            var cancelled = model.generate(PROMPTS.getFirst(), GREEDY, listener(() -> {
                if (++panels[0] == 150) {
                    model.cancel();
                }
            }));
            assertEquals(FinishReason.CANCELLED, cancelled.finishReason());
            assertEquals(expected, model.generate(PROMPTS.getFirst(), GREEDY).ids());
        }
        assertTrue(failed > 3, failed + " failures");
        assertEquals(0, faults.used() + faults.pinned() + faults.handles());
    }

    /** The host's processor fails, for which its queue is closed: that ends the sweep, and the device goes on alone. */
    @Test
    void aProcessorThatFailsEndsTheSweep() throws IOException {
        var directory = Path.of(directory("qwen3"));
        var use = MemoryUse.of(4 << 20, 1, 300 << 10);
        try (var device = Processor.open(ONE, 1, true).getFirst();
                var cpu = Device.openCpu(1);
                var weights = Weights.open(Checkpoint.open(directory), ModelConfig.load(directory), List.of(device),
                        ModelOptions.defaults(), use, 4096)) {
            var queue = cpu.openQueue();
            try (var budget = new Budget(weights, use, Budget.Name.of(4 << 20), 4096, weights.streamOptions(), null,
                    new HostProcessor(new Processor(cpu, queue), new HostRates(1e9, 1e12, 0)), Telemetry.NONE)) {
                run(budget, weights, 3);
                queue.close();
                for (int call = 0; call < 2; call++) {
                    assertThrows(IllegalStateException.class, () -> run(budget, weights, 3));
                    run(budget, weights, FEW + 1);
                }
            }
        }
        assertEquals(0, faults.used() + faults.pinned() + faults.handles());
    }

    private static void run(Budget budget, Weights weights, int rows) throws IOException {
        var sweep = budget.prepare(2 * FEW, 1, 1, List.of(2 * FEW), 0);
        try (var sequence = new Sequence(budget.newCache(2 * FEW), weights.program().ropes())) {
            sequence.setTokens(IntStream.range(3, 3 + rows).toArray());
            assertTrue(sweep.run(List.of(new Sweep.Part(sequence, rows, Sweep.Output.LAST)),
                    (count, first, columns, block) -> { }, progress -> { }, () -> false));
        }
    }

    @Test
    void whatIsFasterIsChosen() throws IOException {
        var directory = Path.of(directory("qwen3"));
        var use = MemoryUse.of(4 << 20, 1, 1 << 20);
        try (var device = Processor.open(ONE, 1, true).getFirst();
                var weights = Weights.open(Checkpoint.open(directory), ModelConfig.load(directory), List.of(device),
                        ModelOptions.defaults(), use, 4096)) {
            var planner = Division.of(weights, use, weights.streamOptions(), true).planner();
            var placement = planner.plan(new Planner.Room(4 << 20, 0, List.of(0L)), Planner.Order.EVEN);
            var panels = HostPanels.of(weights.schedule());
            var rates = Rates.assumedOfGpu().withBus(1e9);
            assertEquals(panels.possible(), panels.choose(planner, placement, rates, new HostRates(1e9, 50e9, 0)));
            assertEquals(new BitSet(), panels.choose(planner, placement, rates, new HostRates(1e9, 1e8, 0)));
            assertEquals(new BitSet(), panels.choose(planner, placement, rates, new HostRates(1e9, 50e9, 0.1)),
                    "a slow way there and back");
            var some = panels.choose(planner, placement, rates, new HostRates(1e9, 1e9, 0));
            int possible = panels.possible().cardinality();
            assertTrue(some.cardinality() > possible / 4 && some.cardinality() < possible, some.toString());
            var none = planner.plan(new Planner.Room(4 << 20, 0, List.of(1L << 20)), Planner.Order.EVEN);
            assertEquals(new BitSet(), none.resident());
            assertEquals(new BitSet(), panels.choose(planner, none, rates, new HostRates(1e9, 50e9, 0)));
        }
    }

    @Test
    void plansAndModesThatDoNotFitAreRefused() throws IOException {
        var directory = directory("qwen3");
        var options = planned("qwen3", ONE, 1);
        refused(directory, "open the model with --mode fast --host-compute", options.hostCompute(false).build());
        var error = assertThrows(LaminaException.class, () -> ModelOptions.builder().hostCompute(true).build());
        assertEquals("The option hostCompute changes results, as mode FAST does: give it with that.",
                error.getMessage());
        var built = options.hostCompute(true).build();
        var file = built.plan();
        var json = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
        json.add("computed_by_host", json.getAsJsonArray("device_panels").get(0).getAsJsonArray().get(0));
        Files.writeString(file, json.toString());
        refused(directory, "is no plan that this version reads", built);
    }

    /** A head that is normalised is the device's. */
    @Test
    void plansOfPanelsThatTheHostCannotComputeAreRefused() throws IOException {
        var fixture = "baichuan2_13b_alibi_normhead";
        var built = planned(fixture, ONE, 1).build();
        LanguageModel.open(directory(fixture), built).close();
        var json = JsonParser.parseString(Files.readString(built.plan())).getAsJsonObject();
        var possible = possible(directory(fixture), json).possible();
        int another = json.getAsJsonArray("host_panels").asList().stream().map(panel -> panel.getAsInt())
                .filter(panel -> !possible.get(panel)).findFirst().orElseThrow();
        json.getAsJsonArray("computed_by_host").add(another);
        Files.writeString(built.plan(), json.toString());
        refused(directory(fixture), "is of another model than this one", built);
    }

    /** Products that come after other ops of their panel, or read what it computes, are the device's; so are norms. */
    @Test
    void onlyPanelsThatBeginWithAllThatReadsThemArePossible() {
        var values = IntStream.range(0, 6).mapToObj(id -> new Value(id, 4, Value.Rows.ALL, null, 0)).toList();
        var slice = new Schedule.Slice(MATRIX, 0, 0, 4, 8, 0);
        var ops = List.of(product(values, 1, 0, slice), product(values, 2, 0, slice), add(values, 3, 1, 2), // panel 0
                product(values, 4, 3, slice), // 1
                product(values, 1, 0, slice), add(values, 3, 1, 2), product(values, 5, 3, slice), // 2
                product(values, 1, 0, slice), product(values, 2, 1, slice), // 3
                product(values, 1, 0, slice), add(values, 0, 1, 2), // 4
                product(values, 2, 0, slice), // 5, of what was changed
                product(values, 1, 0, slice), // 6
                new Schedule.PanelOp(new Op.WeightNorm(values.get(1), values.get(1), 1), slice),
                product(values, 1, 0, slice), // 7
                new Schedule.PanelOp(new Op.LinearTransposed(values.get(2), values.get(0), MATRIX, 0, null), slice));
        var extent = new Extent(0, 0, 64);
        var panels = HostPanels.of(new Schedule(0, ops, List.of(new Schedule.Panel(extent, 0, 3, null, null),
                new Schedule.Panel(extent, 3, 1, null, null), new Schedule.Panel(extent, 4, 3, null, null),
                new Schedule.Panel(extent, 7, 2, null, null), new Schedule.Panel(extent, 9, 2, null, null),
                new Schedule.Panel(extent, 11, 1, null, null), new Schedule.Panel(extent, 12, 2, null, null),
                new Schedule.Panel(extent, 14, 2, null, null)),
                new int[8], List.of()));
        assertEquals("{0, 1, 4, 5}", panels.possible().toString());
        assertArrayEquals(new int[] {0, 0, -1, 1, 0, -1, 2, 0, 3, 0, -1, 4, 4, -1, 4, -1}, panels.inputs());
        assertArrayEquals(new int[] {0, 1, 0, 0, 0, 4, 4, 4},
                panels.work(new BitSet(), new HostRates(1, 1, 1)).inputs());
    }

    private static Schedule.PanelOp product(List<Value> values, int out, int in, Schedule.Slice slice) {
        return new Schedule.PanelOp(new Op.Linear(values.get(out), values.get(in), MATRIX, 0, null), slice);
    }

    private static Schedule.PanelOp add(List<Value> values, int out, int a, int b) {
        return new Schedule.PanelOp(new Op.Add(values.get(out), values.get(a), values.get(b), 1), null);
    }

    private static void refused(String directory, String message, ModelOptions options) {
        var error = assertThrows(LaminaException.class, () -> LanguageModel.open(directory, options).close());
        assertTrue(error.getMessage().contains(message) && error.getMessage().lines().count() == 1,
                error.getMessage());
    }
}
