package dev.lamina.internal.stream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import dev.lamina.internal.telemetry.Telemetry;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class PlacementTest {
    private static final long MIB = 1 << 20;
    private static final int PAGE = 4096;

    @Test
    void keepsTheBudgetAndUsesIt() {
        var random = new Random(11);
        int refused = 0;
        int all = 0;
        for (int round = 0; round < 3000; round++) {
            long[] panels = random.longs(1 + random.nextInt(60), 1, 2 + random.nextInt(8000)).map(n -> n * PAGE)
                    .toArray();
            long slot = Arrays.stream(panels).max().orElseThrow() + random.nextInt(2) * PAGE;
            long scratch = (1 + random.nextInt(256)) * (long) PAGE;
            long fixed = random.nextLong(200 * MIB);
            long memory = random.nextLong(2 * fixed + 2 * Arrays.stream(panels).sum());
            var asked = new StreamOptions(random.nextInt(8) - 1, 1 + random.nextInt(4), 1 << 20,
                    random.nextInt(3) * 100_000);
            long minimum = Placement.minimum(fixed, panels, slot, scratch, asked);
            if (memory < minimum) {
                refused++;
                assertThrows(LaminaException.class, () -> Placement.plan(memory, fixed, panels, slot, scratch, asked));
                continue;
            }
            Placement plan = Placement.plan(memory, fixed, panels, slot, scratch, asked);
            assertTrue(fixed + plan.hostBytes() <= memory);
            BitSet resident = plan.resident();
            assertEquals(resident.stream().mapToLong(i -> panels[i]).sum(), plan.residentBytes());
            assertEquals(plan.slots() * plan.slotBytes() + plan.residentBytes()
                    + plan.options().readers() * scratch
                    + HostBlock.footprint(plan.options().rowCacheBytes(), 1), plan.hostBytes());
            if (plan.slots() == 0) {
                all++;
                assertEquals(panels.length, resident.cardinality());
            } else {
                assertEquals(plan.options().prefetch() + 1, plan.slots());
                for (int i = 0; i < panels.length; i++) { // no room is left for another panel
                    assertTrue(resident.get(i) || plan.hostBytes() + fixed + panels[i] > memory);
                }
            }
            if (asked.prefetch() == StreamOptions.AUTO_PREFETCH) {
                assertTrue(plan.options().prefetch() >= 1);
            } else {
                assertEquals(asked.prefetch(), plan.options().prefetch());
            }
        }
        assertTrue(refused > 100 && all > 100, refused + " refused, " + all + " all resident");
    }

    @Test
    void theNumberInTheRefusalWouldDo() {
        long[] panels = new long[40];
        Arrays.fill(panels, 32 * MIB);
        StreamOptions asked = StreamOptions.defaults();
        long fixed = 600 * MIB + 5;
        String message = assertThrows(LaminaException.class,
                () -> Placement.plan(512 * MIB, fixed, panels, 32 * MIB, MIB, asked)).getMessage();
        assertEquals("--memory 512MiB is too small for this model: at least 666MiB are needed (601MiB for vectors,"
                + " KV cache and activations, 65MiB for the panels in flight)."
                + " Raise --memory, or lower --context or --panel", message);
        Placement least = Placement.plan(666 * MIB, fixed, panels, 32 * MIB, MIB, asked);
        assertEquals(1, least.options().prefetch());
        assertEquals(1, least.options().readers());
        assertTrue(least.resident().isEmpty());
        assertEquals(665 * MIB + 5, Placement.minimum(fixed, panels, 32 * MIB, MIB, asked));
        assertEquals(633 * MIB + 5, Placement.minimum(fixed, panels, 32 * MIB, MIB, asked.withPrefetch(0)));
        assertThrows(LaminaException.class,
                () -> Placement.plan(666 * MIB, fixed, panels, 32 * MIB, MIB, asked.withPrefetch(3)));
    }

    @Test
    void spreadsResidentPanelsOverTheSchedule() {
        long[] panels = new long[100];
        Arrays.fill(panels, 4 * MIB);
        Placement plan = Placement.plan(200 * MIB, 0, panels, 4 * MIB, MIB, StreamOptions.defaults());
        int count = plan.resident().cardinality();
        assertTrue(count > 30 && count < 50, "resident: " + count);
        for (int tenth = 0; tenth < 10; tenth++) {
            int here = plan.resident().get(10 * tenth, 10 * tenth + 10).cardinality();
            assertTrue(Math.abs(here - count / 10.0) <= 2, here + " of " + count + " in tenth " + tenth);
        }
    }

    @Test
    void holdsEverythingWhereItFits() {
        long[] panels = new long[100];
        Arrays.fill(panels, 4 * MIB);
        Placement plan = Placement.plan(405 * MIB, 0, panels, 4 * MIB, MIB, StreamOptions.defaults());
        assertEquals(0, plan.slots());
        assertEquals(100, plan.resident().cardinality());
        plan.resident().clear();
        assertEquals(100, plan.resident().cardinality());
    }

    @Test
    void isWhatTheStreamerAllocates() throws Exception {
        var random = new Random(4);
        for (int round = 0; round < 20; round++) {
            try (TestFiles files = new TestFiles()) {
                files.write(random, 2_000_000);
                files.write(random, 1 + random.nextInt(500_000));
                List<Extent> cycle = files.cut(random, 200_000);
                List<DataFile> open = files.open(false, true);
                long fixed = random.nextInt(1_000_000);
                var asked = new StreamOptions(random.nextInt(4) - 1, 1 + random.nextInt(4), 1 << 20,
                        random.nextInt(100_000));
                long budget = Placement.minimum(fixed, open, cycle, asked) + random.nextInt(2_500_000);
                Placement plan = Placement.plan(budget, fixed, open, cycle, asked);
                var memory = new TestMemory();
                try (var residents = new ResidentPanels(open, cycle, plan.resident(), memory);
                        var streamer = new Streamer(open, cycle, residents, plan.options(), memory, Telemetry.NONE)) {
                    for (int i = 0; i < 2 * cycle.size(); i++) {
                        streamer.next().release();
                    }
                    assertEquals(plan.hostBytes(), streamer.hostBytes());
                }
                assertEquals(plan.hostBytes(), memory.peak());
                assertTrue(memory.peak() + fixed <= budget);
                assertFalse(memory.live() > 0);
            }
        }
    }
}
