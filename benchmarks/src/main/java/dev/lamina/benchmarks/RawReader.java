package dev.lamina.benchmarks;

import com.sun.nio.file.ExtendedOpenOption;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;

/**
 * The yardstick: plain threads that read files piece by piece into buffers of their own and do nothing with the bytes.
 * It shares no code with what it is compared to.
 */
final class RawReader implements AutoCloseable {
    private static final int ALIGNMENT = 4096;

    private final List<FileChannel> channels = new ArrayList<>();
    private final List<ByteBuffer> buffers = new ArrayList<>();
    private final Arena arena = Arena.ofShared();
    private final ExecutorService executor;
    private final int chunk;

    /**
     * Opens files.
     *
     * @param chunk bytes of a read, a multiple of 4096
     * @param direct whether to read past the page cache
     */
    RawReader(List<Path> files, int threads, int chunk, boolean direct) throws IOException {
        this.chunk = chunk;
        Set<OpenOption> options = direct
                ? Set.of(StandardOpenOption.READ, ExtendedOpenOption.DIRECT)
                : Set.of(StandardOpenOption.READ);
        for (var file : files) {
            channels.add(FileChannel.open(file, options));
        }
        for (int i = 0; i < threads; i++) {
            buffers.add(arena.allocate(chunk, 2L << 20).fill((byte) 1).asByteBuffer());
        }
        this.executor = Executors.newFixedThreadPool(threads);
    }

    /** Reads about that many bytes, from the start of the first file on and around again. Returns the bytes read. */
    long read(long bytes) throws IOException, InterruptedException {
        var next = new AtomicLong();
        var done = new AtomicLong();
        var tasks = new ArrayList<Future<?>>();
        for (var buffer : buffers) {
            tasks.add(executor.submit(() -> {
                while (true) {
                    long position = next.getAndAdd(chunk);
                    if (position >= bytes) {
                        return null;
                    }
                    done.addAndGet(readAt(position, buffer));
                }
            }));
        }
        for (var task : tasks) {
            try {
                task.get();
            } catch (ExecutionException e) {
                throw new IOException(e.getCause());
            }
        }
        return done.get();
    }

    /** Reads at a position in all files joined; pieces do not cross the end of a file. */
    private int readAt(long position, ByteBuffer buffer) throws IOException {
        long left = position % total();
        for (var channel : channels) {
            long usable = channel.size() / chunk * chunk;
            if (left < usable) {
                buffer.clear();
                return channel.read(buffer, left / ALIGNMENT * ALIGNMENT);
            }
            left -= usable;
        }
        throw new IllegalStateException("no such position: " + position);
    }

    private long total() throws IOException {
        long total = 0;
        for (var channel : channels) {
            total += channel.size() / chunk * chunk;
        }
        return total;
    }

    @Override
    public void close() throws IOException {
        executor.close();
        for (var channel : channels) {
            channel.close();
        }
        arena.close();
    }
}
