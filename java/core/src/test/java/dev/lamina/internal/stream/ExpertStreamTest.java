package dev.lamina.internal.stream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.telemetry.Telemetry;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.BitSet;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Panels of experts: asked for, kept, and read before they are asked for. */
@Timeout(120)
class ExpertStreamTest {
    private static final int KIB = 1 << 10;

    private final TestMemory memory = new TestMemory();
    private TestFiles files;

    @BeforeEach
    void makeFolder() throws IOException {
        files = new TestFiles();
    }

    @AfterEach
    void nothingStays() throws IOException {
        files.close();
        assertEquals(0, memory.live());
    }

    /** Experts of a file, of so many panels each, behind one panel of the cycle. */
    private record Experts(List<Extent> cycle, List<List<Extent>> panels, int[] expertOf) {
        long bytes(int panel) {
            return panels.get(panel).stream().mapToLong(Extent::bytes).sum();
        }

        /** The panels of some experts, in order. */
        int[] panels(BitSet of) {
            return IntStream.range(0, expertOf.length).filter(panel -> of.get(expertOf[panel])).toArray();
        }
    }

    /** Some experts, in panels of any sizes, of which some have tails. */
    private static Experts cut(TestFiles some, Random random) {
        var cycle = new ArrayList<Extent>();
        var panels = new ArrayList<List<Extent>>();
        var expertOf = new ArrayList<Integer>();
        int expert = -1;
        boolean tails = random.nextBoolean();
        var extents = new ArrayDeque<>(some.cut(random, 40 * KIB));
        do {
            cycle.add(extents.remove());
        } while (cycle.size() < 3 && extents.size() > 20);
        while (extents.size() > 1) {
            if (expert < 0 || random.nextBoolean()) {
                expert++;
            }
            expertOf.add(expert);
            panels.add(tails && random.nextBoolean() ? List.of(extents.remove(), extents.removeLast())
                    : List.of(extents.remove()));
        }
        return new Experts(cycle, panels, expertOf.stream().mapToInt(each -> each).toArray());
    }

    private static void check(TestFiles some, Experts experts, Panel panel, int number) {
        assertEquals(experts.cycle.size() + number, panel.index());
        var extents = experts.panels.get(number);
        long at = 0;
        for (var extent : extents) {
            var content = MemorySegment.ofArray(some.contents.get(extent.file()));
            assertEquals(-1, panel.memory().asSlice(at, extent.bytes())
                    .mismatch(content.asSlice(extent.offset(), extent.bytes())), "panel " + number);
            at = panel.memory().byteSize() - extents.getLast().bytes();
        }
    }

    @ParameterizedTest
    @EnumSource(IoMode.class)
    void whateverIsPredictedAllThatIsAskedForComes(IoMode mode) throws Exception {
        for (int seed = 0; seed < 10; seed++) {
            try (TestFiles some = new TestFiles()) {
                var random = new Random(seed);
                for (int i = 0; i <= random.nextInt(3); i++) {
                    some.write(random, 300_000 + random.nextInt(2_000_000));
                }
                var experts = cut(some, random);
                run(some, some.open(mode, 1 + random.nextInt(3), random.nextBoolean()), experts, random);
            }
        }
    }

