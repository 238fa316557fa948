package dev.lamina.internal.shard;

import com.sun.nio.file.ExtendedOpenOption;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.runtime.NativeFile;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalLong;
import java.util.SplittableRandom;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;

/**
 * How fast a drive can be read as a model is: several requests under way, past the page cache, into memory of large
 * pages. A file is written to it for a moment and read back; it has no name any more by the time it is written, so that
 * not even a killed process leaves more than an empty file.
 */
final class DriveRate {
    private static final int REQUEST_BYTES = 8 << 20;
    private static final int REQUESTS = 4;

    /** More than the caches of hard disks, so that what was written first is no longer in them. */
    private static final long MOST_BYTES = 512L << 20;

    private static final int SHARE_OF_FREE_SPACE = 8;
    private static final double MOST_SECONDS_TO_WRITE = 3;
    private static final double MOST_SECONDS_TO_READ = 1;

    private DriveRate() {}

    /**
     * Measures the drive of a folder.
     *
     * @param usableBytes what is free there, of which a part is used
     * @return bytes per second, at least 1; empty if the file system has no reads past the page cache: what is read
     *     through it says nothing about the drive
     */
    static OptionalLong measure(Path folder, long usableBytes) throws IOException {
        SplittableRandom random = new SplittableRandom();
        Path path = folder.resolve(".lamina-rate-" + Long.toHexString(random.nextLong()));
        try (Device device = Device.openCpu(1); FileChannel out = create(path)) {
            NativeFile in;
            try {
                in = NativeFile.open(path, true);
            } catch (IOException e) {
                return OptionalLong.empty();
            } finally {
                Files.delete(path);
            }
            try (in) {
                return OptionalLong.of(measure(out, in, device, usableBytes, random));
            }
        }
    }

    private static FileChannel create(Path path) throws IOException {
        if (Files.getFileStore(path.getParent()).getBlockSize() <= UncachedFile.ALIGNMENT) {
            try {
                return FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE,
                        ExtendedOpenOption.DIRECT);
            } catch (IOException | UnsupportedOperationException e) {
                // this file system has no direct writes
                Files.deleteIfExists(path);
            }
        }
        return FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
    }

    private static long measure(FileChannel out, NativeFile in, HostMemory host, long usableBytes,
            SplittableRandom random) throws IOException {
        MemorySegment memory = host.allocate((long) REQUESTS * REQUEST_BYTES);
        try {
            // drives and file systems that compress would otherwise tell how fast they are at that
            for (long i = 0; i < memory.byteSize(); i += Long.BYTES) {
                memory.set(ValueLayout.JAVA_LONG, i, random.nextLong());
            }
            long most = Math.min(MOST_BYTES, usableBytes / SHARE_OF_FREE_SPACE) / REQUEST_BYTES * REQUEST_BYTES;
            long written = write(out, memory.asSlice(0, REQUEST_BYTES).asByteBuffer(), Math.max(REQUEST_BYTES, most));
            in.forget(0, 0);
            return read(in, memory, written);
        } finally {
            host.free(memory);
        }
    }

    private static long write(FileChannel out, ByteBuffer content, long most) throws IOException {
        long written = 0;
        for (long start = System.nanoTime(); written < most && seconds(start) < MOST_SECONDS_TO_WRITE;) {
            content.rewind();
            while (content.hasRemaining()) {
                written += out.write(content, written);
            }
        }
        out.force(true);
        return written;
    }

    private static long read(NativeFile in, MemorySegment memory, long bytes) throws IOException {
        AtomicLong next = new AtomicLong();
        long read = 0;
        long start = System.nanoTime();
        try (var threads = Executors.newFixedThreadPool(REQUESTS)) {
            List<Future<Long>> readers = new ArrayList<>();
            for (int i = 0; i < REQUESTS; i++) {
                MemorySegment to = memory.asSlice((long) i * REQUEST_BYTES, REQUEST_BYTES);
                readers.add(threads.submit(() -> {
                    long sum = 0;
                    for (long at; seconds(start) < MOST_SECONDS_TO_READ
                            && (at = next.getAndAdd(REQUEST_BYTES)) < bytes;) {
                        sum += in.read(to, at);
                    }
                    return sum;
                }));
            }
            for (Future<Long> reader : readers) {
                read += reader.get();
            }
            return Math.max(1, Math.round(read / seconds(start)));
        } catch (ExecutionException e) {
            throw e.getCause() instanceof IOException problem ? problem : new IOException(e.getCause());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted while a drive was measured", e);
        }
    }

    private static double seconds(long startNanos) {
        return Math.max(1, System.nanoTime() - startNanos) * 1e-9;
    }
}
