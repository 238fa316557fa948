package dev.lamina.internal.generate;

import dev.lamina.internal.model.Rope;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** One prompt or conversation: its tokens so far, and its KV cache, which holds the first {@link #cached} of them. */
final class Sequence implements AutoCloseable {
    private final Caches cache;
    private final List<Rope> ropes;
    private float @Nullable [][] frequencies;
    private int[] tokens = {};
    private int length;
    private int cached;

    /** Makes an empty sequence. */
    Sequence(Caches cache, List<Rope> ropes) {
        this.cache = cache;
        this.ropes = ropes;
    }

    Caches cache() {
        return cache;
    }

    /** Tokens so far. */
    int length() {
        return length;
    }

    /** How many of the tokens the KV cache holds. */
    int cached() {
        return cached;
    }

    /** Tokens that are not in the KV cache. */
    int pending() {
        return length - cached;
    }

    int token(int position) {
        return tokens[position];
    }

    void append(int token) {
        if (length == tokens.length) {
            tokens = Arrays.copyOf(tokens, length + length / 2 + 16);
        }
        tokens[length++] = token;
    }

    /**
     * Sets the tokens. The KV cache keeps those at the start that are the same; the last token is computed anew.
     *
     * @param expectedLength tokens that the sequence is expected to have in the end: rope tables that depend on the
     *     length are chosen for it by the first call, and kept
     */
    void setTokens(int[] ids, int expectedLength) {
        if (frequencies == null) {
            frequencies = ropes.stream().map(rope -> rope.frequencies(expectedLength)).toArray(float[][]::new);
        }
        int same = Arrays.mismatch(tokens, 0, cached, ids, 0, ids.length);
        cached = Math.min(same < 0 ? ids.length : same, ids.length - 1);
        tokens = ids.clone();
        length = ids.length;
    }

    /** Notes that the next tokens are in the KV cache now. */
    void advance(int count) {
        cached += count;
    }

    /** The cosines and sines of a position. */
    void ropeTable(Rope rope, int position, float[] out) {
        if (frequencies == null) {
            throw new IllegalStateException("a sequence without tokens has no positions");
        }
        rope.table(frequencies[rope.id()], position, out);
    }

    @Override
    public void close() {
        cache.close();
    }
}
