package dev.lamina.internal.checkpoint;

import java.nio.file.Path;
import java.util.List;

/**
 * Where the elements of one tensor lie. The reader has checked that all of it is inside the file.
 *
 * @param name name in the checkpoint
 * @param dtype element type
 * @param shape dimensions, outermost first; empty for a scalar
 * @param file file that holds it
 * @param offset first byte, counted from the start of the file
 * @param bytes size: product of the shape times the size of an element
 */
public record Tensor(String name, DType dtype, List<Long> shape, Path file, long offset, long bytes) {}
