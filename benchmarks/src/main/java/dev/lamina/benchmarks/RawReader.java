package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.HostMemory;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/**
 * The yardstick: reads files and does nothing with the bytes, as well as one way of reading can. It shares the memory
 * with what it is compared to, since the kind of memory makes a difference, and no other code.
 *
 * <p>For one caller at a time.
 */
interface RawReader extends AutoCloseable {
    /** The ways of reading. To add one: a name here and a line in {@link #open}. */
    enum Mode {
        /** File channels of the Java runtime, past the page cache; as many threads as reads in flight. */
        CHANNEL,
        /** The same through the page cache. */
        BUFFERED,
        /** Files mapped into memory, of which each page is touched. */
        MMAP
    }

    /**
     * What was read.
     *
     * @param bytes how much
     * @param seconds how long it took
     * @param cpuSeconds CPU time of all threads that read; NaN where the system does not tell
     */
    record Reading(long bytes, double seconds, double cpuSeconds) {
        double rate() {
            return bytes / seconds;
        }
    }

    /**
     * Opens files.
     *
     * @param chunk most bytes of one read, a multiple of 4096
     * @param depth reads in flight
     * @param memory where to take the buffers from
     */
    static RawReader open(Mode mode, List<Path> files, int chunk, int depth, Limit limit, HostMemory memory)
            throws IOException {
        return switch (mode) {
            case CHANNEL -> new ThreadedReader("channel", RawFile::direct, files, chunk, depth, limit, memory);
            case BUFFERED -> new ThreadedReader("buffered", RawFile::buffered, files, chunk, depth, limit, memory);
            case MMAP -> new ThreadedReader("mmap", RawFile::mapped, files, chunk, depth, limit, memory);
        };
    }

    /** What it is, in a word or two. */
    String name();

    /**
     * Reads so many bytes (rounded up to 4 KiB), from where the last call ended, and from the end of the last file on
     * to the beginning of the first.
     */
    Reading read(long bytes) throws IOException, InterruptedException;

    @Override
    void close() throws IOException;
}
