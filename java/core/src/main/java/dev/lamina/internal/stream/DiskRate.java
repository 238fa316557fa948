package dev.lamina.internal.stream;

import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.runtime.ReadRing;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;

/**
 * How fast files can be read, with nothing done to the bytes.
 *
 * @param bytes bytes read
 * @param seconds time that took
 * @param cpuSeconds time of processors that the reading threads took, 0 where the system does not tell
 */
public record DiskRate(long bytes, double seconds, double cpuSeconds) {
    private static final double NANOS = 1e9;

    /** Bytes per second. */
    public double bytesPerSecond() {
        return bytes / Math.max(seconds, 1e-9);
    }

    /** Seconds of a processor for each 10^9 bytes. */
    public double cpuSecondsPerGigabyte() {
        return cpuSeconds * 1e9 / Math.max(bytes, 1);
    }

    /**
     * Reads files in order, from a position in all of them joined on and around again, until a bound is met.
     *
     * @param paths the files
     * @param method how to read
     * @param from position of the first byte, rounded down to whole requests
     * @param maxBytes stop after about so many bytes
     * @param maxSeconds stop after about so many seconds
     * @param memory where to allocate; the kind of memory makes a difference
     * @return what was measured
     * @throws IOException a file cannot be read, or not in this way
     * @throws InterruptedException the caller was interrupted
     */
    public static DiskRate measure(List<Path> paths, ReadMethod method, long from, long maxBytes, double maxSeconds,
            HostMemory memory) throws IOException, InterruptedException {
        var files = new ArrayList<DataFile>();
        try {
            for (Path path : paths) {
                files.add(DataFile.open(path, method.mode(), 0, null));
            }
            return new Run(files, method, from, maxBytes, maxSeconds, memory).measure();
        } finally {
            for (DataFile file : files) {
                file.close();
            }
        }
    }

    /** One measurement. */
    private static final class Run {
        private final List<DataFile> files;
        private final ReadMethod method;
        private final HostMemory memory;
        private final long requests; // of all files
        private final long first;
        private final long most;
        private final double maxSeconds;
        private final long start = System.nanoTime();
        private final AtomicLong next = new AtomicLong();
        private final AtomicLong bytes = new AtomicLong();
        private final AtomicLong cpuNanos = new AtomicLong();
        private final AtomicReference<Throwable> failure = new AtomicReference<>();

        Run(List<DataFile> files, ReadMethod method, long from, long maxBytes, double maxSeconds, HostMemory memory) {
            this.files = files;
            this.method = method;
            this.memory = memory;
            this.maxSeconds = maxSeconds;
            this.requests = files.stream().mapToLong(this::requests).sum();
            this.first = from / method.requestBytes();
            this.most = Math.min(requests, Math.ceilDiv(maxBytes, (long) method.requestBytes()));
        }

        private long requests(DataFile file) {
            return Math.ceilDiv(file.size(), (long) method.requestBytes());
        }

        DiskRate measure() throws IOException, InterruptedException {
            var threads = new ArrayList<Thread>();
            try {
                for (int i = 0; i < method.readers(); i++) {
                    threads.add(Thread.ofPlatform().daemon().name("lamina-disk-rate-" + i).start(this::readAll));
                }
            } catch (Throwable e) { // such as a system that has no more threads
                failure.compareAndSet(null, e);
            }
            InterruptedException interrupted = null;
            for (Thread thread : threads) { // they use memory and files of the caller's: they end first
                while (thread.isAlive()) {
                    try {
                        thread.join();
                    } catch (InterruptedException e) {
                        interrupted = e;
                        failure.compareAndSet(null, e);
                    }
                }
            }
            double seconds = (System.nanoTime() - start) / NANOS;
            if (interrupted != null) {
                throw interrupted;
            }
            if (failure.get() != null) {
                String message = failure.get().getMessage();
                throw new IOException(message == null ? failure.get().toString() : message, failure.get());
            }
            return new DiskRate(bytes.get(), seconds, cpuNanos.get() / NANOS);
        }

        private void readAll() {
            ThreadMXBean clock = ManagementFactory.getThreadMXBean();
            long cpuStart = clock.isCurrentThreadCpuTimeSupported() ? clock.getCurrentThreadCpuTime() : 0;
            var tally = new DataFile.Tally();
            try (HostBlock block = HostBlock.allocate(memory, (long) method.depth() * method.requestBytes(),
                    DataFile.UNIT)) {
                if (method.mode() == IoMode.URING) {
                    readTogether(block.memory(), tally);
                } else {
                    for (Request request = claim(); request != null; request = claim()) {
                        request.file.read(request.from, request.to, block.memory(), 0, block.memory(), tally);
                    }
                }
            } catch (Throwable e) {
                failure.compareAndSet(null, e);
            }
            bytes.addAndGet(tally.read);
            cpuNanos.addAndGet(cpuStart == 0 ? 0 : clock.getCurrentThreadCpuTime() - cpuStart);
        }

        private record Request(DataFile file, long from, long to) {}

        private void readTogether(MemorySegment buffers, DataFile.Tally tally) throws IOException {
            var underWay = new Request[method.depth()];
            try (ReadRing ring = ReadRing.open(underWay.length)) {
                int count = 0;
                for (int i = 0; i < underWay.length; i++) {
                    count += begin(ring, underWay, i, buffers) ? 1 : 0;
                }
                int[] left = {count};
                while (left[0] > 0) {
                    ring.await((tag, read) -> {
                        Request ended = underWay[(int) tag];
                        ended.file.complete(ended.from, ended.to, buffers, tag * method.requestBytes(), read, tally);
                        left[0] -= begin(ring, underWay, (int) tag, buffers) ? 0 : 1;
                    });
                }
            }
        }

        private boolean begin(ReadRing ring, Request[] underWay, int place, MemorySegment buffers)
                throws IOException {
            Request request = claim();
            if (request == null) {
                return false;
            }
            underWay[place] = request;
            request.file.submit(ring, request.from, request.to, buffers, (long) place * method.requestBytes(), place);
            return true;
        }

        private @Nullable Request claim() {
            long number = next.getAndIncrement();
            if (number >= most || failure.get() != null || (System.nanoTime() - start) / NANOS >= maxSeconds) {
                return null;
            }
            long rest = (first + number) % requests;
            for (DataFile file : files) {
                if (rest < requests(file)) {
                    long from = rest * method.requestBytes();
                    long to = Math.min(from + method.requestBytes(), HostBlock.roundUp(file.size(), file.alignment()));
                    return new Request(file, from, to);
                }
                rest -= requests(file);
            }
            return null;
        }
    }
}
