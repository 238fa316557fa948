package dev.lamina.internal.stream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.runtime.Rings;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class DataFileTest {
    private static final int MIB = DataFile.UNIT;

    private TestFiles files;

    @BeforeEach
    void makeFolder() throws IOException {
        files = new TestFiles();
    }

    @AfterEach
    void removeFolder() throws IOException {
        files.close();
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void readsAnyAlignedRangeAndVerifiesEachUnitOnce(boolean direct) throws Exception {
        var random = new Random(5);
        for (int round = 0; round < 6; round++) {
            try (TestFiles some = new TestFiles(); Arena arena = Arena.ofConfined()) {
                some.write(random, 1 + random.nextInt(5 * MIB));
                byte[] content = some.contents.getFirst();
                DataFile file = some.open(direct, true).getFirst();
                assertEquals(direct, file.alignment() > 1);
                MemorySegment scratch = arena.allocate(MIB, MIB);
                MemorySegment window = arena.allocate(6L * MIB, MIB);
                var tally = new DataFile.Tally();
                for (int i = 0; i < 60; i++) {
                    long from = random.nextInt(content.length);
                    from -= from % file.alignment();
                    long to = HostBlock.roundUp(from + 1 + random.nextLong(content.length - from), file.alignment());
                    window.fill((byte) 0);
                    file.read(from, to, window, 0, scratch, tally);
                    long end = Math.min(to, content.length);
                    assertEquals(-1, MemorySegment.mismatch(window, 0, end - from, MemorySegment.ofArray(content), from,
                            end));
                    for (long unit = from / MIB; unit <= (end - 1) / MIB; unit++) {
                        assertTrue(file.isVerified(unit));
                    }
                }
                long verified = 0;
                for (int unit = 0; unit < Math.ceilDiv(content.length, MIB); unit++) {
                    verified += file.isVerified(unit) ? Math.min(MIB, content.length - unit * MIB) : 0;
                }
                assertEquals(verified, tally.verified);
            }
        }
    }

    /** What a ring may bring: all of it, a part, or a failure, after which the same bytes are read again. */
    @Test
    void completesWhatARingHasRead() throws Exception {
        var random = new Random(6);
        files.write(random, 3 * MIB + 700);
        byte[] content = files.contents.getFirst();
        DataFile file = files.open(IoMode.URING, 1, true).getFirst();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment window = arena.allocate(4L * MIB, MIB);
            for (int bytes : new int[] {-1, 0, 1, 4095, 4096, 5000, 2 * MIB + 9, 3 * MIB + 699, 3 * MIB + 700}) {
                var tally = new DataFile.Tally();
                long to = HostBlock.roundUp(content.length, file.alignment());
                assertTrue(file.canSubmit(0, to));
                window.fill((byte) 7);
                MemorySegment.copy(MemorySegment.ofArray(content), 0, window, 0, Math.max(0, bytes));
                file.complete(0, to, window, 0, bytes, tally);
                assertEquals(-1, MemorySegment.mismatch(window, 0, content.length, MemorySegment.ofArray(content), 0,
                        content.length));
                assertEquals(content.length, tally.read);
            }
            Files.write(files.paths.getFirst(), new byte[MIB]);
            var error = assertThrows(IOException.class,
                    () -> file.complete(2 * MIB, 3 * MIB, window, 0, -1, new DataFile.Tally()));
            assertTrue(error.getMessage().contains(": the file ends at offset " + 2 * MIB), error.getMessage());
        }
    }

    @Test
    void refusesWhatIsNoFileOrDoesNotFitItsChecksums() throws IOException {
        Path path = files.write(new Random(1), MIB + 1);
        assertTrue(assertThrows(IOException.class,
                () -> DataFile.open(path, IoMode.CHANNEL, 0, new int[1])).getMessage()
                .startsWith(path + " has 1048577 bytes, but checksums for 1 MiB"));
        assertThrows(NoSuchFileException.class,
                () -> DataFile.open(files.folder.resolve("none"), IoMode.CHANNEL, 0, null));
        assertTrue(assertThrows(IOException.class,
                () -> DataFile.open(files.folder, IoMode.CHANNEL, 0, null)).getMessage()
                .endsWith("is not a regular file"));
    }

    @Test
    void opensAnEmptyFile() throws IOException {
        Path path = files.write(new Random(1), 0);
        for (IoMode mode : IoMode.values()) {
            try (DataFile file = DataFile.open(path, mode, 0, new int[0])) {
                assertEquals(0, file.size());
            }
        }
    }

    @Test
    void saysWhenTheFileSystemRefusesDirectReads() throws IOException {
        Path path = Path.of("/proc/version");
        Assumptions.assumeTrue(Files.isReadable(path), "there is no file that cannot be read directly");
        try (DataFile file = DataFile.open(path, IoMode.BUFFERED, 0, null)) {
            assertFalse(file.direct());
            assertEquals(1, file.alignment());
        }
        for (IoMode mode : List.of(IoMode.CHANNEL, IoMode.PREAD, IoMode.URING)) {
            String message = assertThrows(NoDirectReadsException.class, () -> DataFile.open(path, mode, 0, null))
                    .getMessage();
            assertTrue(message.startsWith(path + ": the file system refuses direct reads ("), message);
            assertTrue(message.endsWith("). Use --io auto or --io buffered"), message);
        }
    }

    /** A file whose first read fails. */
    private record Failing(DataFile.Source source, IOException failure, List<String> closed)
            implements DataFile.Source {
        @Override
        public int read(MemorySegment to, long position) throws IOException {
            throw failure;
        }

        @Override
        public void close() throws IOException {
            source.close();
            closed.add("closed");
        }
    }

    @ParameterizedTest
    @EnumSource(IoMode.class)
    void tellsAFileSystemWithoutDirectReadsFromADrive(IoMode mode) throws IOException {
        Path path = files.write(new Random(1), MIB);
        files.open(mode, 1, false);
        for (var failure : List.of(new IOException("Input/output error"), new ClosedByInterruptException(),
                new IOException("Invalid argument"))) {
            var closed = new ArrayList<String>();
            var error = assertThrows(IOException.class, () -> DataFile.open(path, mode, 0, null,
                    source -> new Failing(source, failure, closed)));
            assertEquals(List.of("closed"), closed);
            assertEquals(failure, error.getCause());
            boolean refused = mode.direct() && "Invalid argument".equals(failure.getMessage());
            assertEquals(refused, error instanceof NoDirectReadsException, error.toString());
            if (!refused) {
                String reason = failure.getMessage() == null ? "ClosedByInterruptException" : failure.getMessage();
                assertTrue(error.getMessage().startsWith(path + ": reading ")
                        && error.getMessage().endsWith(" bytes at offset 0 failed: " + reason), error.getMessage());
            }
        }
    }

    @ParameterizedTest
    @EnumSource(IoMode.class)
    void measuresTheRateOfFiles(IoMode mode) throws Exception {
        if (mode == IoMode.URING) {
            Rings.assume();
        }
        var memory = new TestMemory();
        files.write(new Random(1), 9 * MIB + 5);
        files.write(new Random(2), 77);
        var method = new ReadMethod(mode, 3, mode == IoMode.URING ? 4 : 1, 4 * MIB);
        try {
            DiskRate rate = DiskRate.measure(files.paths, method, 0, Long.MAX_VALUE, 60, memory);
            assertEquals(9 * MIB + 5 + 77, rate.bytes());
            assertTrue(rate.bytesPerSecond() > 0);
            assertEquals(4 * MIB, DiskRate.measure(files.paths, method, 0, 1, 60, memory).bytes());
            assertEquals(5 + MIB, DiskRate.measure(files.paths, method, 8 * MIB, 1, 60, memory).bytes());
        } catch (NoDirectReadsException e) {
            Assumptions.abort(e.getMessage());
        }
        assertThrows(NoSuchFileException.class, () -> DiskRate.measure(List.of(files.folder.resolve("none")),
                method, 0, 1, 60, memory));
        assertEquals(0, memory.live());
    }
}
