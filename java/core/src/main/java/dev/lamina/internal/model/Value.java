package dev.lamina.internal.model;

import org.jspecify.annotations.Nullable;

/**
 * An activation of a program: a (rows, width) matrix of floats, or consecutive columns of one.
 *
 * @param id number in its program, from 0; columns have that of their matrix
 * @param width floats of one row
 * @param rows which rows it has
 * @param matrix what it is columns of; null if it is a matrix itself
 * @param column the first of these columns
 */
public record Value(int id, int width, Rows rows, @Nullable Value matrix, int column) {
    /** Rows that an activation can have. */
    public enum Rows {
        /** One for every row of the sweep. */
        ALL,
        /** One for each token whose logits are wanted. */
        OUTPUT,
        /** One for each row that chose an expert, packed. */
        LIST
    }

    /** A matrix. */
    Value(int id, int width, Rows rows) {
        this(id, width, rows, null, 0);
    }

    /** Whether it has a row only for each token whose logits are wanted. */
    public boolean outputRows() {
        return rows == Rows.OUTPUT;
    }

    /** The matrix that it is, or is columns of. */
    public Value whole() {
        return matrix == null ? this : matrix;
    }

    /** The same columns of another matrix of the same width. */
    Value of(Value other) {
        return matrix == null ? other : other.columns(column, width);
    }

    /** Columns of it, which an op can read and write like any other activation. */
    public Value columns(int first, int count) {
        if (first < 0 || count < 1 || count > width - first) {
            throw new IllegalArgumentException(count + " columns from " + first + " on of " + width);
        }
        return new Value(id, count, rows, whole(), column + first);
    }
}
