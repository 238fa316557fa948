package dev.lamina.cli;

import dev.lamina.internal.shard.SplitListener;

/** Shows how far a split or a verification is: live on a terminal, elsewhere a line every ten seconds. */
final class FileProgress implements SplitListener {
    private static final long LINE_NANOS = 10_000_000_000L;
    private static final double NANOS = 1e9;

    private final Terminal terminal;
    private Phase phase = Phase.COPY;
    private long startNanos = System.nanoTime();
    private long lineNanos = startNanos;

    FileProgress(Terminal terminal) {
        this.terminal = terminal;
    }

    @Override
    public void progress(Phase phase, long doneBytes, long totalBytes) {
        terminal.interrupts().check();
        long now = System.nanoTime();
        if (doneBytes == 0 || phase != this.phase) {
            this.phase = phase;
            startNanos = now;
        }
        if (doneBytes == 0) {
            return;
        }
        if (terminal.status().due(startNanos)) {
            terminal.status().show(describe(doneBytes, totalBytes, (now - startNanos) / NANOS));
        } else if (!terminal.status().enabled() && now - lineNanos >= LINE_NANOS) {
            lineNanos = now;
            terminal.err().println(describe(doneBytes, totalBytes, (now - startNanos) / NANOS));
        }
    }

    private String describe(long done, long total, double seconds) {
        double left = seconds * (total - done) / done;
        return (phase == Phase.COPY ? "copying" : "verifying") + ": " + Units.percent(done, total) + ", "
                + Units.bytes(done) + " of " + Units.bytes(total) + ", " + Units.rate(done, seconds) + ", "
                + Units.seconds(left) + " left";
    }
}
