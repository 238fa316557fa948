package dev.lamina.internal.checkpoint;

import java.io.FilterReader;
import java.io.IOException;
import java.io.Reader;

/**
 * JSON text whose strings are not longer than {@link #LIMIT}: the parser builds each string in memory, and a hostile
 * file could consist of one.
 */
final class BoundedStrings extends FilterReader {
    static final int LIMIT = 4 << 20;

    private int sinceQuote;

    BoundedStrings(Reader text) {
        super(text);
    }

    @Override
    public int read(char[] target, int offset, int length) throws IOException {
        int count = super.read(target, offset, length);
        for (int i = offset; i < offset + count; i++) {
            sinceQuote = target[i] == '"' ? 0 : sinceQuote + 1;
            if (sinceQuote > LIMIT) {
                throw new TooLongException();
            }
        }
        return count;
    }

    @Override
    public int read() throws IOException {
        char[] one = new char[1];
        return read(one, 0, 1) < 0 ? -1 : one[0];
    }

    static final class TooLongException extends IOException {
        private static final long serialVersionUID = 1L;
    }
}
