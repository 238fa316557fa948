package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.HostMemory;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.jspecify.annotations.Nullable;

/**
 * Reads one piece after the other, while a second thread adds up the bytes of the piece before: about the least that
 * one reader and one user of the bytes can do. A reader that does nothing with them overwrites bytes that may never
 * have left the caches of whatever put them there. The time of the processor that is told is that of the reading
 * thread alone.
 */
final class SummingWorker implements ThreadedReader.Worker {
    private final BlockingWorker reader;
    private final HostMemory memory;
    private final MemorySegment second; // buffer, beside that of the reader
    private final ExecutorService summing = Executors.newSingleThreadExecutor(
            task -> Thread.ofPlatform().daemon().name("summing").unstarted(task));
    private long sum; // used, so that no compiler leaves it out

    SummingWorker(RawFile.Opener opener, List<Path> paths, int chunk, HostMemory memory) throws IOException {
        this.memory = memory;
        this.second = memory.allocate(chunk);
        second.fill((byte) 1); // so that no page is missing when it counts
        try {
            this.reader = new BlockingWorker(opener, paths, chunk, memory);
        } catch (IOException | RuntimeException e) {
            memory.free(second);
            throw e;
        }
    }

    @Override
    public long read(Pieces pieces, Pace pace) throws IOException, InterruptedException {
        long bytes = 0;
        boolean first = true;
        Future<Long> before = null;
        for (var piece = pieces.take(); piece != null; piece = pieces.take()) {
            long delivered = pace.delivered(piece.bytes());
            var buffer = first ? reader.buffer() : second;
            int read = reader.read(piece, buffer);
            Pace.await(delivered);
            await(before);
            before = summing.submit(() -> MemoryPass.read(buffer.asSlice(0, read)));
            bytes += read;
            first = !first;
        }
        await(before);
        return bytes;
    }

    private void await(@Nullable Future<Long> task) throws IOException, InterruptedException {
        try {
            sum += task == null ? 0 : task.get();
        } catch (ExecutionException e) {
            throw new IOException(e.getCause());
        }
    }

    @Override
    public void close() throws IOException {
        summing.close();
        memory.free(second);
        reader.close();
    }
}
