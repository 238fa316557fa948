package dev.lamina.internal.checkpoint;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Where the elements of one tensor lie. The reader has checked that all of them are inside their files.
 *
 * @param name name in the checkpoint
 * @param dtype element type
 * @param shape dimensions, outermost first; empty for a scalar
 * @param parts where its bytes lie, in order: one part, or in a shard set over several folders one a folder, each of
 *     whole rows (a row is all that has the same first index)
 */
public record Tensor(String name, DType dtype, List<Long> shape, List<Part> parts) {
    /**
     * Bytes that lie one after the other in a file.
     *
     * @param file file that holds them
     * @param offset first of them, counted from the start of the file
     * @param bytes how many there are
     */
    public record Part(Path file, long offset, long bytes) {}

    /** Copies the lists. */
    public Tensor {
        shape = List.copyOf(shape);
        parts = List.copyOf(parts);
    }

    /** A tensor in one part. */
    public Tensor(String name, DType dtype, List<Long> shape, Path file, long offset, long bytes) {
        this(name, dtype, shape, List.of(new Part(file, offset, bytes)));
    }

    /** Returns the size: product of the shape times the size of an element. */
    public long bytes() {
        return parts.stream().mapToLong(Part::bytes).sum();
    }

    /** Returns the file of a tensor in one part. */
    public Path file() {
        return onlyPart().file();
    }

    /** Returns the first byte of a tensor in one part, counted from the start of its file. */
    public long offset() {
        return onlyPart().offset();
    }

    private Part onlyPart() {
        if (parts.size() != 1) {
            throw new IllegalStateException(name + " lies in " + parts.size() + " parts");
        }
        return parts.getFirst();
    }

    /** Returns some of the rows of a tensor in one part. */
    public Tensor rows(long first, long count) {
        long rowBytes = bytes() / shape.getFirst();
        List<Long> part = new ArrayList<>(shape);
        part.set(0, count);
        return new Tensor(name, dtype, part, file(), offset() + first * rowBytes, count * rowBytes);
    }

    /**
     * Returns this tensor with the rows of another after its own.
     *
     * @throws IllegalArgumentException if together they are no matrix
     */
    Tensor append(Tensor next) {
        int rank = shape.size();
        if (rank < 2 || dtype != next.dtype || next.shape.size() != rank
                || !shape.subList(1, rank).equals(next.shape.subList(1, rank)) || bytes() == 0 || next.bytes() == 0) {
            throw new IllegalArgumentException(dtype + " " + shape + " and " + next.dtype + " " + next.shape
                    + " do not make one tensor");
        }
        List<Long> whole = new ArrayList<>(shape);
        List<Part> all = new ArrayList<>(parts);
        all.addAll(next.parts);
        try {
            whole.set(0, Math.addExact(shape.getFirst(), next.shape.getFirst()));
            Math.addExact(bytes(), next.bytes());
        } catch (ArithmeticException e) {
            throw new IllegalArgumentException(name + " is too large", e);
        }
        return new Tensor(name, dtype, whole, all);
    }
}
