package dev.lamina.internal.text;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Writes texts as the pieces of a SentencePiece model are written: characters replaced by the rules of the model,
 * spaces as U+2581, one in front. Immutable; for any number of threads.
 *
 * <p>The rules are a map from texts to texts: a double-array trie over the UTF-8 bytes of the keys, whose values are
 * places in a block of texts that end with a zero byte. The longest key at a place wins.
 */
final class SentencePieceNormalizer {
    /** No key of published rules is half as long; a damaged trie may have one without an end. */
    private static final int MAX_KEY_BYTES = 256;

    private static final int MAX_VALUE_BYTES = 1024;

    private final boolean addDummyPrefix;
    private final boolean removeExtraWhitespaces;
    private final String space;
    private final int[] trie;
    private final byte[] values;
    private final TokenTrie userDefined;

    /**
     * Takes the rules of a model.
     *
     * @throws IllegalArgumentException if they are damaged
     */
    SentencePieceNormalizer(SentencePieceModel model) {
        addDummyPrefix = model.addDummyPrefix();
        removeExtraWhitespaces = model.removeExtraWhitespaces();
        space = model.escapeWhitespaces() ? String.valueOf(SentencePieceModel.SPACE) : " ";
        List<String> symbols = model.pieces().stream()
                .filter(piece -> piece.type() == SentencePieceModel.Type.USER_DEFINED)
                .map(SentencePieceModel.Piece::text).toList();
        userDefined = TokenTrie.of(symbols);
        ByteBuffer rules = ByteBuffer.wrap(model.charsmap()).order(ByteOrder.LITTLE_ENDIAN);
        if (rules.remaining() == 0) {
            trie = new int[0];
            values = new byte[0];
            return;
        }
        int trieBytes = rules.remaining() < Integer.BYTES ? -1 : rules.getInt();
        if (trieBytes <= 0 || trieBytes % Integer.BYTES != 0 || trieBytes >= rules.remaining()) {
            throw new IllegalArgumentException("precompiled_charsmap is damaged");
        }
        trie = new int[trieBytes / Integer.BYTES];
        rules.asIntBuffer().get(trie);
        rules.position(Integer.BYTES + trieBytes);
        values = new byte[rules.remaining()];
        rules.get(values);
        int length = 0;
        for (byte value : values) {
            length = value == 0 ? 0 : length + 1;
            if (length > MAX_VALUE_BYTES) {
                throw new IllegalArgumentException("precompiled_charsmap has a text that is too long");
            }
        }
        if (length > 0) {
            throw new IllegalArgumentException("precompiled_charsmap has a text without an end");
        }
    }

    /**
     * Normalises a text.
     *
     * @param prefix whether a space belongs in front, where the model wants one
     */
    String normalize(String text, boolean prefix) {
        if (trie.length == 0 && !removeExtraWhitespaces) {
            return (prefix && addDummyPrefix && !text.isEmpty() ? space : "") + text.replace(" ", space);
        }
        StringBuilder out = new StringBuilder(text.length() + 1);
        boolean wantsSpace = prefix && addDummyPrefix;
        if (wantsSpace && !removeExtraWhitespaces && !text.isEmpty()) {
            out.append(space);
        }
        // At the start of a text, and behind a space, further spaces go.
        boolean dropsSpaces = removeExtraWhitespaces;
        int at = 0;
        while (at < text.length()) {
            Replacement next = replacement(text, at);
            at = next.end;
            String value = dropsSpaces ? withoutLeadingSpaces(next.value) : next.value;
            if (!value.isEmpty()) {
                if (out.isEmpty() && wantsSpace) {
                    out.append(space);
                }
                out.append(value.replace(" ", space));
                dropsSpaces = removeExtraWhitespaces && value.endsWith(" ");
            }
        }
        while (removeExtraWhitespaces && out.length() > 0 && out.substring(out.length() - 1).equals(space)) {
            out.setLength(out.length() - 1);
        }
        return out.toString();
    }

    private static String withoutLeadingSpaces(String value) {
        int start = 0;
        while (start < value.length() && value.charAt(start) == ' ') {
            start++;
        }
        return value.substring(start);
    }

    /** What stands for the text up to {@code end}. */
    private record Replacement(String value, int end) {}

    private Replacement replacement(String text, int start) {
        int end = userDefined.longest(text, start);
        if (end > start) {
            return new Replacement(text.substring(start, end), end);
        }
        Replacement rule = rule(text, start);
        if (rule != null) {
            return rule;
        }
        end = start + Character.charCount(text.codePointAt(start));
        return new Replacement(text.substring(start, end), end);
    }

    private @Nullable Replacement rule(String text, int start) {
        int value = -1;
        int end = start;
        int at = start;
        int node = trie.length == 0 ? -1 : offset(trie[0]);
        for (int bytes = 0; at < text.length() && bytes < MAX_KEY_BYTES && node >= 0;) {
            int codePoint = text.codePointAt(at);
            byte[] utf8 = Character.toString(codePoint).getBytes(StandardCharsets.UTF_8);
            at += Character.charCount(codePoint);
            bytes += utf8.length;
            for (int i = 0; i < utf8.length && node >= 0; i++) {
                node ^= utf8[i] & 0xff;
                int unit = node < 0 || node >= trie.length ? 0 : trie[node];
                if ((unit & 0x800000ff) != (utf8[i] & 0xff)) {
                    node = -1;
                } else {
                    node ^= offset(unit);
                    if ((unit >>> 8 & 1) == 1 && i == utf8.length - 1 && node >= 0 && node < trie.length) {
                        value = trie[node] & 0x7fffffff;
                        end = at;
                    }
                }
            }
        }
        if (value < 0 || value >= values.length) {
            return null;
        }
        int length = 0;
        while (values[value + length] != 0) {
            length++;
        }
        return new Replacement(new String(values, value, length, StandardCharsets.UTF_8), end);
    }

    private static int offset(int unit) {
        return unit >>> 10 << ((unit & 1 << 9) >>> 6);
    }
}
