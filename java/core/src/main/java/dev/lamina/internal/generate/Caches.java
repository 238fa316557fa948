package dev.lamina.internal.generate;

import dev.lamina.internal.runtime.KvCache;
import dev.lamina.internal.runtime.KvLayout;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The KV cache of one sequence: a part on each device, with the layers that it computes.
 *
 * @param parts by rank; null for one that has no layers
 * @param layout what it holds
 * @param capacity positions that it can hold
 * @param use memory that it takes
 */
record Caches(List<@Nullable KvCache> parts, KvLayout layout, int capacity, MemoryUse use) implements AutoCloseable {
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
            var layers = ranks.stream().flatMap(rank -> rank.kv().layers().stream()).toList();
            return new Caches(Collections.unmodifiableList(parts),
                    new KvLayout(layers, ranks.getFirst().kv().half()), capacity, use(ranks, capacity, hostLayers));
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

    /**
     * Whether a sequence can go on from an earlier position: layers that keep the last positions only must have those
     * before it still, and states have forgotten them.
     *
     * @param written positions that were written
     * @param position the one to go on from
     */
    boolean canGoBack(int written, int position) {
        return position == 0 || layout.layers().stream().allMatch(layer -> switch (layer.kind()) {
            case STATE -> false;
            case HEADS, LATENT -> layer.places() == 0 || layer.places() >= capacity
                    || Math.max(0, position - (layer.places() - Division.PREFILL_ROWS)) >= written - layer.places();
        });
    }

    @Override
    public void close() {
        var all = new Closing();
        parts.forEach(all::close);
        all.end();
    }
}
