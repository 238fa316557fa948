package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.HostMemory;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Reads one piece after the other, and waits for each. */
final class BlockingWorker implements ThreadedReader.Worker {
    private final List<RawFile> files = new ArrayList<>();
    private final HostMemory memory;
    private final MemorySegment buffer;

    BlockingWorker(RawFile.Opener opener, List<Path> paths, int chunk, HostMemory memory) throws IOException {
        this.memory = memory;
        this.buffer = memory.allocate(chunk);
        buffer.fill((byte) 1); // so that no page is missing when it counts
        try {
            for (var path : paths) {
                files.add(opener.open(path));
            }
        } catch (IOException | RuntimeException e) {
            close();
            throw e;
        }
    }

    /** What it reads into by itself. */
    MemorySegment buffer() {
        return buffer;
    }

    @Override
    public long read(Pieces pieces, Pace pace) throws IOException, InterruptedException {
        long bytes = 0;
        for (var piece = pieces.take(); piece != null; piece = pieces.take()) {
            long delivered = pace.delivered(piece.bytes());
            bytes += read(piece, buffer);
            Pace.await(delivered);
        }
        return bytes;
    }

    /** Reads a piece into memory for a whole one, in several reads where one comes back short. Returns its bytes. */
    int read(Pieces.Piece piece, MemorySegment buffer) throws IOException {
        var file = files.get(piece.file());
        int done = 0;
        int got;
        do {
            got = Math.max(0, file.read(piece.offset() + done, piece.window() - done, buffer.asSlice(done)));
            done += got;
        } while (got > 0 && got % Pieces.ALIGNMENT == 0 && done < piece.bytes());
        return done;
    }

    @Override
    public void close() throws IOException {
        memory.free(buffer);
        for (var file : files) {
            file.close();
        }
    }
}
