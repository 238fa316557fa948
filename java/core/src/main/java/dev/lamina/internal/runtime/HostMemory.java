package dev.lamina.internal.runtime;

import java.lang.foreign.MemorySegment;

/** Page-aligned host memory that a device can read at full speed. All methods may be called from any thread. */
public interface HostMemory {
    /**
     * Allocates memory.
     *
     * @param bytes size, more than 0
     * @return a segment of exactly that size, aligned to 4096 bytes or more; its content is undefined
     */
    MemorySegment allocate(long bytes);

    /** Frees what {@link #allocate} returned; the segment must not be used after that. */
    void free(MemorySegment memory);
}
