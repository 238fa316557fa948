package dev.lamina.internal.stream;

import java.lang.foreign.MemorySegment;
import java.util.Iterator;
import java.util.LinkedHashMap;
import org.jspecify.annotations.Nullable;

/** The rows of one table that were used last. Not thread-safe. */
final class RowCache {
    private final MemorySegment memory;
    private final LinkedHashMap<Integer, Integer> places = new LinkedHashMap<>(16, 0.75f, true); // row id -> place
    private @Nullable RowTable table;
    private long rowBytes;

    RowCache(MemorySegment memory) {
        this.memory = memory;
    }

    /** Turns to a table; forgets the rows of any other. */
    void use(RowTable table) {
        if (!table.equals(this.table)) {
            places.clear();
            this.table = table;
            this.rowBytes = table.rowBytes();
        }
    }

    @Nullable MemorySegment get(int row) {
        Integer place = places.get(row);
        return place == null ? null : memory.asSlice(place * rowBytes, rowBytes);
    }

    void put(int row, MemorySegment content) {
        long capacity = memory.byteSize() / rowBytes;
        if (capacity == 0) {
            return;
        }
        Integer place = places.get(row);
        if (place == null) {
            place = places.size();
            if (place >= capacity) {
                Iterator<Integer> oldest = places.values().iterator();
                place = oldest.next();
                oldest.remove();
            }
            places.put(row, place);
        }
        memory.asSlice(place * rowBytes, rowBytes).copyFrom(content);
    }
}