    private void run(TestFiles some, List<DataFile> open, Experts experts, Random random) throws Exception {
        boolean predicts = random.nextInt(4) > 0;
        int slots = ExpertCache.passing(0, predicts) + random.nextInt(experts.panels.size());
        var options = new StreamOptions(1 + random.nextInt(3), 1 + random.nextInt(3), 1 + random.nextInt(4),
                1 << 20, 0, random.nextInt(4) == 0 ? 300_000_000 : 0);
        var streamed = new BitSet();
        streamed.set(0, experts.cycle.size() * random.nextInt(2));
        int count = experts.expertOf[experts.expertOf.length - 1] + 1;
        try (var residents = new ResidentPanels(open, experts.cycle, streamed, memory);
                var cache = new ExpertCache(open, experts.panels, experts.expertOf, predicts, memory)) {
            cache.resize(slots);
            var streamer = new Streamer(open, experts.cycle, residents, cache, options, memory, Telemetry.NONE);
            long consumed = 0;
            for (int step = 0; step < 60; step++) {
                if (random.nextInt(4) == 0) {
                    var panel = streamer.next();
                    consumed += panel.diskBytes();
                    panel.release();
                }
                var wanted = some(random, count);
                if (predicts && random.nextInt(3) > 0) {
                    var predicted = experts.panels(random.nextBoolean() ? some(random, count) : wanted);
                    streamer.predict(predicted);
                    if (random.nextBoolean()) {
                        Thread.yield();
                    }
                    if (random.nextInt(10) == 0) {
                        streamer.restart();
                    }
                }
                var panels = experts.panels(wanted);
                streamer.demand(panels);
                var held = new ArrayDeque<Panel>();
                for (int panel : panels) {
                    if (random.nextInt(100) == 0) { // as when a sweep is cancelled
                        held.forEach(Panel::release);
                        held.clear();
                        streamer.restart();
                        break;
                    }
                    var arrived = streamer.nextExpert();
                    check(some, experts, arrived, panel);
                    consumed += arrived.diskBytes();
                    held.add(arrived);
                    if (held.size() > 1) {
                        held.remove().release();
                    }
                }
                held.forEach(Panel::release);
                streamer.swept();
            }
            streamer.close();
            var counters = streamer.counters();
            assertEquals(consumed, counters.weightBytes());
            assertEquals(counters.readBytes(), counters.weightBytes() + counters.mispredictedBytes()
                    + counters.paddingBytes() + counters.discardedBytes());
            assertTrue(counters.predictedBytes() <= counters.expertBytes());
            assertTrue(predicts || counters.predictedBytes() + counters.mispredictedBytes() == 0);
            assertEquals(slots, cache.slots());
            assertTrue(cache.keptPanels() <= slots - ExpertCache.passing(slots, predicts), "kept too many");
            cache.resize(0);
            assertEquals(0, cache.bytes());
        }
    }

    private static BitSet some(Random random, int count) {
        var chosen = new BitSet();
        chosen.set(random.nextInt(count));
        for (int i = random.nextInt(4); i > 0; i--) {
            chosen.set(random.nextInt(count));
        }
        return chosen;
    }

    private static void await(BooleanSupplier condition) throws InterruptedException {
        while (!condition.getAsBoolean()) {
            Thread.sleep(1);
        }
    }

    /** Experts of one panel of 64 KiB each, behind a cycle of so many panels. */
    private Experts equal(int inCycle, int count) throws IOException {
        files.write(new Random(5), (inCycle + count) * 64 * KIB);
        var extents = IntStream.range(0, inCycle + count)
                .mapToObj(i -> new Extent(0, i * 64L * KIB, 64 * KIB)).toList();
        return new Experts(extents.subList(0, inCycle),
                extents.subList(inCycle, inCycle + count).stream().map(List::of).toList(),
                IntStream.range(0, count).toArray());
    }

    private static void use(Streamer streamer, int... panels) throws Exception {
        streamer.demand(panels);
        for (int i = 0; i < panels.length; i++) {
            streamer.nextExpert().release();
        }
    }

