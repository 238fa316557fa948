package dev.lamina.cli;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.FileErrors;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Reads text that must be UTF-8. */
final class Texts {
    private Texts() {}

    /** The text of a file. */
    static String ofFile(Path file) {
        if (Files.isDirectory(file)) {
            throw new LaminaException("cannot read " + file + ": it is a folder; give a text file");
        }
        try {
            return decode(file.toString(), Files.readAllBytes(file));
        } catch (IOException e) {
            throw FileErrors.explain("cannot read " + file, e);
        }
    }

    /** All of the standard input, but for the line end that closes it. */
    static String ofInput(InputStream in) {
        try {
            return decode("the standard input", in.readAllBytes()).replaceFirst("\\r?\\n\\z", "");
        } catch (IOException e) {
            throw FileErrors.explain("cannot read the standard input", e);
        }
    }

    private static String decode(String where, byte[] bytes) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException e) {
            throw new LaminaException(where + " is not UTF-8 text: convert it first, for instance with iconv", e);
        }
    }
}
