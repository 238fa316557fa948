package dev.lamina.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** Files cut into pieces, which are handed out in a cycle. Safe for use by several threads. */
final class Pieces {
    /** What direct reads begin and end at. */
    static final int ALIGNMENT = 4096;

    /**
     * What is to be read at once.
     *
     * @param file index of the file
     * @param offset where it begins, a multiple of 4096
     * @param bytes its size, a multiple of 4096 but at the end of a file
     */
    record Piece(int file, long offset, int bytes) {
        /** What a direct read of it has to ask for. */
        int window() {
            return aligned(bytes);
        }
    }

    private final List<Piece> cycle = new ArrayList<>();
    private int next;
    private long left;

    /** Cuts files. */
    Pieces(List<Path> files, int chunk) throws IOException {
        if (chunk <= 0 || chunk % ALIGNMENT != 0) {
            throw new IllegalArgumentException("a chunk must be a multiple of " + ALIGNMENT + " bytes, not " + chunk);
        }
        for (int file = 0; file < files.size(); file++) {
            long size = Files.size(files.get(file));
            for (long offset = 0; offset < size; offset += chunk) {
                cycle.add(new Piece(file, offset, (int) Math.min(chunk, size - offset)));
            }
        }
        if (cycle.isEmpty()) {
            throw new IOException("nothing to read in " + files);
        }
    }

    private static int aligned(long bytes) {
        return Math.toIntExact(Math.ceilDiv(bytes, (long) ALIGNMENT) * ALIGNMENT);
    }

    /** Allows so many bytes to be handed out, rounded up to 4 KiB. */
    synchronized void allow(long bytes) {
        left = bytes;
    }

    /** The next piece, cut to what is left; null when nothing is. */
    synchronized @Nullable Piece take() {
        if (left <= 0) {
            return null;
        }
        var piece = cycle.get(next);
        next = (next + 1) % cycle.size();
        int bytes = Math.min(piece.bytes, aligned(Math.min(piece.bytes, left)));
        left -= bytes;
        return bytes == piece.bytes ? piece : new Piece(piece.file, piece.offset, bytes);
    }
}
