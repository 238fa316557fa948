package dev.lamina;

import java.nio.FloatBuffer;

/** Takes logits block by block. */
@FunctionalInterface
public interface LogitsConsumer {
    /**
     * A block of the (tokens, vocabulary) matrix.
     *
     * @param firstRow number of the block's first token
     * @param rows tokens in it
     * @param firstColumn its first vocabulary entry
     * @param columns vocabulary entries in it
     * @param values (rows, columns) floats, row-major; valid during the call only
     */
    void accept(int firstRow, int rows, int firstColumn, int columns, FloatBuffer values);
}
