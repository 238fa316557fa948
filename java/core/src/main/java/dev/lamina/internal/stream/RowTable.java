package dev.lamina.internal.stream;

import java.util.List;

/**
 * A table of which single rows are looked up: an embedding.
 *
 * @param rowBytes bytes of a row
 * @param parts where its rows lie, in ascending order, without a gap
 */
public record RowTable(long rowBytes, List<Part> parts) {
    /**
     * Rows that lie one after the other in a file.
     *
     * @param file index of the file in the list of data files
     * @param offset of the first of them in that file
     * @param firstRow its number in the table
     * @param rows how many there are
     */
    public record Part(int file, long offset, long firstRow, long rows) {
        /** Checks the values; whether the file has these bytes is checked where the file is known. */
        public Part {
            if (file < 0 || offset < 0 || firstRow < 0 || rows <= 0) {
                throw new IllegalArgumentException("no part of a table: file " + file + ", offset " + offset
                        + ", rows from " + firstRow + ", " + rows);
            }
        }
    }

    /** Checks the values. */
    public RowTable {
        parts = List.copyOf(parts);
        long next = 0;
        for (Part part : parts) {
            if (part.firstRow != next || rowBytes <= 0 || part.rows > (Long.MAX_VALUE / 2 - part.offset) / rowBytes) {
                throw new IllegalArgumentException("no table: rows of " + rowBytes + " bytes, " + parts);
            }
            next += part.rows;
        }
    }

    /** A table that lies in one piece. */
    public static RowTable of(int file, long offset, long rowBytes, long rows) {
        return new RowTable(rowBytes, List.of(new Part(file, offset, 0, rows)));
    }

    /** How many rows there are. */
    public long rows() {
        return parts.isEmpty() ? 0 : parts.getLast().firstRow + parts.getLast().rows;
    }

    /** The part that holds a row. */
    Part part(int row) {
        for (Part part : parts) {
            if (row >= part.firstRow && row < part.firstRow + part.rows) {
                return part;
            }
        }
        throw new IllegalArgumentException("row " + row + " lies outside of a table of " + rows() + " rows");
    }
}
