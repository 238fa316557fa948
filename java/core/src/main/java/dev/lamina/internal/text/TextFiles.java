package dev.lamina.internal.text;

import dev.lamina.LaminaException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Reads the files of a tokenizer, and says in one line what is wrong with them. */
final class TextFiles {
    private static final int SHOWN_TEXT = 40;
    private static final char REPLACEMENT = '\ufffd';

    private TextFiles() {}

    /** Reads a whole file of at most {@code limit} bytes. */
    static byte[] read(Path file, int limit) {
        try (InputStream in = Files.newInputStream(file)) {
            byte[] bytes = in.readNBytes(limit + 1);
            if (bytes.length > limit) {
                throw new LaminaException(file + " is larger than " + limit + " bytes: it is no such file of a model");
            }
            return bytes;
        } catch (IOException e) {
            throw new LaminaException(file + " cannot be read: " + e + "; check the file and its permissions", e);
        }
    }

    /** Returns the first byte of a file; -1 if it is empty. */
    static int firstByte(Path file) {
        try (InputStream in = Files.newInputStream(file)) {
            return in.read();
        } catch (IOException e) {
            throw new LaminaException(file + " cannot be read: " + e + "; check the file and its permissions", e);
        }
    }

    /**
     * Decodes text that must be valid UTF-8.
     *
     * @throws IllegalArgumentException if it is not
     */
    static String utf8(byte[] bytes, int start, int length) {
        String text = new String(bytes, start, length, StandardCharsets.UTF_8);
        if (text.indexOf(REPLACEMENT) < 0) {
            return text; // nothing had to be replaced
        }
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes, start, length)).toString();
        } catch (CharacterCodingException e) {
            throw new IllegalArgumentException("text that is not UTF-8", e);
        }
    }

    /** The error of a file that is no tokenizer. */
    static LaminaException unusable(Path file, Exception why) {
        return new LaminaException(
                file + " is not a tokenizer that can be used (" + why.getMessage() + "): download it again", why);
    }

    /** Returns text from a file in quotes, on one line and not longer than a line should be. */
    static String quote(String text) {
        StringBuilder shown = new StringBuilder("'");
        text.codePoints().limit(SHOWN_TEXT).forEach(
                c -> shown.appendCodePoint(Character.isISOControl(c) || !Character.isDefined(c) ? '?' : c));
        return shown.append("'").toString();
    }
}
