package dev.lamina.internal.stream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.DeviceReader;
import dev.lamina.DeviceReaderOptions;
import dev.lamina.DeviceReaderOptions.Method;
import dev.lamina.LaminaException;
import dev.lamina.internal.generate.Emulation;
import dev.lamina.internal.runtime.Device;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class DeviceReaderTest {
    private static final int MIB = 1 << 20;

    private TestFiles files;

    @BeforeEach
    void makeFolder() throws IOException {
        files = new TestFiles();
    }

    @AfterEach
    void removeFolder() throws IOException {
        files.close();
    }

    private static DeviceReader open(String device, Method method, int readers) {
        if (device.startsWith("cuda-emulated")) {
            Emulation.assume();
        }
        return DeviceReader.open(DeviceReaderOptions.of(device).withMethod(method).withReaders(readers)
                .withRequestBytes(MIB));
    }

    private static byte[] bytes(DeviceReader reader, MemorySegment memory) {
        var bytes = new byte[Math.toIntExact(memory.byteSize())];
        reader.copyToHost(memory, MemorySegment.ofArray(bytes));
        return bytes;
    }

    private static void assertBytes(byte[] content, long offset, byte[] got, long at, long length) {
        assertEquals(-1, MemorySegment.mismatch(MemorySegment.ofArray(content), offset, offset + length,
                MemorySegment.ofArray(got), at, at + length));
    }

    private static String failure(CompletableFuture<?> future) {
        return assertInstanceOf(LaminaException.class,
                assertThrows(CompletionException.class, future::join).getCause()).getMessage();
    }

    private static void assertRefused(String message, Runnable call) {
        var got = assertThrows(LaminaException.class, call::run).getMessage();
        assertTrue(got.contains(message), got);
    }

    private static int readerThreads() {
        return (int) Thread.getAllStackTraces().keySet().stream()
                .filter(thread -> thread.getName().startsWith("lamina-device-reader-")).count();
    }

    /** How often this process has a file open. */
    private static long descriptors(Path path) throws IOException {
        Path all = Path.of("/proc/self/fd");
        if (!Files.isDirectory(all)) {
            return 0;
        }
        long count = 0;
        try (var each = Files.newDirectoryStream(all)) {
            for (Path descriptor : each) {
                try {
                    count += Files.readSymbolicLink(descriptor).equals(path) ? 1 : 0;
                } catch (IOException e) {
                    continue; // closed meanwhile, such as the folder's own
                }
            }
        }
        return count;
    }

    @ParameterizedTest
    @CsvSource({"cpu,AUTO", "cpu,GDS", "cuda-emulated,AUTO", "cuda-emulated,GDS", "cuda-emulated,STAGED",
        "cuda-emulated:1,STAGED"})
    void readsAnyRangeToAnyPlace(String device, Method method) throws IOException {
        var random = new Random(7);
        int size = 5 * MIB + 777;
        Path path = files.write(random, size);
        byte[] content = files.contents.getFirst();
        try (var reader = open(device, method, 3)) {
            var file = reader.openFile(path);
            assertEquals(size, file.size());
            assertEquals(path, file.path());
            boolean gds = method == Method.GDS || method == Method.AUTO && !device.equals("cpu");
            assertEquals(gds ? Method.GDS : Method.STAGED, file.method());
            assertEquals(gds && !device.equals("cpu"), file.direct());
            int room = 3 * MIB + 5;
            var memories = List.of(reader.allocate(room), reader.allocateHost(room));
            memories.getLast().fill((byte) 0);
            var expected = List.of(new byte[room], new byte[room]);
            long total = 0;
            for (int i = 0; i < 80; i++) {
                int unit = random.nextBoolean() ? 1 : 4096;
                int at = random.nextInt(room / unit) * unit;
                int offset = random.nextInt(size / unit + 1) * unit;
                int length = random.nextInt((Math.min(room - at, size - offset) / unit) + 1) * unit;
                if (i % 10 == 0) { // to the last byte
                    length = Math.min(room - at, size - offset);
                }
                file.read(offset, memories.get(i % 2).asSlice(at, length)).join();
                System.arraycopy(content, offset, expected.get(i % 2), at, length);
                total += length;
                if (i % 10 > 7) {
                    assertBytes(expected.get(i % 2), 0, bytes(reader, memories.get(i % 2)), 0, room);
                }
            }
            assertEquals(total, reader.stats().bytes());
            assertTrue(reader.stats().seconds() > 0 && reader.stats().bytesPerSecond() > 0, reader.stats().toString());
            assertTrue(reader.device().startsWith(device.equals("cpu") ? "cpu" : "cuda-emulated"), reader.device());
        }
        assertEquals(0, readerThreads());
        assertEquals(0, descriptors(path));
    }

    @ParameterizedTest
    @CsvSource({"cpu,AUTO", "cuda-emulated,GDS", "cuda-emulated,STAGED"})
    void readsFarMoreThanItsSlotsHold(String device, Method method) throws IOException {
        int size = 24 * MIB + 4099;
        Path path = files.write(new Random(8), size);
        for (int readers : new int[] {1, 4}) {
            try (var reader = open(device, method, readers)) {
                var file = reader.openFile(path);
                var memory = reader.allocate(size);
                file.read(0, memory).join();
                assertBytes(files.contents.getFirst(), 0, bytes(reader, memory), 0, size);
                assertEquals(size, reader.stats().bytes());
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"cpu,AUTO", "cuda-emulated,GDS", "cuda-emulated,STAGED"})
    void manyThreadsReadManyFilesTogether(String device, Method method) throws Exception {
        var random = new Random(9);
        for (int i = 0; i < 3; i++) {
            files.write(random, 2 * MIB + 100 * i + 1);
        }
        int part = 300_001;
        int each = 12;
        int callers = 5;
        try (var reader = open(device, method, 4)) {
            var sources = files.paths.stream().map(reader::openFile).toList();
            var memory = reader.allocate((long) part * each * callers);
            var offsets = new int[callers * each];
            var threads = new ArrayList<Thread>();
            var failures = new ArrayList<Throwable>();
            for (int caller = 0; caller < callers; caller++) {
                int first = caller * each;
                threads.add(Thread.ofPlatform().start(() -> {
                    try {
                        var mine = new Random(first);
                        var reads = new ArrayList<CompletableFuture<Void>>();
                        for (int i = first; i < first + each; i++) {
                            offsets[i] = mine.nextInt(2 * MIB - part);
                            reads.add(sources.get(i % 3).read(offsets[i], memory.asSlice((long) i * part, part)));
                        }
                        CompletableFuture.allOf(reads.toArray(new CompletableFuture<?>[0])).join();
                    } catch (Throwable e) {
                        synchronized (failures) {
                            failures.add(e);
                        }
                    }
                }));
            }
            for (Thread thread : threads) {
                thread.join();
            }
            assertEquals(List.of(), failures);
            byte[] got = bytes(reader, memory);
            for (int i = 0; i < offsets.length; i++) {
                assertBytes(files.contents.get(i % 3), offsets[i], got, (long) i * part, part);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"cpu", "cuda-emulated"})
    void saysWhatIsWrong(String device) throws IOException {
        Path path = files.write(new Random(1), 10_000);
        try (var reader = open(device, Method.AUTO, 1); var other = open(device, Method.AUTO, 1);
                var arena = Arena.ofConfined()) {
            var file = reader.openFile(path);
            var memory = reader.allocate(20_000);
            assertRefused("1 bytes at offset 10000 end beyond the file, which has 10000 bytes",
                    () -> file.read(10_000, memory.asSlice(0, 1)));
            assertRefused("end beyond the file", () -> file.read(0, memory));
            assertRefused("end beyond the file", () -> file.read(-1, memory.asSlice(0, 1)));
            assertRefused("end beyond the file", () -> file.read(Long.MAX_VALUE, memory.asSlice(0, 1)));
            assertNull(file.read(10_000, memory.asSlice(20_000, 0)).join());
            assertRefused("not memory of this reader", () -> file.read(0, arena.allocate(10)));
            assertRefused("not memory of this reader", () -> file.read(0, MemorySegment.ofArray(new byte[10])));
            assertRefused("not memory of this reader", () -> file.read(0, other.allocate(10)));
            assertRefused("read-only", () -> file.read(0, memory.asSlice(0, 10).asReadOnly()));
            assertRefused("a part of an allocation", () -> reader.free(memory.asSlice(0, 10)));
            assertRefused("not memory of this reader", () -> reader.free(arena.allocate(10)));
            assertRefused("must be writable and have as many",
                    () -> reader.copyToHost(memory, MemorySegment.ofArray(new byte[19_999])));
            assertRefused("must be writable and have as many", () -> reader.copyToHost(memory.asSlice(0, 10),
                    MemorySegment.ofArray(new byte[10]).asReadOnly()));
            assertRefused("No memory of 0 bytes", () -> reader.allocate(0));
            assertRefused("No memory of -1 bytes", () -> reader.allocateHost(-1));
            assertRefused("bytes", () -> reader.allocate(1L << 60));
            assertRefused("does not exist", () -> reader.openFile(files.folder.resolve("none")));
            assertRefused("is not a regular file", () -> reader.openFile(files.folder));
            reader.free(memory);
            assertRefused("was freed", () -> file.read(0, memory.asSlice(0, 10)));
            assertRefused("was freed", () -> reader.free(memory));
            var again = reader.allocate(20_000);
            file.close();
            file.close();
            assertEquals(0, descriptors(path));
            assertRefused("the file is closed: open it again", () -> file.read(0, again.asSlice(0, 10)));
            reader.openFile(path).read(0, again.asSlice(0, 10)).join();
        }
        assertRefused("There is no device tpu", () -> DeviceReader.open("tpu"));
        assertRefused("readers cannot be 0", () -> DeviceReaderOptions.of("cpu").withReaders(0));
        assertRefused("requestBytes cannot be 4096", () -> DeviceReaderOptions.of("cpu").withRequestBytes(4096));
    }

    @ParameterizedTest
    @CsvSource({"cpu,AUTO", "cuda-emulated,GDS", "cuda-emulated,STAGED"})
    void aFileThatChangesFailsTheReadAndNoOther(String device, Method method) throws IOException {
        Path cut = files.write(new Random(2), 4 * MIB);
        Path written = files.write(new Random(3), 4 * MIB);
        files.write(new Random(4), 4 * MIB);
        try (var reader = open(device, method, 2)) {
            var sources = files.paths.stream().map(reader::openFile).toList();
            var memory = reader.allocate(4 * MIB);
            Files.write(cut, new byte[MIB + 5]);
            Files.write(written, new byte[4 * MIB]);
            Files.setLastModifiedTime(written, FileTime.fromMillis(0));
            var message = failure(sources.get(0).read(0, memory));
            assertTrue(message.contains(cut + ": the file ends at offset "), message);
            message = failure(sources.get(1).read(0, memory));
            assertTrue(message.contains(written + ": it was written to or replaced"), message);
            sources.get(2).read(0, memory).join();
            assertBytes(files.contents.get(2), 0, bytes(reader, memory), 0, 4 * MIB);
        }
    }

    @ParameterizedTest
    @CsvSource({"cpu,AUTO", "cuda-emulated,GDS", "cuda-emulated,STAGED"})
    void closingDuringReadsFailsThemAndLeavesNothing(String device, Method method) throws IOException {
        int size = 6 * MIB;
        Path path = files.write(new Random(5), size);
        long free = device.equals("cpu") ? 0 : freeBytes(device);
        for (int round = 0; round < 10; round++) {
            var reader = open(device, method, 2);
            var file = reader.openFile(path);
            var memories = new ArrayList<MemorySegment>();
            for (int i = 0; i < 12; i++) {
                memories.add(i % 3 == 0 ? reader.allocateHost(size) : reader.allocate(size));
            }
            var reads = new ArrayList<CompletableFuture<Void>>();
            try (reader) {
                for (int i = 0; i < 12; i++) {
                    reads.add(file.read(i, memories.get(i).asSlice(0, size - i)));
                }
                if (round % 2 == 1) {
                    reads.get(round % 3).join();
                }
            }
            int failed = 0;
            for (var read : reads) {
                assertTrue(read.isDone());
                if (read.isCompletedExceptionally()) {
                    failed++;
                    var message = failure(read);
                    assertTrue(message.contains("was given up: the reader was closed"), message);
                }
            }
            assertTrue(failed > 0, "nothing was under way");
            reader.close();
            assertRefused("The reader is closed", () -> reader.openFile(path));
            assertRefused("The reader is closed", () -> reader.allocate(1));
            assertRefused("The reader is closed", () -> file.read(0, MemorySegment.NULL));
            assertTrue(reader.stats().bytes() >= 0);
            file.close();
            assertEquals(0, readerThreads());
            assertEquals(0, descriptors(path));
        }
        if (!device.equals("cpu")) {
            assertEquals(free, freeBytes(device));
        }
    }

    private static long freeBytes(String device) {
        Emulation.assume();
        try (var opened = Device.open(device, 1, false)) {
            return opened.info().freeBytes();
        }
    }

    @ParameterizedTest
    @CsvSource({"cpu,AUTO", "cuda-emulated,GDS", "cuda-emulated,STAGED"})
    void whatIsCancelledFreedOrClosedLeavesOtherReadsAlone(String device, Method method) throws IOException {
        int size = 8 * MIB + 3;
        files.write(new Random(6), size);
        files.write(new Random(7), size);
        try (var reader = open(device, method, 2)) {
            var file = reader.openFile(files.paths.get(0));
            var other = reader.openFile(files.paths.get(1));
            int cancels = 0; // that came before the end
            int frees = 0;
            for (int round = 0; round < 4 || round < 100 && (cancels == 0 || frees == 0); round++) {
                var kept = reader.allocate(size);
                var dropped = reader.allocate(size);
                var before = file.read(0, kept.asSlice(0, size / 2));
                var cancelled = file.read(0, dropped.asSlice(0, size / 2));
                var freed = other.read(size / 2, dropped.asSlice(size / 2, size - size / 2));
                var after = file.read(size / 2, kept.asSlice(size / 2, size - size / 2));
                cancels += cancelled.cancel(false) ? 1 : 0;
                reader.free(dropped);
                assertTrue(cancelled.isDone());
                assertTrue(freed.isDone());
                if (freed.isCompletedExceptionally()) {
                    frees++;
                    var message = failure(freed);
                    assertTrue(message.contains("was given up: its memory was freed"), message);
                }
                var reused = reader.allocate(size); // most likely at the same address
                before.join();
                after.join();
                assertBytes(files.contents.get(0), 0, bytes(reader, kept), 0, size);
                assertBytes(new byte[size], 0, bytes(reader, reused), 0, size);
                var closed = other.read(0, reused);
                other.close();
                if (closed.isCompletedExceptionally()) {
                    var message = failure(closed);
                    assertTrue(message.contains("was given up: the file was closed"), message);
                }
                assertTrue(closed.isDone());
                other = reader.openFile(files.paths.get(1));
                reader.free(kept);
                reader.free(reused);
            }
            assertTrue(cancels > 0 && frees > 0, "nothing was under way");
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"cpu", "cuda-emulated"})
    void whatFollowsAReadMayReadAgainButNotClose(String device) throws IOException {
        Path path = files.write(new Random(8), 3 * MIB);
        try (var reader = open(device, Method.AUTO, 2)) {
            var file = reader.openFile(path);
            var memory = reader.allocate(3 * MIB);
            var chain = file.read(0, memory.asSlice(0, MIB))
                    .thenCompose(_ -> file.read(MIB, memory.asSlice(MIB, MIB)))
                    .thenCompose(_ -> file.read(2 * MIB, memory.asSlice(2 * MIB, MIB)));
            chain.join();
            assertBytes(files.contents.getFirst(), 0, bytes(reader, memory), 0, 3 * MIB);
            for (Runnable call : List.<Runnable>of(reader::close, file::close, () -> reader.free(memory))) {
                String refused = null;
                for (int i = 0; i < 1000 && refused == null; i++) { // until one is not complete at once
                    refused = file.read(0, memory).thenApply(_ -> {
                        boolean onReader = Thread.currentThread().getName().startsWith("lamina-device-reader-");
                        return onReader ? assertThrows(LaminaException.class, call::run).getMessage() : null;
                    }).join();
                }
                assertTrue(refused != null && refused.contains("use another thread"), refused);
            }
        }
    }

    /** Whoever closes or frees may be the one who completes a read, and what follows that may free again. */
    @Test
    void whatAReadLeavesMayBeFreedWhenItFails() throws IOException {
        Path path = files.write(new Random(11), 8 * MIB);
        int freed = 0;
        for (int round = 0; round < 100 && freed == 0; round++) {
            var here = Thread.currentThread();
            var frees = new ArrayList<Boolean>();
            try (var reader = open("cpu", Method.AUTO, 1)) {
                var file = reader.openFile(path);
                for (int i = 0; i < 3; i++) {
                    var memory = reader.allocate(8 * MIB);
                    file.read(0, memory).whenComplete((_, failure) -> {
                        if (failure != null && Thread.currentThread() == here) {
                            reader.free(memory);
                            frees.add(true);
                        }
                    });
                }
            }
            freed += frees.size();
        }
        assertTrue(freed > 0, "no read was given up by the one who closed");
    }

    @Test
    void javaCannotFollowAnAddressOfTheDevice() throws IOException {
        Path path = files.write(new Random(9), 100);
        MemorySegment onDevice;
        MemorySegment onHost;
        try (var reader = open("cuda-emulated", Method.AUTO, 1)) {
            onDevice = reader.allocate(100);
            onHost = reader.allocateHost(100);
            assertThrows(WrongThreadException.class, () -> onDevice.get(ValueLayout.JAVA_BYTE, 0));
            assertThrows(WrongThreadException.class, () -> onDevice.fill((byte) 1));
            assertEquals(100, onDevice.byteSize());
            assertEquals(onDevice.address() + 7, onDevice.asSlice(7).address());
            reader.openFile(path).read(0, onHost).join();
            assertEquals(files.contents.getFirst()[99], onHost.get(ValueLayout.JAVA_BYTE, 99));
        }
        assertThrows(WrongThreadException.class, () -> onDevice.get(ValueLayout.JAVA_BYTE, 0));
        assertThrows(IllegalStateException.class, () -> onHost.get(ValueLayout.JAVA_BYTE, 0));
        try (var reader = DeviceReader.open("cpu")) {
            assertEquals(0, reader.allocate(100).get(ValueLayout.JAVA_BYTE, 99));
        }
    }

    /** /proc has no direct reads, so no cuFile either. */
    @Test
    void withoutCuFileTheBytesAreStagedUnlessThatIsRefused() throws IOException {
        Path path = Path.of("/proc/version");
        Assumptions.assumeTrue(Files.isReadable(path), "there is no file that cannot be read directly");
        try (var reader = open("cuda-emulated", Method.AUTO, 1)) {
            assertEquals(Method.STAGED, reader.openFile(path).method());
        }
        try (var reader = open("cuda-emulated", Method.GDS, 1)) {
            assertRefused(path + ": the file system has no direct reads, which cuFile needs. Use the method AUTO or"
                    + " STAGED", () -> reader.openFile(path));
        }
    }

    /** cuFile's compatibility mode is a detour: it is taken by those alone who ask for cuFile. */
    @Test
    void aDetourOfCuFileIsNotTakenUnasked() throws Throwable {
        Path path = files.write(new Random(10), 3 * MIB);
        var linker = Linker.nativeLinker();
        var setenv = linker.downcallHandle(linker.defaultLookup().find("setenv").orElseThrow(), FunctionDescriptor.of(
                ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.ADDRESS, ValueLayout.JAVA_INT));
        var unsetenv = linker.downcallHandle(linker.defaultLookup().find("unsetenv").orElseThrow(),
                FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.ADDRESS));
        try (var arena = Arena.ofConfined()) {
            var name = arena.allocateFrom("CUFILE_FORCE_COMPAT_MODE");
            assertEquals(0, (int) setenv.invokeExact(name, arena.allocateFrom("true"), 1));
            try (var auto = open("cuda-emulated", Method.AUTO, 1)) {
                assertEquals(Method.STAGED, auto.openFile(path).method());
            }
            try (var gds = open("cuda-emulated", Method.GDS, 1)) {
                var file = gds.openFile(path);
                assertEquals(Method.GDS, file.method());
                assertFalse(file.direct());
                var memory = gds.allocate(3 * MIB);
                file.read(0, memory).join();
                assertBytes(files.contents.getFirst(), 0, bytes(gds, memory), 0, 3 * MIB);
            } finally {
                assertEquals(0, (int) unsetenv.invokeExact(name));
            }
        }
    }
}
