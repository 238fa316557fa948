package dev.lamina.benchmarks;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;

/** Threads that take pieces of files one after the other; they and their buffers last as long as the reader. */
final class ThreadedReader implements RawReader {
    /** What one thread reads with: made, used and closed by that thread. */
    interface Worker extends AutoCloseable {
        /** Reads pieces until there are none. Returns the bytes read. */
        long read(Pieces pieces, Pace pace) throws IOException, InterruptedException;

        @Override
        void close() throws IOException;
    }

    private static final AtomicInteger READERS = new AtomicInteger();

    private final String name;
    private final Pieces pieces;
    private final Pace pace;
    private final List<ExecutorService> threads = new ArrayList<>();
    private final List<Worker> workers = new ArrayList<>();
    private final String threadName = "raw-" + READERS.getAndIncrement() + "-"; // short: the kernel cuts names

    ThreadedReader(String name, int count, Callable<Worker> opener, Pieces pieces, Limit limit) throws IOException {
        this.name = name;
        this.pieces = pieces;
        this.pace = new Pace(limit);
        try {
            for (int i = 0; i < count; i++) {
                var threadOfWorker = threadName + i;
                threads.add(Executors.newSingleThreadExecutor(
                        task -> Thread.ofPlatform().daemon().name(threadOfWorker).unstarted(task)));
                workers.add(get(threads.getLast().submit(opener)));
            }
        } catch (IOException | InterruptedException | RuntimeException e) {
            close();
            throw e instanceof IOException failure ? failure : new IOException(e);
        }
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public Reading read(long bytes) throws IOException, InterruptedException {
        pieces.allow(bytes);
        double cpu = CpuTime.of(threadName);
        long start = System.nanoTime();
        var running = new ArrayList<Future<Long>>();
        for (int i = 0; i < workers.size(); i++) {
            var worker = workers.get(i);
            running.add(threads.get(i).submit(() -> worker.read(pieces, pace)));
        }
        long done = 0;
        for (var task : running) {
            done += get(task);
        }
        return new Reading(done, (System.nanoTime() - start) / 1e9, CpuTime.of(threadName) - cpu);
    }

    private static <T> T get(Future<T> task) throws IOException, InterruptedException {
        try {
            return task.get();
        } catch (ExecutionException e) {
            throw new IOException(e.getCause());
        }
    }

    @Override
    public void close() throws IOException {
        try {
            for (int i = 0; i < workers.size(); i++) {
                var worker = workers.get(i);
                get(threads.get(i).submit(() -> {
                    worker.close();
                    return null;
                }));
            }
        } catch (InterruptedException e) {
            throw new IOException(e);
        } finally {
            threads.forEach(ExecutorService::close);
        }
    }
}
