package dev.lamina.internal.text;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Tokens that stand for themselves: texts are cut at them before anything else is done. Immutable. */
final class AddedTokens {
    private static final int MAX_LENGTH = 1024;
    private static final int MAX_ID = (1 << 24) - 1;

    private final Map<Integer, Token> byId = new HashMap<>();
    private final Map<String, Token> byText = new HashMap<>();
    private final TokenTrie trie;

    /**
     * A token.
     *
     * @param special whether it belongs to the format and not to what is said
     * @param inText whether it is recognised where a text has it
     * @param stripsLeft whether white space before it goes
     * @param stripsRight whether white space behind it goes
     */
    record Token(int id, String text, boolean special, boolean inText, boolean stripsLeft, boolean stripsRight) {
        /** A special token. */
        static Token special(int id, String text, boolean inText) {
            return new Token(id, text, true, inText, false, false);
        }
    }

    /** A token, or the text between two; the text is empty where it is a token. */
    record Segment(String text, @Nullable Token token) {}

    /**
     * Takes all tokens; of several with one id, or with one text, the last one counts.
     *
     * @throws IllegalArgumentException if the id or the text of one cannot be those of a token
     */
    AddedTokens(Collection<Token> tokens) {
        for (Token token : tokens) {
            if (token.text.isEmpty() || token.text.length() > MAX_LENGTH || token.id < 0 || token.id > MAX_ID) {
                throw new IllegalArgumentException(
                        "the added token " + token.id + " " + TextFiles.quote(token.text) + ", which cannot be one");
            }
            Token sameId = byId.put(token.id, token);
            if (sameId != null) {
                byText.remove(sameId.text);
            }
            Token sameText = byText.put(token.text, token);
            if (sameText != null) {
                byId.remove(sameText.id, sameText);
            }
        }
        trie = TokenTrie.of(byText.values().stream().filter(Token::inText).map(Token::text).toList());
    }

    @Nullable Token get(int id) {
        return byId.get(id);
    }

    @Nullable Token get(String text) {
        return byText.get(text);
    }

    Collection<Token> all() {
        return byId.values();
    }

    /** Cuts a text at all tokens that are recognised in it; of several at one place the longest counts. */
    List<Segment> split(String text) {
        List<Segment> segments = new ArrayList<>();
        int from = 0;
        for (int at = 0; at < text.length();) {
            int end = trie.longest(text, at);
            Token token = end == at ? null : byText.get(text.substring(at, end));
            if (token == null) {
                at++;
                continue;
            }
            int left = at;
            while (token.stripsLeft && left > from && isSpace(text.charAt(left - 1))) {
                left--;
            }
            while (token.stripsRight && end < text.length() && isSpace(text.charAt(end))) {
                end++;
            }
            addText(text.substring(from, left), segments);
            segments.add(new Segment("", token));
            at = end;
            from = end;
        }
        addText(text.substring(from), segments);
        return segments;
    }

    private static boolean isSpace(char c) {
        return Character.isWhitespace(c) || Character.isSpaceChar(c);
    }

    private static void addText(String text, List<Segment> segments) {
        if (!text.isEmpty()) {
            segments.add(new Segment(text, null));
        }
    }
}
