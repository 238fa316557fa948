package dev.lamina.internal.model;

import org.jspecify.annotations.Nullable;

/**
 * A weight that streams: a matrix of (rows, columns), each row one after the other in its tensor. A tensor with more
 * dimensions is a taller matrix.
 *
 * @param tensor where its elements are
 * @param rows how many
 * @param columns elements of a row
 * @param format how an element is stored
 * @param scales what belongs to the elements of the format: a vector for F8_E4M3, a tensor for MXFP4, null for others
 */
public record Matrix(String tensor, int rows, int columns, Format format, @Nullable String scales) {
    /** How elements are stored. */
    public enum Format {
        F32,
        F16,
        BF16,
        /** With an f32 scale for each block of 128 x 128 elements. */
        F8_E4M3,
        /** Four bits, with a scale of a byte for each 32 elements of a row. */
        MXFP4
    }
}
