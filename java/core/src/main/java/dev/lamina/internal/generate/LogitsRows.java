package dev.lamina.internal.generate;

import dev.lamina.internal.runtime.HostMemory;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Gathers the logits of the few rows that a token is sampled from. */
final class LogitsRows implements LogitsSink, AutoCloseable {
    private final HostMemory hostMemory;
    private final MemorySegment memory;
    private final int vocabulary;
    private final float[] copy;

    /** Makes room for rows of {@code vocabulary} logits. */
    LogitsRows(HostMemory hostMemory, int rows, int vocabulary) {
        this.hostMemory = hostMemory;
        this.vocabulary = vocabulary;
        this.copy = new float[vocabulary];
        this.memory = hostMemory.allocate(bytes(rows, vocabulary));
    }

    static long bytes(int rows, int vocabulary) {
        return (long) Float.BYTES * rows * vocabulary;
    }

    @Override
    public void accept(int rows, int firstColumn, int columns, MemorySegment block) {
        for (int row = 0; row < rows; row++) {
            MemorySegment.copy(block, ValueLayout.JAVA_FLOAT, (long) Float.BYTES * row * columns,
                    memory, ValueLayout.JAVA_FLOAT, (long) Float.BYTES * ((long) row * vocabulary + firstColumn),
                    columns);
        }
    }

    /** A copy of the logits of an output row: (vocabulary) floats, until the next call. */
    float[] row(int row) {
        MemorySegment.copy(memory, ValueLayout.JAVA_FLOAT, (long) Float.BYTES * row * vocabulary, copy, 0, vocabulary);
        return copy;
    }

    @Override
    public void close() {
        hostMemory.free(memory);
    }
}
