package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import dev.lamina.Rates;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.telemetry.Telemetry;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** What stays in memory from one call to the next, and what is counted of it. */
class BudgetTest {
    private static final String DEMO = "../cli/src/main/resources/dev/lamina/cli/demo";
    private static final int TOKENS = 4;
    private static final GenerationOptions GREEDY =
            GenerationOptions.builder().maxTokens(TOKENS).greedy().ignoreEos(true).build();

    private static LanguageModel open(long memory) {
        return open(memory, -1);
    }

    private static LanguageModel open(long memory, int prefetch) {
        return LanguageModel.open(DEMO,
                ModelOptions.builder().memory(memory).panel(1 << 14).prefetch(prefetch).build());
    }

    private static Prompt prompt(int positions) {
        return Prompt.ids(new int[positions - TOKENS]);
    }

    @Test
    void aPlanSaysWhatTheNextCallDoesWhateverCameBefore() {
        var random = new Random(5);
        long least;
        long whole;
        try (var model = open(64 << 20, 2)) {
            least = model.memoryNeeds(200).least();
            whole = model.memoryNeeds(200).whole();
        }
        int kept = 0;
        // how often a placement is kept depends on how many threads read, which may be remembered of this drive
        for (int round = 0; round < 2 || round < 20 && kept <= 2; round++) {
            long memory = random.nextLong(least, whole);
            try (var model = open(memory, 2); var fresh = open(memory, 2)) {
                for (int call = 0; call < 6; call++) {
                    int positions = call == 4 ? 20 : 100 - 2 * call;
                    var plan = model.plan(0, positions, Rates.assumed());
                    kept += fresh.plan(0, positions, Rates.assumed()).equals(plan) ? 0 : 1;
                    assertEquals(plan.residentBytes(), model.generate(prompt(positions), GREEDY).stats()
                            .residentBytes());
                    assertEquals(plan, model.plan(0, positions, Rates.assumed()));
                    var again = model.generate(prompt(positions), GREEDY).stats();
                    assertEquals(again.sweeps() * plan.bytesPerSweep(), again.diskBytes(), plan.toString());
                }
            }
        }
        assertTrue(kept > 2, kept + " plans kept what was there");
    }

    @Test
    void aShortRingIsNotKeptWhereThereIsRoomForMore() {
        int most = 400;
        long memory;
        try (var model = open(64 << 20)) {
            memory = model.memoryNeeds(most).least();
        }
        try (var model = open(memory); var fresh = open(memory)) {
            int slots = model.plan(0, most, Rates.assumed()).ringSlots();
            model.generate(prompt(most), GREEDY);
            int few = TOKENS + 1;
            var plan = model.plan(0, few, Rates.assumed());
            assertTrue(plan.ringSlots() > slots, plan.toString());
            assertEquals(fresh.plan(0, few, Rates.assumed()), plan);
            var stats = model.generate(prompt(few), GREEDY).stats();
            assertEquals(plan.residentBytes(), stats.residentBytes());
        }
    }

    @Test
    void allThatWasReadIsCountedAfterAReset() throws Exception {
        var checkpoint = Checkpoint.open(List.of(Path.of(DEMO)));
        var config = ModelConfig.load(Path.of(DEMO));
        long memory = 3 << 20;
        var use = MemoryUse.of(memory, 0, 0);
        try (var processor = Processor.open("cpu", 1, false).getFirst();
                var weights = Weights.open(checkpoint, config, List.of(processor), ModelOptions.defaults(), use,
                        1 << 14);
                var budget = new Budget(weights, use, Budget.Name.of(memory), 1 << 14, weights.streamOptions(),
                        null, null, Telemetry.NONE)) {
            for (int call = 0; call < 5; call++) {
                var sweep = budget.prepare(8, 1, 1, List.of(8), 0);
                try (var sequence = new Sequence(budget.newCache(8), weights.program().ropes())) {
                    sequence.setTokens(new int[] {3, 4, 5});
                    sweep.run(List.of(new Sweep.Part(sequence, 3, Sweep.Output.LAST)),
                            (rows, firstColumn, columns, block) -> { }, progress -> { }, () -> false);
                }
                Thread.sleep(20); // the readers go on by themselves
                budget.reset();
                var all = budget.counters();
                assertTrue(all.readBytes() > 0, all.toString());
                assertEquals(all.readBytes(),
                        all.weightBytes() + all.rowBytes() + all.paddingBytes() + all.discardedBytes(),
                        all.toString());
            }
            assertTrue(budget.counters().discardedBytes() > 0, budget.counters().toString());
        }
    }
}
