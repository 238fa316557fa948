package dev.lamina.benchmarks;

import com.sun.nio.file.ExtendedOpenOption;
import dev.lamina.internal.runtime.NativeFile;
import java.io.Closeable;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** A file of which pieces are read in some way, by one thread. */
interface RawFile extends Closeable {
    /** A way of opening files. */
    @FunctionalInterface
    interface Opener {
        RawFile open(Path path) throws IOException;
    }

    /**
     * Reads a piece.
     *
     * @param offset where it begins, a multiple of 4096
     * @param bytes its size; a multiple of 4096, which may reach past the end of the file
     * @param buffer where to, of at least that size
     * @return bytes that were read
     */
    int read(long offset, int bytes, MemorySegment buffer) throws IOException;

    /** Past the page cache. */
    static RawFile direct(Path path) throws IOException {
        return channel(path, StandardOpenOption.READ, ExtendedOpenOption.DIRECT);
    }

    /** Through the page cache. */
    static RawFile buffered(Path path) throws IOException {
        return channel(path, StandardOpenOption.READ);
    }

    private static RawFile channel(Path path, OpenOption... options) throws IOException {
        var channel = FileChannel.open(path, options);
        return new RawFile() {
            @Override
            public int read(long offset, int bytes, MemorySegment buffer) throws IOException {
                return channel.read(buffer.asSlice(0, bytes).asByteBuffer(), offset);
            }

            @Override
            public void close() throws IOException {
                channel.close();
            }
        };
    }

    /** Past the page cache, without the Java runtime's own layer. */
    static RawFile pread(Path path) throws IOException {
        var file = NativeFile.open(path, true);
        return new RawFile() {
            @Override
            public int read(long offset, int bytes, MemorySegment buffer) throws IOException {
                return file.read(buffer.asSlice(0, bytes), offset);
            }

            @Override
            public void close() {
                file.close();
            }
        };
    }

    /** Mapped, piece by piece: the page cache cannot drop what is mapped. Nothing is copied, which is its merit. */
    static RawFile mapped(Path path) throws IOException {
        var channel = FileChannel.open(path, StandardOpenOption.READ);
        return new RawFile() {
            private static final int PAGE = 4096;

            @Override
            public int read(long offset, int bytes, MemorySegment buffer) throws IOException {
                int length = (int) Math.min(bytes, channel.size() - offset);
                try (var arena = Arena.ofConfined()) {
                    var pages = channel.map(FileChannel.MapMode.READ_ONLY, offset, length, arena);
                    byte sum = 0;
                    for (int at = 0; at < length; at += PAGE) {
                        sum += pages.get(ValueLayout.JAVA_BYTE, at);
                    }
                    buffer.set(ValueLayout.JAVA_BYTE, 0, sum);
                }
                return length;
            }

            @Override
            public void close() throws IOException {
                channel.close();
            }
        };
    }
}
