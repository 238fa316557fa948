package dev.lamina.internal.stream;

/**
 * The bytes of one panel.
 *
 * @param file index of the file in the list of data files
 * @param offset first byte in that file; any value, it need not be aligned
 * @param bytes size, more than 0
 */
public record Extent(int file, long offset, long bytes) {
    /** Checks the values; whether the file has these bytes is checked where the file is known. */
    public Extent {
        if (file < 0 || offset < 0 || bytes <= 0 || bytes > Long.MAX_VALUE / 2 - offset) {
            throw new IllegalArgumentException("no extent: file " + file + ", offset " + offset + ", bytes " + bytes);
        }
    }

    /** The offset after the last byte. */
    long end() {
        return offset + bytes;
    }

    /** Start of the aligned window around these bytes. */
    long windowStart(int alignment) {
        return offset - offset % alignment;
    }

    /** End of the aligned window around these bytes; may lie past the end of the file. */
    long windowEnd(int alignment) {
        return HostBlock.roundUp(end(), alignment);
    }
}
