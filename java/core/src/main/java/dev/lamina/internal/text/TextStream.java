package dev.lamina.internal.text;

import java.util.Arrays;

/**
 * Decodes tokens one by one into pieces of text that never change afterwards. All pieces together are what
 * {@link Tokenizer#decode} makes of all tokens, special tokens left out. For one thread at a time.
 *
 * <p>A token is decoded together with the few before it, since its text depends on them: a blank at the start is
 * dropped, a character may be spread over several tokens. What may still change is held back: half a character, and a
 * run of byte tokens, which decodes as characters only if all of it is valid UTF-8.
 */
public final class TextStream {
    private static final char REPLACEMENT = '\ufffd';
    private static final int LONG_WINDOW = 32;

    private final Tokenizer tokenizer;

    /** Tokens that are decoded with the next one. */
    private int[] window = new int[LONG_WINDOW];
    private int size;

    /** How many tokens of the window, from its start, are context whose text was returned before. */
    private int context;

    /** The part of the window's text that was returned before. */
    private String returned = "";

    /** Starts a text. */
    public TextStream(Tokenizer tokenizer) {
        this.tokenizer = tokenizer;
    }

    /**
     * Takes the next token.
     *
     * @param id any id; one outside the vocabulary gives no text
     * @return the text that became certain, perhaps empty
     */
    public String accept(int id) {
        if (id < 0 || id >= tokenizer.vocabularySize() || tokenizer.isSpecial(id)) {
            return "";
        }
        if (size == window.length) {
            window = Arrays.copyOf(window, 2 * size);
        }
        window[size++] = id;
        if (tokenizer.isByte(id)) {
            return "";
        }
        String text = decode(0, size);
        boolean complete = text.isEmpty() || text.charAt(text.length() - 1) != REPLACEMENT;
        String certain = complete ? text : text.substring(0, text.length() - 1);
        if (certain.length() <= returned.length() || !certain.startsWith(returned)) {
            shorten(text);
            return "";
        }
        String piece = certain.substring(returned.length());
        returned = certain;
        if (complete) {
            // The tokens of this piece are context enough for the next one, unless they are blanks that have no text at
            // the start of one.
            String tail = decode(context, size);
            if (!tail.isEmpty()) {
                drop(context);
                returned = tail;
            }
            context = size;
        } else {
            shorten(text);
        }
        return piece;
    }

    /** Ends the text and returns what was held back; the next token starts a new text. */
    public String finish() {
        String text = decode(0, size);
        String rest = text.startsWith(returned) ? text.substring(returned.length()) : "";
        size = 0;
        context = 0;
        returned = "";
        return rest;
    }

    private String decode(int from, int to) {
        return tokenizer.decode(Arrays.copyOfRange(window, from, to), true);
    }

    private void drop(int count) {
        System.arraycopy(window, count, window, 0, size - count);
        size -= count;
    }

    /** Cuts a window that grows since nothing completes it (a model that goes on with invalid bytes), where it can. */
    private void shorten(String text) {
        if (size < LONG_WINDOW || size % 8 != 0) {
            return;
        }
        for (int keep = 4; keep <= LONG_WINDOW / 2; keep++) {
            String tail = decode(size - keep, size);
            int cut = text.length() - tail.length();
            if (!tail.isEmpty() && cut <= returned.length() && text.endsWith(tail)
                    && decode(0, size - keep).equals(text.substring(0, cut))) {
                returned = returned.substring(cut);
                drop(size - keep);
                context = 0;
                return;
            }
        }
    }
}
