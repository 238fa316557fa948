package dev.lamina.internal.text;

import dev.lamina.LaminaException;
import java.util.List;

/**
 * Ends a text before the first stop string in it. Text that may be the start of one is held back until that is certain.
 * For one thread at a time.
 */
public final class StopMatcher {
    private final List<String> stops;
    private String held = "";
    private boolean stopped;

    /**
     * Starts a text.
     *
     * @param stops the stop strings, perhaps none
     * @throws LaminaException if one is empty
     */
    public StopMatcher(List<String> stops) {
        if (stops.contains("")) {
            throw new LaminaException("a stop string is empty: give text that ends the answer, or leave it out");
        }
        this.stops = List.copyOf(stops);
    }

    /**
     * Takes the next piece of text.
     *
     * @return the text that is certain to come before any stop string; nothing once {@link #stopped}
     */
    public String accept(String piece) {
        if (stopped) {
            return "";
        }
        String text = held + piece;
        int end = text.length();
        for (String stop : stops) {
            int at = text.indexOf(stop);
            if (at >= 0 && at < end) {
                end = at;
                stopped = true;
            }
        }
        int certain = stopped ? end : text.length() - heldLength(text);
        held = stopped ? "" : text.substring(certain);
        return text.substring(0, certain);
    }

    /** Returns the length of the longest end of a text that begins a stop string. */
    private int heldLength(String text) {
        int longest = 0;
        for (String stop : stops) {
            for (int length = Math.min(stop.length() - 1, text.length()); length > longest; length--) {
                if (text.regionMatches(text.length() - length, stop, 0, length)) {
                    longest = length;
                }
            }
        }
        return longest;
    }

    /** Returns whether a stop string was found. */
    public boolean stopped() {
        return stopped;
    }

    /** Ends the text and returns what was held back. */
    public String finish() {
        String rest = held;
        held = "";
        return rest;
    }
}
