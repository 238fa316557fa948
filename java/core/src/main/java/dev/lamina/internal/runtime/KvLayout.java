package dev.lamina.internal.runtime;

import dev.lamina.bindings.lamina_h;
import dev.lamina.bindings.lm_kv_layer;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;

/**
 * What KV caches of a model hold.
 *
 * @param layers one entry for each layer
 * @param half whether elements are f16; f32 otherwise
 */
public record KvLayout(List<Layer> layers, boolean half) {
    /** What a layer keeps. */
    public enum Kind {
        HEADS(lamina_h.LM_KV_HEADS()),
        LATENT(lamina_h.LM_KV_LATENT()),
        STATE(lamina_h.LM_KV_STATE());

        private final int code;

        Kind(int code) {
            this.code = code;
        }
    }

    /**
     * One layer.
     *
     * @param heads of keys and of values; of a state: its first dimension
     * @param headDim floats of a key of one head; of a state: its second dimension
     * @param headDimV floats of a value of one head; of a state: its third dimension
     * @param places how many positions are kept, the last ones; 0: all
     */
    public record Layer(Kind kind, int heads, int headDim, int headDimV, int places) {
        /** One that keeps keys and values of all positions. */
        public Layer(int heads, int headDim, int headDimV) {
            this(Kind.HEADS, heads, headDim, headDimV, 0);
        }
    }

    /** Copies the list. */
    public KvLayout {
        layers = List.copyOf(layers);
    }

    /** Bytes of a cache of that many positions; 0 for one of no layers. */
    public long bytes(int capacity) {
        if (layers.isEmpty()) {
            return 0;
        }
        try (var arena = Arena.ofConfined()) {
            var out = arena.allocate(ValueLayout.JAVA_LONG);
            Status.check(lamina_h.lm_kv_bytes(toNative(arena), layers.size(), capacity, dtype(), out));
            return out.get(ValueLayout.JAVA_LONG, 0);
        }
    }

    /** What the layers from {@code first} on hold, so many of them. */
    public KvLayout range(int first, int count) {
        return new KvLayout(layers.subList(first, first + count), half);
    }

    int dtype() {
        return half ? lamina_h.LM_DTYPE_F16() : lamina_h.LM_DTYPE_F32();
    }

    MemorySegment toNative(Arena arena) {
        var array = lm_kv_layer.allocateArray(layers.size(), arena);
        for (int i = 0; i < layers.size(); i++) {
            var element = lm_kv_layer.asSlice(array, i);
            lm_kv_layer.kind(element, layers.get(i).kind.code);
            lm_kv_layer.places(element, layers.get(i).places);
            lm_kv_layer.kv_heads(element, layers.get(i).heads);
            lm_kv_layer.head_dim(element, layers.get(i).headDim);
            lm_kv_layer.head_dim_v(element, layers.get(i).headDimV);
        }
        return array;
    }
}
