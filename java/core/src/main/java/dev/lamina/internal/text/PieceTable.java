package dev.lamina.internal.text;

import java.util.SplittableRandom;

/**
 * Pieces and their ids, in which parts of a text are found without making strings of them. Hashes are those of a random
 * polynomial, so that no file can choose short pieces that all have the same.
 */
final class PieceTable {
    private static final long FACTOR = new SplittableRandom().nextLong() | 1;
    private static final long SPREAD = 0x9e3779b97f4a7c15L; // 2^64 / the golden ratio: all bits decide the slot
    private static final int TAG_SHIFT = 24; // below the bits of the slot
    private static final byte EMPTY = 0;
    private static final int NONE = -1;

    private final byte[] tags; // some bits of each hash: few of the many parts that are no pieces need a closer look
    private final String[] pieces;
    private final int[] ids;
    private final int shift;
    private long[] endings = {}; // hashes of the ends of a text

    /** What {@link #cuts} finds: the ids of both parts, and where the second begins. */
    @FunctionalInterface
    interface CutListener {
        void cut(int left, int right, int at);
    }

    /** Makes a table for so many pieces. */
    PieceTable(int count) {
        int bits = Long.SIZE - Long.numberOfLeadingZeros(2L * count + 1); // at most half of the slots are taken
        tags = new byte[1 << bits];
        pieces = new String[1 << bits];
        ids = new int[1 << bits];
        shift = Long.SIZE - bits;
    }

    /** Adds a piece; of equal ones the last counts. */
    void put(String piece, int id) {
        long hash = 0;
        for (int i = 0; i < piece.length(); i++) {
            hash = hash * FACTOR + piece.charAt(i);
        }
        int slot = slot(hash, piece, 0, piece.length());
        pieces[slot] = piece;
        tags[slot] = tag(hash);
        ids[slot] = id;
    }

    /** Finds all places where a text can be cut into two pieces. */
    void cuts(String text, CutListener listener) {
        int length = text.length();
        if (endings.length < length) {
            endings = new long[2 * length];
        }
        long hash = 0;
        long power = 1;
        for (int at = length - 1; at > 0; at--) {
            hash += text.charAt(at) * power;
            power *= FACTOR;
            endings[at] = hash;
        }
        hash = 0;
        for (int at = 1; at < length; at++) {
            hash = hash * FACTOR + text.charAt(at - 1);
            int left = id(hash, text, 0, at);
            int right = left == NONE ? NONE : id(endings[at], text, at, length);
            if (right != NONE) {
                listener.cut(left, right, at);
            }
        }
    }

    private int id(long hash, String text, int from, int to) {
        int slot = slot(hash, text, from, to);
        return tags[slot] == EMPTY ? NONE : ids[slot];
    }

    /** Where a part of a text is, or where it could be put. */
    private int slot(long hash, String text, int from, int to) {
        int slot = (int) (hash * SPREAD >>> shift);
        byte tag = tag(hash);
        while (tags[slot] != EMPTY && !(tags[slot] == tag && pieces[slot].length() == to - from
                && text.regionMatches(from, pieces[slot], 0, to - from))) {
            slot = slot + 1 & tags.length - 1;
        }
        return slot;
    }

    private static byte tag(long hash) {
        return (byte) (hash * SPREAD >>> TAG_SHIFT | 1);
    }
}