    @Test
    void whatIsPredictedIsReadOnceAndCounted() throws Exception {
        var experts = equal(1, 20);
        var open = files.open(true, false);
        var resident = BitSet.valueOf(new long[] {1});
        try (var residents = new ResidentPanels(open, experts.cycle, resident, memory);
                var cache = new ExpertCache(open, experts.panels, experts.expertOf, true, memory)) {
            cache.resize(ExpertCache.passing(0, true) + 4);
            try (var streamer = new Streamer(open, experts.cycle, residents, cache,
                    StreamOptions.defaults().withPrefetch(1).withRowCacheBytes(0), memory, Telemetry.NONE)) {
                streamer.next().release();
                long before = streamer.counters().readBytes();
                streamer.predict(new int[] {7, 8, 9}); // there is memory for one of them
                await(() -> streamer.counters().readBytes() == before + 64 * KIB);
                use(streamer, 5, 7);
                assertEquals(2 * 64 * KIB, streamer.counters().expertBytes());
                assertEquals(64 * KIB, streamer.counters().predictedBytes());
                assertEquals(0, streamer.counters().mispredictedBytes());
                assertEquals(before + 2 * 64 * KIB, streamer.counters().readBytes());

                streamer.predict(new int[] {9, 10});
                await(() -> streamer.counters().readBytes() == before + 3 * 64 * KIB);
                use(streamer, 7, 10); // 7 was kept
                assertEquals(3 * 64 * KIB, streamer.counters().expertBytes());
                assertEquals(64 * KIB, streamer.counters().predictedBytes());
                assertEquals(64 * KIB, streamer.counters().mispredictedBytes());
                assertEquals(4, streamer.counters().expertsUsed());
                assertEquals(3, streamer.counters().expertsRead());
            }
        }
    }

    @Test
    void predictionsTakeNoMemoryFromExpertsThatAreKept() throws Exception {
        var experts = equal(1, 20);
        var open = files.open(true, false);
        var resident = BitSet.valueOf(new long[] {1});
        try (var residents = new ResidentPanels(open, experts.cycle, resident, memory);
                var cache = new ExpertCache(open, experts.panels, experts.expertOf, true, memory)) {
            cache.resize(ExpertCache.passing(0, true) + 3);
            try (var streamer = new Streamer(open, experts.cycle, residents, cache,
                    StreamOptions.defaults().withPrefetch(1), memory, Telemetry.NONE)) {
                streamer.next().release();
                for (int i = 0; i < 5; i++) {
                    use(streamer, 0, 1, 2);
                }
                assertEquals(3, cache.keptPanels());
                for (int i = 3; i < 20; i++) {
                    var before = streamer.counters();
                    streamer.predict(new int[] {i});
                    await(() -> streamer.counters().minus(before).readBytes() == 64 * KIB);
                    use(streamer, 0, 1, 2);
                    var added = streamer.counters().minus(before);
                    assertEquals(0, added.expertBytes(), "what was kept was read again");
                    assertEquals(64 * KIB, added.mispredictedBytes());
                }
            }
        }
    }

    /** Reads that somebody waits for, or will for certain, come before those that are only likely. */
    @Test
    void theCycleIsReadBeforeWhatIsPredicted() throws Exception {
        var experts = equal(30, 8);
        var open = files.open(true, false);
        var order = Collections.synchronizedList(new ArrayList<Integer>());
        var telemetry = new Telemetry() {
            @Override
            public void read(int panel, int reader, long bytes, long startNanos, long endNanos) {
                order.add(panel);
            }
        };
        try (var residents = new ResidentPanels(open, experts.cycle, new BitSet(), memory);
                var cache = new ExpertCache(open, experts.panels, experts.expertOf, true, memory)) {
            cache.resize(ExpertCache.passing(0, true) + 8);
            var options = new StreamOptions(19, 1, 1, 1 << 20, 0, 10_000_000); // 20 panels take 0.13 s
            try (var streamer = new Streamer(open, experts.cycle, residents, cache, options, memory, telemetry)) {
                streamer.predict(new int[] {3, 4});
                await(() -> order.size() == 21);
                assertEquals(IntStream.range(0, 20).boxed().toList(), order.subList(0, 20));
                assertEquals(33, order.get(20));
                streamer.next().release(); // room for one more
                use(streamer, 3);
                assertFalse(order.contains(34), "one slot is for what is read ahead");
            }
        }
    }
}
