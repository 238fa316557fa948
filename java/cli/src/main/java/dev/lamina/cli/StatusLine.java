package dev.lamina.cli;

import java.io.PrintStream;

/** One line on a terminal that is written over and over; without a terminal there is none. */
final class StatusLine {
    private static final long PATIENCE_NANOS = 500_000_000;
    private static final long INTERVAL_NANOS = 150_000_000;

    private final PrintStream err;
    private final boolean terminal;
    private long lastNanos;
    private boolean shown;

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

    /** Shows a text in place of the one before. */
    void show(String text) {
        if (terminal) {
            lastNanos = System.nanoTime();
            shown = true;
            err.print("\r\033[K" + text);
            err.flush();
        }
    }

    /** Takes the line away. */
    void clear() {
        if (shown) {
            shown = false;
            err.print("\r\033[K");
            err.flush();
        }
    }
}
