package dev.lamina.internal.runtime;

import dev.lamina.bindings.lm_view;
import java.lang.foreign.MemorySegment;

/**
 * A (rows, width) matrix in activation memory.
 *
 * @param offset floats from the start of activation memory to its first element
 * @param stride floats from one row to the next
 * @param width floats of one row
 */
public record View(long offset, int stride, int width) {
    void write(MemorySegment view) {
        lm_view.offset(view, offset);
        lm_view.stride(view, stride);
        lm_view.width(view, width);
    }
}
