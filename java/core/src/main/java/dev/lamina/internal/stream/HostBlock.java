package dev.lamina.internal.stream;

import dev.lamina.internal.runtime.HostMemory;
import java.lang.foreign.MemorySegment;

/**
 * One allocation, aligned as far as direct reads need it.
 *
 * @param owner where it came from
 * @param allocation what the owner returned, and what it wants back
 * @param memory the part to use: of at least the size asked for, in whole pages, its address a multiple of the
 *     alignment
 */
record HostBlock(HostMemory owner, MemorySegment allocation, MemorySegment memory) implements AutoCloseable {
    private static final int PAGE = 4096;

    static HostBlock allocate(HostMemory owner, long bytes, int alignment) {
        MemorySegment allocation = owner.allocate(footprint(bytes, alignment));
        long skip = Math.floorMod(-allocation.address(), (long) alignment);
        return new HostBlock(owner, allocation, allocation.asSlice(skip, roundUp(bytes, PAGE)));
    }

    /** What {@link #allocate} asks the owner for. */
    static long footprint(long bytes, int alignment) {
        return Math.addExact(roundUp(bytes, PAGE), alignment > PAGE ? alignment : 0);
    }

    static long roundUp(long value, long multiple) {
        return Math.multiplyExact(Math.ceilDiv(value, multiple), multiple);
    }

    @Override
    public void close() {
        owner.free(allocation);
    }
}
