package dev.lamina.internal.runtime;

import dev.lamina.bindings.lamina_h;
import java.lang.foreign.MemorySegment;

/** The keys and values of one sequence, for all layers. Storing a position again overwrites it. */
public final class KvCache implements AutoCloseable {
    private final MemorySegment handle;
    private final int capacity;
    private final long bytes;
    private boolean closed;

    KvCache(MemorySegment handle, int capacity, long bytes) {
        this.handle = handle;
        this.capacity = capacity;
        this.bytes = bytes;
    }

    MemorySegment handle() {
        return handle;
    }

    /** Positions that it can hold. */
    public int capacity() {
        return capacity;
    }

    /** Bytes that it takes. */
    public long bytes() {
        return bytes;
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            Status.check(lamina_h.lm_kv_destroy(handle));
        }
    }
}
