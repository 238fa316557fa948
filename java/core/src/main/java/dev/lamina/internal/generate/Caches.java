package dev.lamina.internal.generate;

import dev.lamina.internal.runtime.KvCache;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The KV cache of one sequence: a part on each device, with the layers that it computes.
 *
 * @param parts by rank; null for one that has no layers
 * @param capacity positions that it can hold
 * @param use memory that it takes
 */
record Caches(List<@Nullable KvCache> parts, int capacity, MemoryUse use) implements AutoCloseable {
    /**
     * Makes a cache.
     *
     * @param hostLayers for each rank, how many of its last layers are in host memory
     */
    static Caches create(List<Rank> ranks, int capacity, List<Integer> hostLayers) {
        var parts = new ArrayList<@Nullable KvCache>();
        try {
            for (int i = 0; i < ranks.size(); i++) {
                var kv = ranks.get(i).kv();
                parts.add(kv.layers().isEmpty()
                        ? null
                        : ranks.get(i).processor().device().createKv(kv, capacity, hostLayers.get(i)));
            }
            return new Caches(Collections.unmodifiableList(parts), capacity, use(ranks, capacity, hostLayers));
        } catch (Throwable e) {
            var all = new Closing();
            parts.forEach(all::close);
            all.endAfter(e);
            throw e;
        }
    }

    /** Memory that a cache takes. */
    static MemoryUse use(List<Rank> ranks, int capacity, List<Integer> hostLayers) {
        long host = 0;
        var devices = new ArrayList<Long>();
        for (int i = 0; i < ranks.size(); i++) {
            var kv = ranks.get(i).kv();
            int onDevice = kv.layers().size() - hostLayers.get(i);
            long bytes = kv.range(0, onDevice).bytes(capacity);
            host += kv.range(onDevice, hostLayers.get(i)).bytes(capacity);
            if (ranks.get(i).unified()) {
                host += bytes;
            } else {
                devices.add(MemoryUse.allocation(bytes));
            }
        }
        return new MemoryUse(host, devices);
    }

    @Override
    public void close() {
        var all = new Closing();
        parts.forEach(all::close);
        all.end();
    }
}
