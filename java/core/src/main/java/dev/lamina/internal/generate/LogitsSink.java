package dev.lamina.internal.generate;

import java.lang.foreign.MemorySegment;

/** Takes the logits of a sweep, panel by panel: a whole (rows, vocabulary) matrix is never held. */
@FunctionalInterface
interface LogitsSink {
    /**
     * Takes the next columns.
     *
     * @param rows output rows of the sweep
     * @param firstColumn first vocabulary entry of the block
     * @param columns vocabulary entries in it
     * @param block (rows, columns) floats, valid during the call
     */
    void accept(int rows, int firstColumn, int columns, MemorySegment block);
}
