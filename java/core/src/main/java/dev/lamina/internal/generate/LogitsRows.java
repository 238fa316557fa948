package dev.lamina.internal.generate;

import dev.lamina.internal.runtime.HostMemory;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;

/** Gathers the logits of the few rows that a token is sampled from. */
final class LogitsRows implements LogitsSink, AutoCloseable {
    private final HostMemory hostMemory;
    private final MemorySegment memory;
    private final int vocabulary;

    /** Makes room for rows of {@code vocabulary} logits. */
    LogitsRows(HostMemory hostMemory, int rows, int vocabulary) {
        this.hostMemory = hostMemory;
        this.vocabulary = vocabulary;
        this.memory = hostMemory.allocate(bytes(rows, vocabulary));
    }

    static long bytes(int rows, int vocabulary) {
        return (long) Float.BYTES * rows * vocabulary;
    }

    @Override
    public void accept(int rows, int firstColumn, int columns, MemorySegment block) {
        for (int row = 0; row < rows; row++) {
            MemorySegment.copy(block, ValueLayout.JAVA_FLOAT, (long) Float.BYTES * row * columns,
                    memory, ValueLayout.JAVA_FLOAT, (long) Float.BYTES * ((long) row * vocabulary + firstColumn), columns);
        }
    }

    /** The logits of an output row: (vocabulary) floats. */
    FloatBuffer row(int row) {
        long bytes = (long) Float.BYTES * vocabulary;
        return memory.asSlice(row * bytes, bytes).asByteBuffer().order(ByteOrder.nativeOrder()).asFloatBuffer();
    }

    @Override
    public void close() {
        hostMemory.free(memory);
    }
}
