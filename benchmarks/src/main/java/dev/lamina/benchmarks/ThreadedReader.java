package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.HostMemory;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

/** Plain threads that take pieces of files one after the other; they and their buffers last as long as the reader. */
final class ThreadedReader implements RawReader {
    private static final AtomicInteger READERS = new AtomicInteger();

    private final String name;
    private final List<RawFile> files = new ArrayList<>();
    private final Pieces pieces;
    private final Pace pace;
    private final HostMemory memory;
    private final List<MemorySegment> buffers = new ArrayList<>();
    private final ExecutorService threads;
    private final String threadName = "raw-" + READERS.getAndIncrement() + "-"; // short: the kernel cuts names

    ThreadedReader(String way, RawFile.Opener opener, List<Path> paths, int chunk, int depth, Limit limit,
            HostMemory memory) throws IOException {
        this.name = way + " x" + depth;
        this.pieces = new Pieces(paths, chunk);
        this.pace = new Pace(limit);
        this.memory = memory;
        var numbers = new AtomicInteger();
        this.threads = Executors.newFixedThreadPool(depth,
                task -> Thread.ofPlatform().daemon().name(threadName + numbers.getAndIncrement()).unstarted(task));
        try {
            for (var path : paths) {
                files.add(opener.open(path));
            }
            for (int i = 0; i < depth; i++) {
                buffers.add(memory.allocate(chunk));
                buffers.getLast().fill((byte) 1); // so that no page is missing when it counts
            }
        } catch (IOException | RuntimeException e) {
            close();
            throw e;
        }
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public Reading read(long bytes) throws IOException, InterruptedException {
        pieces.allow(bytes);
        var done = new AtomicLong();
        double cpu = CpuTime.of(threadName);
        long start = System.nanoTime();
        var tasks = new ArrayList<Future<?>>();
        for (var buffer : buffers) {
            tasks.add(threads.submit(() -> {
                for (var piece = pieces.take(); piece != null; piece = pieces.take()) {
                    long delivered = pace.delivered(piece.bytes());
                    done.addAndGet(read(piece, buffer));
                    Pace.await(delivered);
                }
                return null;
            }));
        }
        for (var task : tasks) {
            try {
                task.get();
            } catch (ExecutionException e) {
                throw new IOException(e.getCause());
            }
        }
        return new Reading(done.get(), (System.nanoTime() - start) / 1e9, CpuTime.of(threadName) - cpu);
    }

    /** Reads a piece, in several reads where one comes back short. */
    private long read(Pieces.Piece piece, MemorySegment buffer) throws IOException {
        var file = files.get(piece.file());
        int done = 0;
        int got;
        do {
            got = Math.max(0, file.read(piece.offset() + done, piece.window() - done, buffer));
            done += got;
        } while (got > 0 && got % Pieces.ALIGNMENT == 0 && done < piece.bytes());
        return done;
    }

    @Override
    public void close() throws IOException {
        threads.close();
        buffers.forEach(memory::free);
        for (var file : files) {
            file.close();
        }
    }
}
