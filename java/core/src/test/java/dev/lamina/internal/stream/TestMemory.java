package dev.lamina.internal.stream;

import dev.lamina.internal.runtime.HostMemory;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.Map;

/** Host memory from arenas, that counts and is full of rubbish. */
final class TestMemory implements HostMemory {
    private final Map<Long, Arena> arenas = new HashMap<>();
    private long live;
    private long peak;
    private long limit = Long.MAX_VALUE;

    @Override
    public synchronized MemorySegment allocate(long bytes) {
        if (live + bytes > limit) {
            throw new OutOfMemoryError("the limit of this test");
        }
        Arena arena = Arena.ofShared();
        MemorySegment memory = arena.allocate(bytes, 4096);
        memory.fill((byte) 0xee);
        arenas.put(memory.address(), arena);
        live += bytes;
        peak = Math.max(peak, live);
        return memory;
    }

    @Override
    public synchronized void free(MemorySegment memory) {
        memory.fill((byte) 0xdd);
        arenas.remove(memory.address()).close();
        live -= memory.byteSize();
    }

    synchronized void limit(long bytes) {
        limit = bytes;
    }

    synchronized long live() {
        return live;
    }

    synchronized long peak() {
        return peak;
    }
}
