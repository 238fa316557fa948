package dev.lamina.internal.runtime;

import dev.lamina.bindings.lamina_h;
import dev.lamina.bindings.lm_read;
import dev.lamina.bindings.lm_read_result;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Reads of one thread that are under way at the same time, with io_uring of Linux. Only that thread may use it. */
public final class ReadRing implements AutoCloseable {
    /** Hears of a read that has ended. */
    @FunctionalInterface
    public interface Result {
        /**
         * A read has ended.
         *
         * @param tag what {@link #submit} was given
         * @param bytes how many were read; fewer than asked for at the end of the file, or whenever the system likes;
         *     -1: it failed, and {@link NativeFile#read} of the same bytes tells why
         */
        void ended(long tag, int bytes) throws IOException;
    }

    /** The ring itself failed, not a read. */
    public static final class Failure extends IOException {
        private static final long serialVersionUID = 1;

        Failure(String message) {
            super(message);
        }
    }

    private final MemorySegment handle;
    private final Arena arena = Arena.ofConfined();
    private final MemorySegment read = lm_read.allocate(arena);
    private final MemorySegment results;
    private final MemorySegment count = arena.allocate(ValueLayout.JAVA_INT);
    private final int depth;
    private boolean closed;

    private ReadRing(MemorySegment handle, int depth) {
        this.handle = handle;
        this.depth = depth;
        this.results = lm_read_result.allocateArray(depth, arena);
    }

    /**
     * Makes a ring.
     *
     * @param depth most reads under way
     * @throws IOException the system has no io_uring, or forbids it
     */
    public static ReadRing open(int depth) throws IOException {
        Device.loadLibrary();
        try (var arena = Arena.ofConfined()) {
            var out = arena.allocate(ValueLayout.ADDRESS);
            NativeFile.check(lamina_h.lm_ring_open(depth, out));
            return new ReadRing(out.get(ValueLayout.ADDRESS, 0), depth);
        }
    }

    /**
     * Begins a read into all of a native segment, which must stay until {@link #await} has told of its end.
     *
     * @param tag given back with the result
     */
    public void submit(NativeFile file, MemorySegment to, long offset, long tag) throws IOException {
        NativeFile.checkWritable(to);
        lm_read.file(read, file.handle());
        lm_read.to(read, to);
        lm_read.bytes(read, to.byteSize());
        lm_read.offset(read, offset);
        lm_read.tag(read, tag);
        NativeFile.check(lamina_h.lm_ring_submit(handle, read, 1));
    }

    /**
     * Waits until at least one read under way has ended, and tells of all that have.
     *
     * @throws Failure the ring failed
     * @throws IOException what the listener throws; of the others that have ended nobody hears any more
     */
    public void await(Result listener) throws IOException {
        if (lamina_h.lm_ring_wait(handle, results, depth, count) != lamina_h.LM_OK()) {
            throw new Failure(Status.lastError());
        }
        for (int i = 0; i < count.get(ValueLayout.JAVA_INT, 0); i++) {
            var result = lm_read_result.asSlice(results, i);
            listener.ended(lm_read_result.tag(result), (int) lm_read_result.bytes(result));
        }
    }

    /** Waits for the reads under way, whose results are lost, and frees the ring. Closing twice does nothing. */
    @Override
    public void close() {
        if (!closed) {
            closed = true;
            arena.close();
            Status.check(lamina_h.lm_ring_close(handle));
        }
    }
}
