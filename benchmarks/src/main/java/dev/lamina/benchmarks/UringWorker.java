package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.runtime.NativeFile;
import dev.lamina.internal.runtime.ReadRing;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Keeps several pieces under way with io_uring. */
final class UringWorker implements ThreadedReader.Worker {
    /** A piece under way, and when a drive of the limited rate would have delivered it. */
    private record Request(Pieces.Piece piece, long delivered) {}

    private final List<NativeFile> files = new ArrayList<>();
    private final HostMemory memory;
    private final int chunk;
    private final MemorySegment buffers;
    private final ReadRing ring;
    private final Request[] underWay;

    UringWorker(List<Path> paths, int chunk, int depth, HostMemory memory) throws IOException {
        this.memory = memory;
        this.chunk = chunk;
        this.underWay = new Request[depth];
        this.ring = ReadRing.open(depth);
        this.buffers = memory.allocate((long) depth * chunk);
        buffers.fill((byte) 1); // so that no page is missing when it counts
        try {
            for (var path : paths) {
                files.add(NativeFile.open(path, true));
            }
        } catch (IOException | RuntimeException e) {
            close();
            throw e;
        }
    }

    /** Whether this system has io_uring and allows it. */
    static boolean isThere() {
        try {
            ReadRing.open(1).close();
            return true;
        } catch (IOException e) {
            return false;
        }
    }

    @Override
    public long read(Pieces pieces, Pace pace) throws IOException, InterruptedException {
        int count = 0;
        while (count < underWay.length && begin(count, pieces, pace)) {
            count++;
        }
        long bytes = 0;
        var ended = new ArrayList<Integer>();
        while (count > 0) {
            ended.clear();
            var got = new long[1];
            ring.await((tag, read) -> {
                got[0] += finish((int) tag, read);
                ended.add((int) tag);
            });
            bytes += got[0];
            for (int place : ended) {
                Pace.await(underWay[place].delivered);
                count -= begin(place, pieces, pace) ? 0 : 1;
            }
        }
        return bytes;
    }

    private boolean begin(int place, Pieces pieces, Pace pace) throws IOException {
        var piece = pieces.take();
        if (piece == null) {
            return false;
        }
        underWay[place] = new Request(piece, pace.delivered(piece.bytes()));
        ring.submit(files.get(piece.file()), buffer(place, 0, piece), piece.offset(), place);
        return true;
    }

    /** Reads what is missing of a piece, in plain reads, since it is seldom anything. Returns the bytes of all. */
    private long finish(int place, int read) throws IOException {
        var piece = underWay[place].piece;
        int done = Math.max(0, read);
        while (done < piece.bytes()) {
            int got = files.get(piece.file()).read(buffer(place, done, piece), piece.offset() + done);
            if (got <= 0) {
                break;
            }
            done += got;
        }
        return done;
    }

    private MemorySegment buffer(int place, int done, Pieces.Piece piece) {
        return buffers.asSlice((long) place * chunk + done, piece.window() - done);
    }

    @Override
    public void close() {
        ring.close();
        memory.free(buffers);
        files.forEach(NativeFile::close);
    }
}
