package dev.lamina.internal.stream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import dev.lamina.Rates;
import dev.lamina.internal.telemetry.Telemetry;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class PlannerTest {
    private static final long MIB = 1 << 20;
    private static final int PAGE = 4096;
    private static final BitSet NO_HEAD = new BitSet();

    private static Planner planner(long[] panels, BitSet head, long slot, long scratch, StreamOptions asked) {
        return new Planner(panels, panels, head, new int[panels.length], slot, scratch, asked, false);
    }

    private static Planner.Room room(long host, long taken) {
        return Planner.Room.ofHost(host, taken);
    }

    private static long[] equal(int count, long bytes) {
        var panels = new long[count];
        Arrays.fill(panels, bytes);
        return panels;
    }

    private static BitSet range(int from, int to) {
        var set = new BitSet();
        set.set(from, to);
        return set;
    }

    private static Rates rates(double disk, double compute) {
        return new Rates(disk, Rates.Origin.ASSUMED, compute, Rates.Origin.ASSUMED);
    }

    private static Rates rates(double disk, double bus, double compute) {
        return new Rates(disk, Rates.Origin.ASSUMED, bus, Rates.Origin.ASSUMED, compute, Rates.Origin.ASSUMED);
    }

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
            var order = Planner.Order.values()[random.nextInt(2)];
            var planner = planner(panels, range(random.nextInt(panels.length), panels.length), slot, scratch, asked);
            if (memory < planner.minimum(fixed)) {
                refused++;
                assertThrows(IllegalArgumentException.class, () -> planner.plan(room(memory, fixed), order));
                continue;
            }
            Placement plan = planner.plan(room(memory, fixed), order);
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
                assertTrue(memory < planner.whole(fixed, List.of()));
                assertEquals(plan.options().prefetch() + 1, plan.slots());
                for (int i = 0; i < panels.length; i++) { // no room is left for another panel
                    assertTrue(resident.get(i) || plan.hostBytes() + fixed + panels[i] > memory);
                }
            }
            assertEquals(0, planner.plan(room(planner.whole(fixed, List.of()), fixed), order).slots());
            if (asked.prefetch() == StreamOptions.AUTO_PREFETCH) {
                assertTrue(plan.options().prefetch() >= 1);
            } else {
                assertEquals(asked.prefetch(), plan.options().prefetch());
            }
        }
        assertTrue(refused > 100 && all > 100, refused + " refused, " + all + " all resident");
    }

    @Test
    void theMinimumWouldDo() {
        StreamOptions asked = StreamOptions.defaults();
        var planner = planner(equal(40, 32 * MIB), NO_HEAD, 32 * MIB, MIB, asked);
        long fixed = 600 * MIB + 5;
        assertThrows(IllegalArgumentException.class, () -> planner.plan(room(512 * MIB, fixed), Planner.Order.EVEN));
        Placement least = planner.plan(room(666 * MIB, fixed), Planner.Order.EVEN);
        assertEquals(1, least.options().prefetch());
        assertEquals(1, least.options().readers());
        assertTrue(least.resident().isEmpty());
        assertEquals(665 * MIB + 5, planner.minimum(fixed));
        assertEquals(633 * MIB + 5,
                planner(equal(40, 32 * MIB), NO_HEAD, 32 * MIB, MIB, asked.withPrefetch(0)).minimum(fixed));
        assertThrows(IllegalArgumentException.class,
                () -> planner(equal(40, 32 * MIB), NO_HEAD, 32 * MIB, MIB, asked.withPrefetch(3))
                        .plan(room(666 * MIB, fixed), Planner.Order.EVEN));
    }

    @Test
    void spreadsResidentPanelsOverTheSchedule() {
        Placement plan = planner(equal(100, 4 * MIB), NO_HEAD, 4 * MIB, MIB, StreamOptions.defaults())
                .plan(room(200 * MIB, 0), Planner.Order.EVEN);
        int count = plan.resident().cardinality();
        assertTrue(count > 30 && count < 50, "resident: " + count);
        for (int tenth = 0; tenth < 10; tenth++) {
            int here = plan.resident().get(10 * tenth, 10 * tenth + 10).cardinality();
            assertTrue(Math.abs(here - count / 10.0) <= 2, here + " of " + count + " in tenth " + tenth);
        }
    }

    @Test
    void smallPanelsComeFirstThenTheHead() {
        long[] panels = equal(200, 8 * MIB);
        for (int i = 0; i < 160; i += 10) {
            panels[i] = MIB / 2;
        }
        var head = range(160, 200);
        var planner = planner(panels, head, 8 * MIB, MIB, StreamOptions.defaults());
        assertEquals(Planner.Kind.SMALL, planner.kind(10));
        assertEquals(Planner.Kind.LAYER, planner.kind(11));
        assertEquals(Planner.Kind.HEAD, planner.kind(199));
        var small = range(0, 200);
        small.stream().filter(i -> panels[i] >= MIB).forEach(small::clear);
        long besideRing = 32 * MIB + 4 * MIB + HostBlock.footprint(1 << 20, 1);
        for (var order : Planner.Order.values()) {
            assertEquals(small, planner.plan(room(besideRing + 8 * MIB, 0), order).resident());
        }
        var smallAndHead = (BitSet) small.clone();
        smallAndHead.or(head);
        assertEquals(smallAndHead, planner.plan(room(besideRing + 328 * MIB, 0), Planner.Order.HEAD_FIRST).resident());
        var more = planner.plan(room(besideRing + 648 * MIB, 0), Planner.Order.HEAD_FIRST).resident();
        assertEquals(smallAndHead.cardinality() + 40, more.cardinality());
        var even = planner.plan(room(besideRing + 328 * MIB, 0), Planner.Order.EVEN).resident();
        assertEquals(16 + 40, even.cardinality());
        assertTrue(Math.abs(even.get(160, 200).cardinality() - 40 * 40 / 184.0) <= 2, even.toString());
        // where all is small, it is small beside the largest
        var tiny = planner(new long[] {100, 4000, 900, 1000}, range(3, 4), 4096, MIB, StreamOptions.defaults());
        assertEquals(List.of(Planner.Kind.SMALL, Planner.Kind.LAYER, Planner.Kind.SMALL, Planner.Kind.HEAD),
                IntStream.range(0, 4).mapToObj(tiny::kind).toList());
    }

    @Test
    void theHeadComesFirstWhereThatCostsNothing() {
        long[] panels = equal(1000, 8 * MIB);
        var planner = planner(panels, range(870, 1000), 8 * MIB, MIB, StreamOptions.defaults());
        long memory = 4000 * MIB;
        // the disk is so slow that the ring holds what it reads meanwhile
        assertEquals(Planner.Order.HEAD_FIRST, planner.order(room(memory, 0), rates(0.3e9, 20e9)));
        // it would stand still
        assertEquals(Planner.Order.EVEN, planner.order(room(memory, 0), rates(3.5e9, 20e9)));
        var little = planner(panels, range(990, 1000), 8 * MIB, MIB, StreamOptions.defaults());
        assertEquals(Planner.Order.HEAD_FIRST, little.order(room(memory, 0), rates(3.5e9, 20e9)));
        assertEquals(Planner.Order.HEAD_FIRST, planner.order(room(9000 * MIB, 0), rates(3.5e9, 20e9)),
                "all is resident");
        assertEquals(Planner.Order.EVEN, planner.order(room(0, 0), rates(3.5e9, 20e9)), "and nothing");
        // the prediction, and not a rule, is what tells
        for (double disk = 0.1e9; disk < 20e9; disk *= 1.7) {
            var rates = rates(disk, 20e9);
            double first = planner.secondsPerSweep(planner.plan(room(memory, 0), Planner.Order.HEAD_FIRST), rates);
            double even = planner.secondsPerSweep(planner.plan(room(memory, 0), Planner.Order.EVEN), rates);
            assertTrue(first >= 0.999 * even, "an even spread is the best there is: " + first + ", " + even);
            assertEquals(first <= 1.005 * even ? Planner.Order.HEAD_FIRST : Planner.Order.EVEN,
                    planner.order(room(memory, 0), rates));
        }
    }

    @Test
    void aChangeOfTheBudgetMovesLittle() {
        var random = new Random(6);
        for (int round = 0; round < 200; round++) {
            long[] panels = random.longs(200, 1, 65).map(n -> n * n * n * n % 8 == 0 ? n * 100_000 : 6_400_000)
                    .toArray();
            var planner = planner(panels, range(160, 200), 8 * MIB, MIB, StreamOptions.defaults());
            var order = Planner.Order.values()[random.nextInt(2)];
            long total = Arrays.stream(panels).sum();
            long memory = 40 * MIB + random.nextLong(total / 2);
            long more = memory + random.nextLong(total / 4);
            BitSet before = planner.plan(room(memory, 0), order).resident();
            BitSet after = planner.plan(room(more, 0), order).resident();
            var lost = (BitSet) before.clone();
            lost.andNot(after);
            assertTrue(lost.cardinality() <= 3, lost + " of " + before + " went with more memory");
        }
    }

    @Test
    void sweepsTakeWhatIsLonger() {
        long[] panels = equal(400, 10_000_000); // 4 GB
        var planner = planner(panels, NO_HEAD, 10_000_000, MIB, StreamOptions.defaults());
        var half = planner.plan(room(2_050_000_000L, 0), Planner.Order.EVEN);
        double read = Arrays.stream(panels).sum() - half.residentBytes();
        assertEquals(read / 1e9, planner.secondsPerSweep(half, rates(1e9, 20e9)), 0.005 * read / 1e9);
        assertEquals(1, planner.secondsPerSweep(half, rates(20e9, 4e9)), 0.005);
        var all = planner.plan(room(planner.whole(0, List.of()), 0), Planner.Order.EVEN);
        assertEquals(0.2, planner.secondsPerSweep(all, rates(1, 20e9)), 1e-9);
        var inTurn = planner(panels, NO_HEAD, 10_000_000, MIB, StreamOptions.defaults().withPrefetch(0));
        var none = inTurn.plan(room(inTurn.minimum(0), 0), Planner.Order.EVEN);
        assertEquals(4 / 1. + 4 / 5., inTurn.secondsPerSweep(none, rates(1e9, 5e9)), 1e-9, "the sum of the two");
        // a resident stretch: 200 panels are computed in 1 s, in which the disk fills 4 slots and waits
        assertEquals(1 + 2 - 4 * 0.01, SweepTime.seconds(panels, range(0, 200), NO_HEAD, 4, rates(1e9, 2e9), null),
                0.0101);
    }

    @Test
    void theBusIsALimitToo() {
        long[] panels = equal(400, 10_000_000); // 4 GB
        var planner = planner(panels, NO_HEAD, 10_000_000, MIB, StreamOptions.defaults());
        var host = planner.plan(room(2_050_000_000L, 0), Planner.Order.EVEN);
        double read = Arrays.stream(panels).sum() - host.residentBytes();
        assertEquals(2, planner.secondsPerSweep(host, rates(20e9, 2e9, 20e9)), 0.01, "all is copied");
        assertEquals(read / 1e9, planner.secondsPerSweep(host, rates(1e9, 20e9, 40e9)), 0.01 * read / 1e9);
        assertEquals(1, planner.secondsPerSweep(host, rates(20e9, 20e9, 4e9)), 0.01);
        var device = planner.plan(new Planner.Room(2_050_000_000L, 0, List.of(1_000_000_000L)), Planner.Order.EVEN);
        double copied = Arrays.stream(panels).sum() - 10_000_000. * device.onDevice().cardinality();
        assertEquals(3e9, copied, 0.05e9);
        assertEquals(copied / 2e9, planner.secondsPerSweep(device, rates(20e9, 2e9, 20e9)), 0.01 * copied / 2e9);
        // one slot and one panel at a time: nothing overlaps but the next read with the computation
        var inTurn = planner(panels, NO_HEAD, 10_000_000, MIB, StreamOptions.defaults().withPrefetch(0));
        var none = inTurn.plan(room(inTurn.minimum(0), 0), Planner.Order.EVEN);
        assertEquals(4 / 2. + 4 / 4., inTurn.secondsPerSweep(none, rates(2e9, 4e9, 40e9)), 0.01);
    }

    @Test
    void theHostComputesWhatTheBusNeedNotCopy() {
        long[] panels = equal(400, 10_000_000); // 4 GB
        var planner = planner(panels, NO_HEAD, 10_000_000, MIB, StreamOptions.defaults());
        var host = planner.plan(new Planner.Room(8_000_000_000L, 0, List.of(0L)), Planner.Order.EVEN);
        assertEquals(400, host.resident().cardinality());
        var rates = rates(1e9, 10e9, 1e12);
        assertEquals(0.4, planner.secondsPerSweep(host, rates), 0.01, "the bus");
        var inputs = new int[400]; // of 20 panels each
        Arrays.setAll(inputs, i -> i / 20);
        var all = range(0, 400);
        assertEquals(0.2, planner.secondsPerSweep(host, rates, new HostWork(all, inputs, 20e9, 0)), 0.001);
        // each input waits for the device, and each result goes there: 20 of them in turn
        assertEquals(0.2 + 20 * 1e-3, planner.secondsPerSweep(host, rates, new HostWork(all, inputs, 20e9, 1e-3)),
                0.002);
        // as fast as the bus, of which each has its half: they work at the same time
        var half = new BitSet();
        range(0, 400).stream().filter(i -> i % 2 == 1).forEach(half::set);
        double together = planner.secondsPerSweep(host, rates, new HostWork(half, inputs, 10e9, 0));
        assertTrue(together > 0.2 && together < 0.23, together + " s");
        // one panel after the other where each has an input of its own: what the host waits for, the bus has not begun
        Arrays.setAll(inputs, i -> i);
        assertEquals(0.4, planner.secondsPerSweep(host, rates, new HostWork(half, inputs, 10e9, 0)), 0.01);
    }

    @Test
    void devicesAreFilledFirstAndKeepTheirBudgets() {
        var random = new Random(21);
        int some = 0;
        for (int round = 0; round < 300; round++) {
            int count = random.nextInt(1, 4);
            int panels = random.nextInt(count, 120);
            var bytes = random.longs(panels, 1, 9_000_000).toArray();
            var devices = random.ints(panels, 0, count).toArray();
            var planner = new Planner(bytes, bytes, range(panels / 2, panels), devices, 9 * MIB, MIB,
                    StreamOptions.defaults(), false);
            long total = Arrays.stream(bytes).sum();
            var rooms = random.longs(count, 0, total).boxed().toList();
            long fixed = random.nextLong(1 << 20);
            long memory = planner.minimum(fixed) + random.nextLong(total);
            var order = Planner.Order.values()[random.nextInt(2)];
            var plan = planner.plan(new Planner.Room(memory, fixed, rooms), order);
            assertTrue(plan.hostBytes() + fixed <= memory);
            assertTrue(!plan.resident().intersects(plan.onDevice()), "a panel is kept twice");
            for (int device = 0; device < count; device++) {
                var slabs = plan.slabs().get(device);
                assertTrue(planner.slabBytes(slabs) <= rooms.get(device));
                var there = new BitSet();
                for (var slab : slabs) {
                    assertTrue(slab.panels().size() == 1
                            || slab.panels().stream().mapToLong(i -> Planner.onDevice(bytes[i])).sum() <= 64 * MIB);
                    slab.panels().forEach(there::set);
                }
                long left = rooms.get(device) - planner.slabBytes(slabs);
                for (int i = 0; i < panels; i++) {
                    assertTrue(!there.get(i) || devices[i] == device, "a panel is on another's device");
                    boolean fits = Planner.slabFootprint(Planner.onDevice(bytes[i])) <= left - 2 * MIB; // a page
                    assertTrue(there.get(i) || devices[i] != device || !fits || plan.slots() == 0,
                            "a panel is left out that has room");
                }
            }
            some += plan.onDevice().isEmpty() || plan.kept().cardinality() == panels ? 0 : 1;
            var least = planner.whole(fixed, rooms);
            assertEquals(panels, planner.plan(new Planner.Room(least, fixed, rooms), Planner.Order.EVEN).kept()
                    .cardinality());
        }
        assertTrue(some > 100, some + " plans streamed something beside a device that held something");
    }

    @Test
    void aChangeOfADevicesBudgetMovesFewAllocations() {
        var planner = planner(equal(2000, 7_000_000), range(1900, 2000), 8 * MIB, MIB, StreamOptions.defaults());
        for (long room = 500 * MIB; room < 8000 * MIB; room += 700 * MIB) {
            var small = planner.plan(new Planner.Room(1000 * MIB, 0, List.of(room)), Planner.Order.EVEN);
            var large = planner.plan(new Planner.Room(1000 * MIB, 0, List.of(room + 300 * MIB)), Planner.Order.EVEN);
            var lost = new ArrayList<>(small.slabs().getFirst());
            lost.removeAll(large.slabs().getFirst());
            assertTrue(lost.size() <= 1, lost.size() + " of " + small.slabs().getFirst().size());
        }
    }

    @Test
    void ratesAreChecked() {
        for (double wrong : new double[] {0, -1, Double.NaN, Double.POSITIVE_INFINITY}) {
            assertThrows(LaminaException.class, () -> rates(wrong, 1));
            assertThrows(LaminaException.class, () -> rates(1, wrong));
        }
        var limited = rates(5e9, 7).limited(1000);
        assertEquals(new Rates(1000, Rates.Origin.LIMIT, 7, Rates.Origin.ASSUMED), limited);
        assertEquals(limited, limited.limited(0));
        assertEquals(limited, limited.limited(1001));
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
                var planner = new Planner(open, cycle, range(cycle.size() / 2, cycle.size()), new int[cycle.size()],
                        asked, false);
                long budget = planner.minimum(fixed) + random.nextInt(2_500_000);
                Placement plan = planner.plan(room(budget, fixed), Planner.Order.values()[round % 2]);
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

    @Test
    void nobodyCanChangeAPlacement() {
        Placement plan = planner(equal(100, 4 * MIB), NO_HEAD, 4 * MIB, MIB, StreamOptions.defaults())
                .plan(room(405 * MIB, 0), Planner.Order.EVEN);
        assertEquals(0, plan.slots());
        assertEquals(100, plan.resident().cardinality());
        plan.resident().clear();
        assertEquals(100, plan.resident().cardinality());
    }
}
