package dev.lamina.internal.text;

import dev.lamina.LaminaException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * A tiktoken vocabulary ({@code qwen.tiktoken}, or a {@code tokenizer.model} that is one): lines of a token in base64,
 * a blank, and its rank, which is its id too. The lower the rank of what two neighbours make, the earlier they merge.
 */
final class TiktokenFile {
    private static final int MAX_BYTES = 64 << 20;
    private static final int MAX_TOKENS = 1 << 20;

    private TiktokenFile() {}

    /**
     * Reads a vocabulary.
     *
     * @return the tokens by rank, in the {@link ByteAlphabet}
     * @throws LaminaException if the file is no such vocabulary
     */
    static List<String> read(Path file) {
        byte[] bytes = TextFiles.read(file, MAX_BYTES);
        try {
            return parse(new String(bytes, StandardCharsets.ISO_8859_1));
        } catch (IllegalArgumentException e) {
            throw TextFiles.unusable(file, e);
        }
    }

    private static List<String> parse(String content) {
        String[] tokens = new String[MAX_TOKENS];
        int count = 0;
        int line = 0;
        for (String text : (Iterable<String>) content.lines()::iterator) {
            line++;
            if (text.isEmpty()) {
                continue;
            }
            int blank = text.indexOf(' ');
            int rank = blank < 0 ? -1 : rank(text.substring(blank + 1));
            if (blank <= 0 || rank < 0) {
                throw new IllegalArgumentException("line " + line + " is not a token in base64 and a rank below "
                        + MAX_TOKENS);
            }
            if (tokens[rank] != null) {
                throw new IllegalArgumentException("line " + line + " has the rank " + rank + " again");
            }
            tokens[rank] = token(text.substring(0, blank), line);
            count++;
        }
        return checked(Arrays.asList(tokens).subList(0, count));
    }

    private static int rank(String text) {
        try {
            int rank = Integer.parseInt(text);
            return rank < MAX_TOKENS ? rank : -1;
        } catch (NumberFormatException e) {
            return -1;
        }
    }

    private static String token(String base64, int line) {
        try {
            return ByteAlphabet.write(Base64.getDecoder().decode(base64));
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException("line " + line + " is not base64", e);
        }
    }

    private static List<String> checked(List<String> tokens) {
        Set<String> different = new HashSet<>();
        for (int rank = 0; rank < tokens.size(); rank++) {
            if (tokens.get(rank) == null) {
                throw new IllegalArgumentException("no token has the rank " + rank);
            }
            if (!different.add(tokens.get(rank))) {
                throw new IllegalArgumentException("the token of the rank " + rank + " is there twice");
            }
        }
        for (int value = 0; value < ByteAlphabet.BYTES; value++) {
            if (!different.contains(ByteAlphabet.write(new byte[] {(byte) value}))) {
                throw new IllegalArgumentException("no token is the byte " + value);
            }
        }
        return List.copyOf(tokens);
    }
}
