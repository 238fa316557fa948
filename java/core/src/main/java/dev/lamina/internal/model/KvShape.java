package dev.lamina.internal.model;

/**
 * What the KV cache holds of one layer.
 *
 * @param kind what it keeps
 * @param heads heads of keys and of values; of a state: its first dimension
 * @param headDim floats of a key of one head; of a state: its second dimension
 * @param headDimV floats of a value of one head; of a state: its third dimension
 * @param reach how many positions a row can see, its own included; 0: all
 */
public record KvShape(Kind kind, int heads, int headDim, int headDimV, int reach) {
    /** What a layer keeps. */
    public enum Kind {
        /** Keys and values of each position. */
        HEADS,
        /** Keys of each position, which begin with the values. */
        LATENT,
        /** A state, whatever the number of positions. */
        STATE
    }

    /** Numbers that it keeps of each position, as long as it keeps that. */
    public long perPosition() {
        return switch (kind) {
            case HEADS -> (long) heads * (headDim + headDimV);
            case LATENT -> (long) heads * headDim;
            case STATE -> 0;
        };
    }

    /** Bytes that it takes whatever the number of positions: a state is there twice, in f32. */
    public long stateBytes() {
        return kind == Kind.STATE ? 2L * Float.BYTES * heads * headDim * headDimV : 0;
    }
}
