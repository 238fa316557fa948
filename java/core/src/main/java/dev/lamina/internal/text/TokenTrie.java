package dev.lamina.internal.text;

import java.util.Collection;
import java.util.HashMap;
import java.util.Map;

/** Finds the longest of many tokens at a place of a text. Immutable once built; for any number of threads. */
final class TokenTrie {
    private final Map<Character, TokenTrie> next = new HashMap<>();
    private boolean ends;

    private TokenTrie() {}

    static TokenTrie of(Collection<String> tokens) {
        TokenTrie root = new TokenTrie();
        for (String token : tokens) {
            TokenTrie node = root;
            for (int i = 0; i < token.length(); i++) {
                node = node.next.computeIfAbsent(token.charAt(i), c -> new TokenTrie());
            }
            node.ends = true;
        }
        return root;
    }

    /** Returns where the longest token that begins at {@code start} ends; {@code start} if none does. */
    int longest(String text, int start) {
        int end = start;
        TokenTrie node = this;
        for (int i = start; i < text.length(); i++) {
            node = node.next.get(text.charAt(i));
            if (node == null) {
                break;
            }
            if (node.ends) {
                end = i + 1;
            }
        }
        return end;
    }
}
