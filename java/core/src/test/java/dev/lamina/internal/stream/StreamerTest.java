package dev.lamina.internal.stream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.telemetry.Telemetry;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.UnaryOperator;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class StreamerTest {
    private static final int MIB = 1 << 20;

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
        assertFalse(Thread.getAllStackTraces().keySet().stream()
                .anyMatch(thread -> thread.getName().startsWith("lamina-reader")));
    }

    @ParameterizedTest
    @CsvSource({"CHANNEL, true", "CHANNEL, false", "PREAD, true", "PREAD, false", "URING, true", "URING, false",
        "BUFFERED, true", "BUFFERED, false"})
    void deliversEveryPanelWhateverTheOptions(IoMode mode, boolean checksums) throws Exception {
        for (int seed = 0; seed < 16; seed++) {
            try (TestFiles some = new TestFiles()) {
                var random = new Random(seed);
                for (int i = 0; i <= random.nextInt(3); i++) {
                    some.write(random, 1 + random.nextInt(random.nextBoolean() ? 4 * MIB : 100_000));
                }
                List<Extent> cycle = some.cut(random, new int[] {3 * MIB, 400_000, 60_000}[random.nextInt(3)]);
                var options = new StreamOptions(seed % 6, 1 + random.nextInt(4), 1 + random.nextInt(8),
                        (1 + random.nextInt(3)) * MIB, random.nextInt(3) * 5000,
                        random.nextInt(4) == 0 ? 2_000_000_000 : 0);
                var chosen = new BitSet();
                cycle.forEach(extent -> chosen.set(chosen.length() + random.nextInt(4)));
                if (chosen.length() > cycle.size()) {
                    chosen.clear(cycle.size(), chosen.length());
                }
                if (seed % 8 == 7) {
                    chosen.set(0, cycle.size());
                }
                var elsewhere = new BitSet();
                cycle.forEach(extent -> elsewhere.set(elsewhere.length() + random.nextInt(5)));
                if (elsewhere.length() > cycle.size()) {
                    elsewhere.clear(cycle.size(), elsewhere.length());
                }
                elsewhere.andNot(chosen);
                if (seed % 8 == 3) {
                    elsewhere.set(0, cycle.size());
                    chosen.clear();
                }
                run(some, some.open(mode, 1 + random.nextInt(3), checksums), cycle, chosen,
                        seed % 2 == 0 ? new BitSet() : elsewhere, options, random);
            }
        }
    }

    /** Three sweeps or so, with restarts, lookups and several panels held, then the books must balance. */
    private void run(TestFiles some, List<DataFile> open, List<Extent> cycle, BitSet chosen, BitSet elsewhere,
            StreamOptions options, Random random) throws Exception {
        try (Arena arena = Arena.ofShared(); var residents = new ResidentPanels(open, cycle, chosen, memory)) {
            residents.choose(chosen, elsewhere);
            var kept = new BitSet();
            var streamer = new Streamer(open, cycle, residents, options, memory, Telemetry.NONE);
            assertEquals(memory.live(), streamer.hostBytes());
            long consumed = 0;
            var reported = new BitSet();
            var held = new ArrayList<Panel>();
            int expected = 0;
            for (int step = 0; step < 3 * cycle.size() + 5; step++) {
                if (random.nextInt(40) == 0) {
                    streamer.restart();
                    expected = 0;
                }
                if (random.nextInt(10) == 0) {
                    lookup(some, open, streamer, random, arena);
                }
                Panel panel = streamer.next();
                assertEquals(expected, panel.index());
                assertEquals(!kept.get(expected), panel.isHere());
                if (panel.isHere()) {
                    check(some, cycle, panel);
                } else {
                    assertThrows(IllegalStateException.class, panel::memory);
                    assertEquals(0, panel.diskBytes());
                    panel.release();
                    expected = (expected + 1) % cycle.size();
                    continue;
                }
                if (elsewhere.get(expected) && random.nextInt(10) == 0) { // as where a copy has failed
                    consumed += cycle.get(expected).bytes();
                    panel.release();
                    streamer.restart();
                    expected = 0;
                    continue;
                }
                if (elsewhere.get(expected)) {
                    panel.keptElsewhere();
                    kept.set(expected);
                } else {
                    assertThrows(IllegalStateException.class, panel::keptElsewhere);
                }
                if (!chosen.get(expected) || !reported.get(expected)) {
                    consumed += cycle.get(expected).bytes();
                    reported.set(expected);
                }
                held.add(panel);
                while (held.size() > random.nextInt(options.prefetch() + 1)) {
                    Panel oldest = held.remove(random.nextInt(held.size()));
                    check(some, cycle, oldest);
                    oldest.release();
                }
                expected = (expected + 1) % cycle.size();
            }
            held.forEach(Panel::release);
            streamer.close();
            StreamCounters counters = streamer.counters();
            assertEquals(consumed, counters.weightBytes());
            assertEquals(counters.readBytes(), counters.weightBytes() + counters.rowBytes() + counters.paddingBytes()
                    + counters.discardedBytes());
            boolean checksums = open.getFirst().hasChecksums();
            assertEquals(checksums, counters.verifiedBytes() > 0);
            assertEquals(residents.bytes(), memory.live());
        }
    }

    private void check(TestFiles some, List<Extent> cycle, Panel panel) {
        Extent extent = cycle.get(panel.index());
        assertEquals(extent.bytes(), panel.memory().byteSize());
        MemorySegment content = MemorySegment.ofArray(some.contents.get(extent.file()));
        assertEquals(-1, panel.memory().mismatch(content.asSlice(extent.offset(), extent.bytes())));
    }

    /** The whole rows from an offset on to the end of a file, at least one. */
    private static RowTable table(List<DataFile> open, int file, long offset, long rowBytes) {
        return RowTable.of(file, offset, rowBytes, Math.max(1, (open.get(file).size() - offset) / rowBytes));
    }

    private void lookup(TestFiles some, List<DataFile> open, Streamer streamer, Random random, Arena arena)
            throws Exception {
        int file = random.nextInt(some.contents.size());
        byte[] content = some.contents.get(file);
        int tableOffset = random.nextInt(content.length);
        int rowBytes = 1 + random.nextInt(Math.min(5000, content.length - tableOffset));
        int rows = (content.length - tableOffset) / rowBytes;
        int[] ids = random.ints(1 + random.nextInt(60), 0, rows).toArray();
        MemorySegment destination = arena.allocate((long) ids.length * rowBytes);
        for (int again = 0; again < 2; again++) {
            destination.fill((byte) 0);
            streamer.lookup(table(open, file, tableOffset, rowBytes), ids, destination);
            for (int i = 0; i < ids.length; i++) {
                assertEquals(-1, MemorySegment.mismatch(destination, (long) i * rowBytes, (i + 1L) * rowBytes,
                        MemorySegment.ofArray(content), (long) tableOffset + ids[i] * rowBytes,
                        (long) tableOffset + (ids[i] + 1) * rowBytes));
            }
        }
        int offset = random.nextInt(content.length);
        MemorySegment any = arena.allocate(1 + random.nextInt(content.length - offset));
        streamer.lookup(table(open, file, offset, any.byteSize()), new int[] {0}, any);
        assertEquals(-1, any.mismatch(MemorySegment.ofArray(content).asSlice(offset, any.byteSize())));
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void noticesAFlippedBitInAnyUnitBeforeItsFirstUse(boolean direct) throws Exception {
        var random = new Random(7);
        int size = 3 * MIB + 12_345;
        for (int unit = 0; unit < 4; unit++) {
            try (TestFiles some = new TestFiles()) {
                some.write(random, size);
                List<Extent> cycle = some.cut(random, unit % 2 == 0 ? 2 * MIB : 300_000);
                Extent last = cycle.getLast();
                List<DataFile> open = some.open(direct, true);
                int flipped = Math.min(unit * MIB + random.nextInt(MIB), (int) last.end() - 1);
                FileTime modified = Files.getLastModifiedTime(some.paths.getFirst());
                try (var file = new RandomAccessFile(some.paths.getFirst().toFile(), "rw")) {
                    file.seek(flipped);
                    file.write(some.contents.getFirst()[flipped] ^ 4);
                }
                Files.setLastModifiedTime(some.paths.getFirst(), modified); // the drive did it, and not a program
                String message = some.paths.getFirst() + ": the MiB at offset " + flipped / MIB * MIB
                        + " is damaged (its checksum differs). Run lamina inspect --verify to see the whole damage,"
                        + " or split the model again";
                try (var residents = new ResidentPanels(open, cycle, BitSet.valueOf(new long[] {1}), memory);
                        var streamer = new Streamer(open, cycle, residents, options(2, 2), memory, Telemetry.NONE)) {
                    var error = assertThrows(IOException.class, () -> {
                        for (int i = 0; i < cycle.size(); i++) {
                            Panel panel = streamer.next();
                            check(some, cycle, panel);
                            panel.release();
                        }
                    });
                    assertEquals(message, error.getMessage());
                    assertSame(error, assertThrows(IOException.class, streamer::next));
                }
                try (Arena arena = Arena.ofShared(); Streamer streamer = streamer(open, cycle, options(0, 1))) {
                    MemorySegment row = arena.allocate(1);
                    int[] id = {flipped};
                    assertEquals(message, assertThrows(IOException.class,
                            () -> streamer.lookup(table(open, 0, 0, 1), id, row)).getMessage());
                    assertEquals(-1, row.mismatch(arena.allocate(1)), "bytes were handed out");
                }
            }
        }
    }

    private ResidentPanels residents(List<DataFile> open, List<Extent> cycle) {
        return new ResidentPanels(open, cycle, new BitSet(), memory);
    }

    private static StreamOptions options(int prefetch, int readers) {
        return new StreamOptions(prefetch, readers, MIB, 0);
    }

    private Streamer streamer(List<DataFile> open, List<Extent> cycle, StreamOptions options) {
        return new Streamer(open, cycle, residents(open, cycle), options, memory, Telemetry.NONE);
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void namesTheFileThatWasTruncatedWhileItStreamed(boolean direct) throws Exception {
        files.write(new Random(1), 5 * MIB);
        List<Extent> cycle = files.cut(new Random(2), 200_000);
        List<DataFile> open = files.open(direct, false);
        try (Streamer streamer = streamer(open, cycle, options(1, 2))) {
            streamer.next().release();
            try (var file = new RandomAccessFile(files.paths.getFirst().toFile(), "rw")) {
                file.setLength(3 * MIB + 777);
            }
            var error = assertThrows(IOException.class, () -> {
                while (true) {
                    streamer.next().release();
                }
            });
            // reading finds its end, or looking at the file finds its new size, whichever comes first
            assertTrue(error.getMessage().matches("\\Q" + files.paths.getFirst() + "\\E: (the file ends at offset "
                    + "\\d+, it had 5242880 bytes when it was opened: something truncated it|its size changed from "
                    + "5242880 to 3146505 bytes, noticed after reading at offset \\d+. Put the file back, and open "
                    + "the model again)"), error.getMessage());
        }
    }

    @ParameterizedTest
    @EnumSource(IoMode.class)
    void namesTheFileThatWasReplacedOrWrittenToOrIsGone(IoMode mode) throws Exception {
        for (int fault = 0; fault < 4; fault++) {
            try (TestFiles some = new TestFiles()) {
                Path path = some.write(new Random(1), 2 * MIB);
                List<Extent> cycle = some.cut(new Random(2), 300_000);
                List<DataFile> open = some.open(mode, 1, false);
                try (Streamer streamer = streamer(open, cycle, options(1, 2))) {
                    streamer.next().release();
                    Path other = some.folder.resolve("other");
                    switch (fault) {
                        case 0 -> Files.move(Files.copy(path, other), path, StandardCopyOption.ATOMIC_MOVE);
                        case 1 -> {
                            Files.write(path, some.contents.getFirst(), StandardOpenOption.WRITE);
                            Files.setLastModifiedTime(path, FileTime.from(Instant.EPOCH));
                        }
                        case 2 -> Files.delete(path);
                        default -> Files.move(some.folder, some.folder.resolveSibling("gone"));
                    }
                    var error = failure(streamer, cycle.size() - 2); // before the sweep is complete
                    assertTrue(error.getMessage().matches("\\Q" + path + "\\E: it.* "
                            + (fault < 2 ? "was written to or replaced" : "is gone")
                            + ", noticed after reading at offset \\d+. Put the file back, and open it again"),
                            error.getMessage());
                    assertSame(error, assertThrows(IOException.class, streamer::next));
                } finally {
                    if (fault == 3) {
                        Files.move(some.folder.resolveSibling("gone"), some.folder);
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(IoMode.class)
    void noticesAChangeBeforeMuchMoreIsRead(IoMode mode) throws Exception {
        Path path = files.writeHole(160 * MIB);
        var cycle = new ArrayList<Extent>();
        for (int i = 0; i < 20; i++) {
            cycle.add(new Extent(0, i * 8L * MIB, 8 * MIB));
        }
        List<DataFile> open = files.open(mode, 1, false);
        try (Streamer streamer = streamer(open, cycle, options(1, 1))) {
            streamer.next().release();
            var before = Files.getLastModifiedTime(path);
            Files.setLastModifiedTime(path, FileTime.from(Instant.EPOCH));
            var error = failure(streamer, 12); // at most 64 MiB, and what was under way
            Files.setLastModifiedTime(path, before);
            // it stays changed
            assertSame(error, assertThrows(IOException.class, open.getFirst()::checkUnchanged));
        }
    }

    /** What reading fails with, after at most so many panels. */
    private static IOException failure(Streamer streamer, int most) {
        var taken = new int[1];
        var error = assertThrows(IOException.class, () -> {
            while (true) {
                streamer.next().release();
                taken[0]++;
            }
        });
        assertTrue(taken[0] <= most, taken[0] + " panels");
        return error;
    }

    /** At a byte a second nothing is ever read: whoever waited for that would wait for days. */
    @ParameterizedTest
    @EnumSource(IoMode.class)
    void nobodyWaitsForRequestsThatWaitForTheirTurn(IoMode mode) throws Exception {
        files.write(new Random(1), 3 * MIB);
        List<Extent> cycle = files.cut(new Random(2), 700_000);
        List<DataFile> open = files.open(mode, 1, true);
        var slow = new StreamOptions(3, 2, 4, MIB, 0, 1);
        var all = new BitSet();
        all.set(0, cycle.size(), true);
        try (Arena arena = Arena.ofShared(); var residents = new ResidentPanels(open, cycle, all, memory)) {
            for (int round = 0; round < 5; round++) {
                try (var streamer = new Streamer(open, cycle, residents, slow, memory, Telemetry.NONE)) {
                    var consumer = new Thread(() -> {
                        try {
                            streamer.next();
                        } catch (IOException | InterruptedException | IllegalStateException e) {
                            Thread.currentThread().interrupt(); // as it should be: there is nothing
                        }
                    });
                    consumer.start();
                    consumer.interrupt();
                    consumer.join();
                    Thread.currentThread().interrupt();
                    assertThrows(InterruptedException.class, () -> streamer.lookup(table(open, 0, 0, 100),
                            new int[] {1, 2, 3}, arena.allocate(300)));
                    streamer.restart();
                    assertEquals(0, streamer.counters().readBytes());
                }
            }
            try (var streamer = new Streamer(open, cycle, residents, options(3, 2), memory, Telemetry.NONE)) {
                sweeps(streamer, cycle, 2);
            }
        }
    }

    /** A drive that returns less than asked for, or fails, in the middle of a sweep. */
    @ParameterizedTest
    @EnumSource(IoMode.class)
    void readsOnAfterShortReadsAndNamesTheOffsetOfAFailedOne(IoMode mode) throws Exception {
        files.write(new Random(1), 3 * MIB + 5);
        List<Extent> cycle = files.cut(new Random(2), 700_000);
        var reads = new AtomicInteger();
        var failing = new AtomicInteger(Integer.MAX_VALUE);
        UnaryOperator<DataFile.Source> faulty = source -> new DataFile.Source() {
            @Override
            public int read(MemorySegment to, long position) throws IOException {
                int number = reads.getAndIncrement();
                if (number >= failing.get()) {
                    throw new IOException("Input/output error");
                }
                return source.read(number % 2 == 0 ? to : to.asSlice(0, Math.min(to.byteSize(), 8192)), position);
            }

            @Override
            public void close() throws IOException {
                source.close();
            }
        };
        Path path = files.paths.getFirst();
        try (DataFile file = DataFile.open(path, mode, 0, TestFiles.checksums(files.contents.getFirst()), faulty)) {
            List<DataFile> open = List.of(file);
            try (var residents = residents(open, cycle);
                    var streamer = new Streamer(open, cycle, residents, options(2, 3), memory, Telemetry.NONE)) {
                for (int i = 0; i < 2 * cycle.size(); i++) {
                    Panel panel = streamer.next();
                    check(files, cycle, panel);
                    panel.release();
                }
                failing.set(reads.get() + 20);
                var error = assertThrows(IOException.class, () -> {
                    while (true) {
                        Panel panel = streamer.next();
                        check(files, cycle, panel);
                        panel.release();
                    }
                });
                assertTrue(error.getMessage().matches("\\Q" + path + "\\E: reading \\d+ bytes at offset \\d+ failed: "
                        + "Input/output error"), error.getMessage());
            }
            failing.set(Integer.MAX_VALUE); // the drive is back: the same files can be streamed again
            try (var residents = residents(open, cycle);
                    var streamer = new Streamer(open, cycle, residents, options(2, 3), memory, Telemetry.NONE)) {
                for (int i = 0; i < cycle.size(); i++) {
                    streamer.next().release();
                }
            }
        }
    }

    @Test
    void anErrorInTheMiddleLeavesResidentPanelsUsable() throws Exception {
        files.write(new Random(1), 2 * MIB);
        var cycle = new ArrayList<Extent>();
        for (int i = 0; i < 8; i++) {
            cycle.add(new Extent(0, i * MIB / 4, MIB / 4));
        }
        var all = new BitSet();
        all.set(0, 8);
        List<DataFile> open = files.open(false, false);
        FileTime modified = Files.getLastModifiedTime(files.paths.getFirst());
        try (var residents = new ResidentPanels(open, cycle, all, memory)) {
            try (var file = new RandomAccessFile(files.paths.getFirst().toFile(), "rw")) {
                file.setLength(MIB);
            }
            try (var streamer = new Streamer(open, cycle, residents, options(3, 3), memory, Telemetry.NONE)) {
                assertThrows(IOException.class, () -> {
                    for (int i = 0; i < 8; i++) {
                        streamer.next().release();
                    }
                });
            }
            Files.write(files.paths.getFirst(), files.contents.getFirst());
            Files.setLastModifiedTime(files.paths.getFirst(), modified);
            try (var streamer = new Streamer(open, cycle, residents, options(3, 3), memory, Telemetry.NONE)) {
                for (int i = 0; i < 16; i++) {
                    Panel panel = streamer.next();
                    check(files, cycle, panel);
                    panel.release();
                }
            }
        }
    }

    @Test
    void whateverFailsInAReaderReachesTheConsumer() throws Exception {
        files.write(new Random(1), MIB);
        List<Extent> cycle = List.of(new Extent(0, 0, MIB));
        List<DataFile> open = files.open(false, false);
        HostMemory readOnly = new HostMemory() {
            @Override
            public MemorySegment allocate(long bytes) {
                return memory.allocate(bytes).asReadOnly();
            }

            @Override
            public void free(MemorySegment segment) {
                memory.free(MemorySegment.ofAddress(segment.address()).reinterpret(segment.byteSize()));
            }
        };
        try (var residents = new ResidentPanels(open, cycle, new BitSet(), readOnly);
                var streamer = new Streamer(open, cycle, residents, options(1, 2), readOnly, Telemetry.NONE)) {
            assertThrows(IllegalArgumentException.class, streamer::next);
            assertThrows(IllegalArgumentException.class,
                    () -> streamer.lookup(table(open, 0, 0, 1), new int[] {0}, Arena.ofAuto().allocate(1)));
        }
    }

    @Test
    void freesEverythingWhenMemoryDoesNotSuffice() throws Exception {
        files.write(new Random(1), 3 * MIB);
        List<Extent> cycle = files.cut(new Random(2), MIB);
        List<DataFile> open = files.open(false, false);
        for (int limit = 1; limit < 8 * MIB; limit += 400_000) {
            memory.limit(limit);
            try (var residents = new ResidentPanels(open, cycle, BitSet.valueOf(new long[] {1}), memory)) {
                for (int again = 0; again < 2; again++) { // the resident panels are free again
                    new Streamer(open, cycle, residents, options(3, 2), memory, Telemetry.NONE).close();
                }
            } catch (OutOfMemoryError expected) {
                assertEquals(0, memory.live());
            }
        }
        assertTrue(memory.peak() > 2 * MIB);
    }

    @Test
    void closeEndsWhoeverWaits() throws Exception {
        files.write(new Random(1), 2 * MIB);
        List<Extent> cycle = files.cut(new Random(2), 100_000);
        List<DataFile> open = files.open(false, false);
        for (int round = 0; round < 60; round++) {
            Streamer streamer = streamer(open, cycle, options(round % 4, 1 + round % 3));
            var ends = new ArrayList<AtomicReference<Throwable>>();
            var threads = new ArrayList<Thread>();
            Arena arena = Arena.ofShared();
            for (boolean panels : new boolean[] {true, false, false}) {
                MemorySegment rows = arena.allocate(40 * 1000);
                var end = new AtomicReference<Throwable>();
                ends.add(end);
                threads.add(Thread.ofPlatform().start(() -> {
                    try {
                        while (true) {
                            if (panels) {
                                streamer.next().release();
                            } else {
                                streamer.lookup(table(open, 0, 17, 1000),
                                        new Random().ints(40, 0, 2000).toArray(), rows);
                            }
                        }
                    } catch (Throwable e) {
                        end.set(e);
                    }
                }));
            }
            for (int i = 0; i < round; i++) {
                Thread.yield();
            }
            streamer.close();
            streamer.close();
            for (Thread thread : threads) {
                thread.join();
            }
            arena.close();
            for (var end : ends) {
                assertEquals("the streamer is closed", assertInstanceOf(IllegalStateException.class, end.get())
                        .getMessage());
            }
            assertEquals(0, memory.live());
        }
    }

    @Test
    void anInterruptHarmsNobody() throws Exception {
        files.write(new Random(1), 2 * MIB);
        List<Extent> cycle = files.cut(new Random(2), 50_000);
        List<DataFile> open = files.open(false, true);
        try (Arena arena = Arena.ofShared(); Streamer streamer = streamer(open, cycle, options(1, 2))) {
            MemorySegment rows = arena.allocate(3000);
            Thread consumer = Thread.currentThread();
            var done = new AtomicReference<Boolean>(false);
            Thread nuisance = Thread.ofPlatform().start(() -> {
                while (!done.get()) {
                    consumer.interrupt();
                    LockSupport.parkNanos(50_000); // so that some calls get through
                }
            });
            int interrupts = 0;
            for (int i = 0; i < 10 * cycle.size();) {
                try {
                    streamer.lookup(table(open, 0, 0, 1000), new int[] {i % 2000, 5, i % 1999}, rows);
                    Panel panel = streamer.next();
                    assertEquals(i % cycle.size(), panel.index());
                    check(files, cycle, panel);
                    panel.release();
                    i++;
                } catch (InterruptedException e) {
                    interrupts++;
                }
            }
            done.set(true);
            while (nuisance.isAlive()) {
                try {
                    nuisance.join();
                } catch (InterruptedException e) {
                    interrupts++;
                }
            }
            Thread.interrupted();
            assertTrue(interrupts > 0);
        }
    }

    @Test
    void prefetchZeroReadsAndComputesInTurn() throws Exception {
        files.write(new Random(1), 2 * MIB);
        var cycle = List.of(new Extent(0, 0, MIB), new Extent(0, MIB, MIB));
        List<DataFile> open = files.open(false, false);
        try (Arena arena = Arena.ofShared(); Streamer streamer = streamer(open, cycle, options(0, 1))) {
            for (int sweep = 1; sweep <= 6; sweep++) {
                Panel panel = streamer.next();
                for (int i = 0; i < 20; i++) { // the only reader comes by, and must find nothing else to do
                    streamer.lookup(table(open, 0, i, 1), new int[] {0}, arena.allocate(1));
                }
                assertEquals((long) sweep * MIB + 20 * sweep, streamer.counters().readBytes());
                assertEquals("all 1 panels of the ring are held",
                        assertThrows(IllegalStateException.class, streamer::next).getMessage());
                panel.release();
                assertThrows(IllegalStateException.class, panel::memory);
                assertThrows(IllegalStateException.class, panel::release);
            }
        }
    }

    @Test
    void lookupGoesPastAFullRingAndRemembersRows() throws Exception {
        files.write(new Random(1), 4 * MIB);
        List<Extent> cycle = files.cut(new Random(2), 500_000);
        List<DataFile> open = files.open(false, true);
        var options = new StreamOptions(1, 2, MIB, 8 * 1000);
        try (Arena arena = Arena.ofShared(); Streamer streamer = streamer(open, cycle, options)) {
            Panel first = streamer.next();
            Panel second = streamer.next(); // now the ring is full, for good
            MemorySegment rows = arena.allocate(6000);
            streamer.lookup(table(open, 0, 3, 1000), new int[] {9, 2000, 9, 10, 2000, 9}, rows);
            assertEquals(3000, streamer.counters().rowBytes());
            long read = streamer.counters().readBytes();
            streamer.lookup(table(open, 0, 3, 1000), new int[] {10, 9, 2000, 2000, 9, 10}, rows);
            assertEquals(read, streamer.counters().readBytes());
            assertEquals(files.contents.getFirst()[3 + 2_000_000], rows.get(ValueLayout.JAVA_BYTE, 2000));
            assertEquals(files.contents.getFirst()[3 + 10_000], rows.get(ValueLayout.JAVA_BYTE, 5000));
            streamer.lookup(table(open, 0, 3, 1000), new int[0], rows);
            assertThrows(IllegalArgumentException.class,
                    () -> streamer.lookup(table(open, 0, 3, 1000), new int[] {-1}, rows));
            assertThrows(IllegalArgumentException.class,
                    () -> streamer.lookup(table(open, 0, 3, 1000), new int[] {4194}, rows));
            assertThrows(IllegalArgumentException.class,
                    () -> streamer.lookup(table(open, 0, 4 * MIB - 5000, rows.byteSize()), new int[] {0}, rows));
            try (Arena confined = Arena.ofConfined()) {
                assertThrows(IllegalArgumentException.class,
                        () -> streamer.lookup(table(open, 0, 3, 1000), new int[] {1}, confined.allocate(1000)));
            }
            first.release();
            second.release();
        }
    }

    @Test
    void residentPanelsAreReadOnceAndOutliveTheStreamer() throws Exception {
        files.write(new Random(1), 3 * MIB);
        List<Extent> cycle = files.cut(new Random(2), 200_000);
        var all = new BitSet();
        all.set(0, cycle.size());
        List<DataFile> open = files.open(false, true);
        try (Arena arena = Arena.ofShared(); var residents = new ResidentPanels(open, cycle, all, memory)) {
            long weights = cycle.stream().mapToLong(Extent::bytes).sum();
            for (int life = 0; life < 2; life++) {
                try (var streamer = new Streamer(open, cycle, residents, options(3, 2), memory, Telemetry.NONE)) {
                    assertThrows(IllegalStateException.class, () -> residents.evict(0));
                    assertThrows(IllegalStateException.class, residents::close);
                    assertThrows(IllegalStateException.class,
                            () -> new Streamer(open, cycle, residents, options(0, 1), memory, Telemetry.NONE));
                    sweeps(streamer, cycle, 3);
                    assertEquals(life == 0 ? weights : 0, streamer.counters().weightBytes());
                    // rows of a table in memory do not come from disk
                    Extent table = cycle.get(4);
                    MemorySegment rows = arena.allocate(200);
                    streamer.lookup(table(open, 0, table.offset(), 100), new int[] {1, 0}, rows);
                    assertEquals(0, streamer.counters().rowBytes());
                    assertEquals(files.contents.getFirst()[(int) table.offset() + 100],
                            rows.get(ValueLayout.JAVA_BYTE, 0));
                }
            }
            long before = residents.bytes();
            residents.evict(3);
            residents.evict(3);
            assertTrue(residents.bytes() <= before - cycle.get(3).bytes());
            assertEquals(residents.bytes(), memory.live());
            try (var streamer = new Streamer(open, cycle, residents, options(0, 2), memory, Telemetry.NONE)) {
                sweeps(streamer, cycle, 3);
                assertEquals(3 * cycle.get(3).bytes(), streamer.counters().weightBytes());
            }
            residents.choose(BitSet.valueOf(new long[] {0b1010}), new BitSet());
            try (var streamer = new Streamer(open, cycle, residents, options(1, 2), memory, Telemetry.NONE)) {
                sweeps(streamer, cycle, 1);
                assertEquals(weights - cycle.get(1).bytes(), streamer.counters().weightBytes());
            }
            assertThrows(IllegalArgumentException.class,
                    () -> new Streamer(open, cycle.subList(0, 2), residents, options(0, 1), memory, Telemetry.NONE));
        }
    }

    private void sweeps(Streamer streamer, List<Extent> cycle, int sweeps) throws Exception {
        for (int i = 0; i < sweeps * cycle.size(); i++) {
            Panel panel = streamer.next();
            assertEquals(i % cycle.size(), panel.index());
            check(files, cycle, panel);
            panel.release();
        }
    }

    @Test
    void restartDropsWhatWasReadAhead() throws Exception {
        files.write(new Random(1), 2 * MIB);
        var cycle = new ArrayList<Extent>();
        for (int i = 0; i < 8; i++) {
            cycle.add(new Extent(0, i * MIB / 4, MIB / 4));
        }
        List<DataFile> open = files.open(false, false);
        try (Streamer streamer = streamer(open, cycle, options(2, 2))) {
            streamer.restart(); // already there
            for (int sweep = 0; sweep < 3; sweep++) {
                sweeps(streamer, cycle, 1);
                streamer.restart();
            }
            assertEquals(0, streamer.counters().discardedBytes());
            Panel held = streamer.next();
            Panel again = streamer.next();
            again.release();
            for (int i = 0; i < 20; i++) {
                streamer.restart();
                Panel first = streamer.next();
                assertEquals(0, first.index());
                check(files, cycle, first);
                check(files, cycle, held);
                first.release();
            }
            held.release();
            streamer.restart();
            sweeps(streamer, cycle, 2);
        }
    }

    @Test
    void manyShortCycles() throws Exception {
        var random = new Random(3);
        files.write(random, 70_000);
        files.write(random, 1);
        List<DataFile> open = files.open(false, true);
        for (int round = 0; round < 150; round++) {
            var cycle = new ArrayList<Extent>();
            var chosen = new BitSet();
            for (int i = 0; i <= random.nextInt(4); i++) {
                int offset = random.nextInt(70_000);
                cycle.add(random.nextInt(5) == 0 ? new Extent(1, 0, 1)
                        : new Extent(0, offset, 1 + random.nextInt(70_000 - offset)));
                chosen.set(i, random.nextInt(3) == 0);
            }
            try (var residents = new ResidentPanels(open, cycle, chosen, memory);
                    var streamer = new Streamer(open, cycle, residents, options(round % 6, 1 + round % 4), memory,
                            Telemetry.NONE)) {
                sweeps(streamer, cycle, random.nextInt(30));
            }
        }
    }

    @Test
    void refusesWhatItCannotStream() throws Exception {
        files.write(new Random(1), 1000);
        List<DataFile> open = files.open(false, false);
        List<Extent> outside = List.of(new Extent(0, 900, 101));
        assertThrows(IllegalArgumentException.class, () -> streamer(open, outside, options(0, 1)));
        List<Extent> inside = List.of(new Extent(0, 900, 100));
        assertThrows(IllegalArgumentException.class, () -> streamer(open, inside, StreamOptions.defaults()));
        assertThrows(IllegalArgumentException.class, () -> new Extent(0, 0, 0));
        assertThrows(IllegalArgumentException.class, () -> new StreamOptions(1, 0, MIB, 0));
        assertThrows(IllegalArgumentException.class, () -> new StreamOptions(1, 1, MIB + 1, 0));
        assertNull(residents(open, inside).window(0));
    }
}
