package dev.lamina.internal.model;

import org.jspecify.annotations.Nullable;

/**
 * What a row of a layer attends to, and how.
 *
 * @param scale factor of the scores
 * @param window positions that a row sees, itself included; 0 for all
 * @param chunk positions of a chunk, of which a row sees its own alone; 0 for none
 * @param softCap limit of the scores, see {@code LM_OP_ATTENTION}; 0 for none
 * @param kind what the vector is
 * @param vector a number for each head; null for {@link Kind#PLAIN}
 */
public record Attending(float scale, int window, int chunk, float softCap, Kind kind, @Nullable String vector) {
    /** What is added to the scores. */
    public enum Kind {
        /** Nothing. */
        PLAIN,
        /** The distance times a slope. */
        ALIBI,
        /** The score of a position without a value. */
        SINKS
    }

    /** To all positions up to its own. */
    static Attending all(float scale) {
        return new Attending(scale, 0, 0, 0, Kind.PLAIN, null);
    }

    /** To the last positions only; 0 for all. */
    Attending withWindow(int positions) {
        return new Attending(scale, positions, chunk, softCap, kind, vector);
    }

    /** To the positions of its own chunk; 0 for all. */
    Attending withChunk(int positions) {
        return new Attending(scale, window, positions, softCap, kind, vector);
    }

    Attending withSoftCap(float limit) {
        return new Attending(scale, window, chunk, limit, kind, vector);
    }

    Attending with(Kind kind, String vector) {
        return new Attending(scale, window, chunk, softCap, kind, vector);
    }

    /** How many positions a row can see, its own included; 0: all. */
    int reach() {
        return window == 0 ? chunk : chunk == 0 ? window : Math.min(window, chunk);
    }
}
