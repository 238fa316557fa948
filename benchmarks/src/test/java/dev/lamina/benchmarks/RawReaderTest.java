package dev.lamina.benchmarks;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.runtime.Device;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class RawReaderTest {
    private static final int CHUNK = 8192;

    @TempDir
    private Path folder;

    private final byte[] content = new byte[3 * CHUNK + 1000];
    private Path file;

    @BeforeEach
    void write() throws IOException {
        new Random(1).nextBytes(content);
        file = Files.write(folder.resolve("file"), content);
    }

    /** Not every system has io_uring, and not every file system direct reads. */
    private void assumeThatItWorksHere(RawReader.Mode mode) {
        Assumptions.assumeTrue(mode != RawReader.Mode.URING || UringWorker.isThere());
        if (mode != RawReader.Mode.BUFFERED && mode != RawReader.Mode.MMAP) {
            try {
                RawFile.pread(file).close();
                RawFile.direct(file).close();
            } catch (IOException | UnsupportedOperationException e) {
                Assumptions.abort("no direct reads in " + folder + ": " + e);
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void readsInACycle(RawReader.Mode mode) throws IOException, InterruptedException {
        assumeThatItWorksHere(mode);
        try (var device = Device.openCpu(1);
                var reader = RawReader.open(mode, List.of(file, file), CHUNK, 2, Limit.NONE, device)) {
            assertEquals(2L * content.length, reader.read(2L * content.length).bytes());
            assertEquals(CHUNK, reader.read(CHUNK).bytes());
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"CHANNEL", "BUFFERED"})
    void readsTheBytes(RawReader.Mode mode) throws IOException {
        assumeThatItWorksHere(mode);
        try (var device = Device.openCpu(1);
                var raw = mode == RawReader.Mode.CHANNEL ? RawFile.direct(file) : RawFile.buffered(file)) {
            var buffer = device.allocate(CHUNK);
            var read = new byte[content.length];
            var pieces = new Pieces(List.of(file), CHUNK);
            pieces.allow(content.length);
            for (var piece = pieces.take(); piece != null; piece = pieces.take()) {
                int count = raw.read(piece.offset(), piece.window(), buffer);
                MemorySegment.copy(buffer, ValueLayout.JAVA_BYTE, 0, read, (int) piece.offset(), count);
            }
            device.free(buffer);
            assertArrayEquals(content, read);
        }
    }

    @Test
    void aLimitHoldsBack() {
        var pace = new Pace(Limit.parse("1MB/s"));
        long first = pace.delivered(1000);
        assertTrue(pace.delivered(500_000) - first >= 500_000_000);
        assertEquals("limited to 550 MB/s: stands in for a SATA SSD, which was not measured",
                Limit.parse("550MB/s").note());
        assertEquals(Limit.NONE, Limit.parse("none"));
    }
}
