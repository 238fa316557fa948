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
 * Reads one piece after the other, while a second thread adds up the bytes of the piece before. That is the least that
 * anything can do which uses what was read: a reader that does nothing overwrites bytes that never had to leave the
 * caches of whatever put them there.
 */
final class SummingWorker implements ThreadedReader.Worker {
    private final BlockingWorker reader;
    private final HostMemory memory;
    private final List<MemorySegment> buffers;
    private final ExecutorService summing = Executors.newSingleThreadExecutor(
            task -> Thread.ofPlatform().daemon().name("summing").unstarted(task));
    private long sum; // used, so that no compiler leaves it out

    SummingWorker(RawFile.Opener opener, List<Path> paths, int chunk, HostMemory memory) throws IOException {
        this.memory = memory;
        this.reader = new BlockingWorker(opener, paths, chunk, memory);
        this.buffers = List.of(memory.allocate(chunk), memory.allocate(chunk));
        buffers.forEach(buffer -> buffer.fill((byte) 1)); // so that no page is missing when it counts
    }

    @Override
    public long read(Pieces pieces, Pace pace) throws IOException, InterruptedException {
        long bytes = 0;
        int next = 0;
        Future<Long> before = null;
        for (var piece = pieces.take(); piece != null; piece = pieces.take()) {
            long delivered = pace.delivered(piece.bytes());
            var buffer = buffers.get(next);
            int read = reader.read(piece, buffer);
            Pace.await(delivered);
            await(before);
            before = summing.submit(() -> MemoryPass.read(buffer.asSlice(0, read)));
            bytes += read;
            next = 1 - next;
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
        buffers.forEach(memory::free);
        reader.close();
    }
}
