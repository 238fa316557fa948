package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.HostMemory;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * The yardstick: reads files and, but for one way, does nothing with the bytes, as well as one way of reading can. With
 * what it is compared to it shares the memory, since the kind of memory makes a difference, and the system calls.
 *
 * <p>For one caller at a time.
 */
interface RawReader extends AutoCloseable {
    /** The ways of reading. To add one: a name here and a line in {@link #open}. */
    enum Mode {
        /** File channels of the Java runtime, past the page cache; as many threads as reads in flight. */
        CHANNEL,
        /** The system call, past the page cache; as many threads as reads in flight. */
        PREAD,
        /** io_uring of Linux, past the page cache; one thread. */
        URING,
        /** File channels through the page cache. */
        BUFFERED,
        /** Files mapped into memory, of which each page is touched. */
        MMAP,
        /** As PREAD, while one more thread for each adds up the bytes. */
        SUMMED
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
            case CHANNEL -> threads("channel", RawFile::direct, files, chunk, depth, limit, memory);
            case PREAD -> threads("pread", RawFile::pread, files, chunk, depth, limit, memory);
            case URING -> new ThreadedReader(name("uring", depth, chunk), 1,
                    () -> new UringWorker(files, chunk, depth, memory), new Pieces(files, chunk), limit);
            case BUFFERED -> threads("buffered", RawFile::buffered, files, chunk, depth, limit, memory);
            case MMAP -> threads("mmap", RawFile::mapped, files, chunk, depth, limit, memory);
            case SUMMED -> new ThreadedReader(name("summed", depth, chunk), depth,
                    () -> new SummingWorker(RawFile::pread, files, chunk, memory), new Pieces(files, chunk), limit);
        };
    }

    private static RawReader threads(String way, RawFile.Opener opener, List<Path> files, int chunk, int depth,
            Limit limit, HostMemory memory) throws IOException {
        return new ThreadedReader(name(way, depth, chunk), depth,
                () -> new BlockingWorker(opener, files, chunk, memory), new Pieces(files, chunk), limit);
    }

    private static String name(String way, int depth, int chunk) {
        return way + " " + depth + "x" + (chunk >> 20) + "M";
    }

    /**
     * Opens those readers of which one is the best on any drive that was seen so far.
     *
     * @param direct whether the file system has reads past the page cache; else they go through it
     */
    static List<RawReader> openBest(List<Path> files, boolean direct, HostMemory memory) throws IOException {
        var readers = new ArrayList<RawReader>();
        try {
            for (int depth : new int[] {1, 2, 4}) {
                readers.add(open(direct ? Mode.CHANNEL : Mode.BUFFERED, files, 8 << 20, depth, Limit.NONE, memory));
            }
            if (direct) {
                readers.add(open(Mode.PREAD, files, 8 << 20, 1, Limit.NONE, memory));
                readers.add(open(Mode.PREAD, files, 8 << 20, 4, Limit.NONE, memory));
                if (UringWorker.isThere()) {
                    readers.add(open(Mode.URING, files, 2 << 20, 8, Limit.NONE, memory));
                    readers.add(open(Mode.URING, files, 8 << 20, 8, Limit.NONE, memory));
                }
            }
            return readers;
        } catch (IOException | RuntimeException e) {
            for (var reader : readers) {
                reader.close();
            }
            throw e;
        }
    }

    /** What it is: the way of reading, the reads in flight and the size of one. */
    String name();

    /**
     * Reads so many bytes (rounded up to 4 KiB), from where the last call ended, and from the end of the last file on
     * to the beginning of the first.
     */
    Reading read(long bytes) throws IOException, InterruptedException;

    @Override
    void close() throws IOException;
}
