package dev.lamina.internal.generate;

import dev.lamina.internal.model.Rope;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** One prompt or conversation: its tokens so far, and its KV cache, which holds the first {@link #cached} of them. */
final class Sequence implements AutoCloseable {
    private static final int NO_STATE = -1;

    private final Caches cache;
    private final List<Rope> ropes;
    private float @Nullable [][] frequencies; // of each rope
    private boolean mixed; // whether cached keys were rotated with several
    private int[] tokens = {};
    private int length;
    private int cached;
    private int written; // positions that the cache may hold something of
    private int state = NO_STATE;

    /** Makes an empty sequence. */
    Sequence(Caches cache, List<Rope> ropes) {
        this.cache = cache;
        this.ropes = ropes;
    }

    /** Which half of the states, 0 or 1, holds those after what is cached; -1: there are none. */
    int state() {
        return state;
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
        for (var rope : ropes) {
            stretch(rope);
        }
    }

    /**
     * Changes the frequencies of a rope whose scaling depends on the length, which has grown. The past is computed anew
     * with them, as in a sequence that begins with these tokens; but not at every token of a long sequence.
     */
    private void stretch(Rope rope) {
        if (frequencies == null || !rope.growsWithLength()) {
            return;
        }
        var next = rope.frequencies(length);
        if (!Arrays.equals(next, frequencies[rope.id()])) {
            frequencies[rope.id()] = next;
            if (rope.growsWithEachToken() && length > Division.PREFILL_ROWS) {
                mixed = true;
            } else {
                forget();
            }
        }
    }

    private void forget() {
        cached = 0;
        written = 0;
        state = NO_STATE;
        mixed = false;
    }

    /**
     * Sets the tokens. The KV cache keeps those at the start that are the same; the last token is computed anew. Where
     * rope frequencies depend on the length and would be others, it keeps nothing, so that the past of a conversation
     * does not change what it makes of the same tokens.
     */
    void setTokens(int[] ids) {
        var next = ropes.stream().map(rope -> rope.frequencies(ids.length)).toArray(float[][]::new);
        if (mixed || !Arrays.deepEquals(frequencies, next)) {
            forget();
        }
        frequencies = next;
        int same = Arrays.mismatch(tokens, 0, cached, ids, 0, ids.length);
        int keep = Math.min(same < 0 ? ids.length : same, ids.length - 1);
        cached = keep == cached || cache.canGoBack(written, keep) ? keep : 0;
        if (cached == 0) {
            forget();
        }
        tokens = ids.clone();
        length = ids.length;
    }

    /** Notes that the next tokens are about to be written to the KV cache. */
    void write(int count) {
        written = Math.max(written, cached + count);
    }

    /** Notes that the next tokens are in the KV cache now. */
    void advance(int count) {
        cached += count;
        state = state == 0 ? 1 : 0;
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
