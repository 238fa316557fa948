package dev.lamina.cli;

import java.io.PrintStream;

/** One line on a terminal that is written over and over; without a terminal there is none. */
final class StatusLine {
    /** Longer than the terminal is wide, it is cut off and not wrapped. */
    private static final String NO_WRAP = "\033[?7l";

    private static final String WRAP = "\033[?7h";
    private static final String CLEAR_LINE = "\r\033[K";

    /** Makes sure that there is a line below, in which case the screen scrolls, and comes back. */
    private static final String MAKE_ROOM = "\033D\033M";

    private static final String SAVE_AND_GO_BELOW = "\0337\033[B" + CLEAR_LINE;
    private static final String GO_BACK = "\0338";

    private enum Place { NOWHERE, HERE, BELOW }

    private static final long PATIENCE_NANOS = 500_000_000;
    private static final long INTERVAL_NANOS = 150_000_000;

    private final PrintStream err;
    private final boolean terminal;
    private long lastNanos;
    private Place shown = Place.NOWHERE;

    StatusLine(PrintStream err, boolean terminal) {
        this.err = err;
        this.terminal = terminal;
    }

    /** Whether there is a terminal to show it on. */
    boolean enabled() {
        return terminal;
    }

    /** Whether it is time to show something new of what began at a moment: not before it takes a while. */
    boolean due(long startNanos) {
        long now = System.nanoTime();
        return terminal && now - startNanos >= PATIENCE_NANOS && now - lastNanos >= INTERVAL_NANOS;
    }

    /** Shows a text on the line of the cursor, in place of the one before. */
    void show(String text) {
        put(Place.HERE, CLEAR_LINE + NO_WRAP + text + WRAP);
    }

    /** Shows a text on the line below the cursor, which stays where it is: it is at the end of a text. */
    void showBelow(String text) {
        put(Place.BELOW, MAKE_ROOM + SAVE_AND_GO_BELOW + NO_WRAP + text + WRAP + GO_BACK);
    }

    private void put(Place place, String text) {
        if (terminal) {
            lastNanos = System.nanoTime();
            if (shown != place) {
                clear();
            }
            shown = place;
            err.print(text);
            err.flush();
        }
    }

    /** Takes the line away. */
    void clear() {
        if (shown != Place.NOWHERE) {
            err.print(shown == Place.HERE ? CLEAR_LINE : SAVE_AND_GO_BELOW + GO_BACK);
            err.flush();
            shown = Place.NOWHERE;
        }
    }
}
