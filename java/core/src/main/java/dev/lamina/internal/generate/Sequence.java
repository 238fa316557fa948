package dev.lamina.internal.generate;

import dev.lamina.internal.model.Rope;
import dev.lamina.internal.runtime.KvCache;
import java.util.Arrays;
import java.util.List;

/** One prompt or conversation: its tokens so far, and its KV cache, which holds the first {@link #cached} of them. */
final class Sequence implements AutoCloseable {
    private final KvCache cache;
    private final float[][] frequencies;
    private int[] tokens = new int[64];
    private int length;
    private int cached;

    /**
     * Makes an empty sequence.
     *
     * @param expectedLength tokens that it is expected to have in the end: rope tables that depend on the length are chosen
     *     for it, once
     */
    Sequence(KvCache cache, List<Rope> ropes, int expectedLength) {
        this.cache = cache;
        this.frequencies = ropes.stream().map(rope -> rope.frequencies(expectedLength)).toArray(float[][]::new);
    }

    KvCache cache() {
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
            tokens = Arrays.copyOf(tokens, 2 * length);
        }
        tokens[length++] = token;
    }

    /** Replaces the tokens; the KV cache keeps those at the start that are the same. The last token is computed anew. */
    void replace(int[] ids) {
        int same = Arrays.mismatch(tokens, 0, cached, ids, 0, ids.length);
        cached = Math.min(same < 0 ? ids.length : same, ids.length - 1);
        tokens = Arrays.copyOf(ids, Math.max(ids.length, 64));
        length = ids.length;
    }

    /** Notes that the next tokens are in the KV cache now. */
    void advance(int count) {
        cached += count;
    }

    /** The cosines and sines of a position. */
    void ropeTable(Rope rope, int position, float[] out) {
        rope.table(frequencies[rope.id()], position, out);
    }


    @Override
    public void close() {
        cache.close();
    }
}
