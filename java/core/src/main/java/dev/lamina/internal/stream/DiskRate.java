package dev.lamina.internal.stream;

import dev.lamina.internal.runtime.HostMemory;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;

/**
 * How fast files can be read: by plain threads, with nothing done to the bytes.
 *
 * @param bytes bytes read
 * @param seconds time that took
 * @param direct whether the reads went past the page cache; if not, the rate may be that of memory
 */
public record DiskRate(long bytes, double seconds, boolean direct) {
    private static final int REQUEST = 8 << 20;

    /** Bytes per second. */
    public double bytesPerSecond() {
        return bytes / Math.max(seconds, 1e-9);
    }

    /**
     * Reads files from their beginning, in order, until a bound is met.
     *
     * @param paths the files
     * @param mode how to read
     * @param threads reader threads, each with 9 MiB of memory
     * @param maxBytes stop after about so many bytes
     * @param maxSeconds stop after about so many seconds
     * @param memory where to allocate; the kind of memory makes a difference
     * @return what was measured
     * @throws IOException a file cannot be read
     * @throws InterruptedException the caller was interrupted
     */
    public static DiskRate measure(List<Path> paths, IoMode mode, int threads, long maxBytes, double maxSeconds,
            HostMemory memory) throws IOException, InterruptedException {
        var files = new ArrayList<DataFile>();
        try {
            for (Path path : paths) {
                files.add(DataFile.open(path, mode, null));
            }
            return measure(files, threads, maxBytes, maxSeconds, memory);
        } finally {
            for (DataFile file : files) {
                file.close();
            }
        }
    }

    private static DiskRate measure(List<DataFile> files, int threads, long maxBytes, double maxSeconds,
            HostMemory memory) throws IOException, InterruptedException {
        var next = new AtomicLong(); // request number over all files
        var total = new AtomicLong();
        var failure = new AtomicReference<Throwable>();
        long start = System.nanoTime();
        Runnable reader = () -> {
            var tally = new DataFile.Tally();
            try (HostBlock block = HostBlock.allocate(memory, REQUEST, DataFile.UNIT)) {
                MemorySegment buffer = block.memory();
                boolean more = true;
                while (more && failure.get() == null) {
                    long request = next.getAndIncrement();
                    more = request * REQUEST < maxBytes && (System.nanoTime() - start) * 1e-9 < maxSeconds
                            && read(files, request, buffer, tally);
                }
            } catch (Throwable e) {
                failure.compareAndSet(null, e);
            }
            total.addAndGet(tally.read);
        };
        var running = new ArrayList<Thread>();
        InterruptedException interrupted = null;
        for (int i = 0; i < threads; i++) {
            running.add(Thread.ofPlatform().daemon().name("lamina-disk-rate-" + i).start(reader));
        }
        for (Thread thread : running) {
            while (thread.isAlive()) {
                try {
                    thread.join();
                } catch (InterruptedException e) { // the readers use memory and files of ours: they end first
                    interrupted = e;
                    failure.compareAndSet(null, e);
                }
            }
        }
        if (interrupted != null) {
            throw interrupted;
        }
        if (failure.get() != null) {
            throw new IOException(failure.get().getMessage(), failure.get());
        }
        return new DiskRate(total.get(), (System.nanoTime() - start) * 1e-9,
                files.stream().allMatch(DataFile::direct));
    }

    /** Reads the n-th request of all files taken together; false when there is none. */
    private static boolean read(List<DataFile> files, long n, MemorySegment buffer, DataFile.Tally tally)
            throws IOException {
        long rest = n;
        for (DataFile file : files) {
            long requests = Math.ceilDiv(file.size(), (long) REQUEST);
            if (rest < requests) {
                long from = rest * REQUEST;
                long to = Math.min(from + REQUEST, HostBlock.roundUp(file.size(), file.alignment()));
                file.read(from, to, buffer, 0, buffer, tally);
                return true;
            }
            rest -= requests;
        }
        return false;
    }
}
