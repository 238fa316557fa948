package dev.lamina.cli;

import dev.lamina.FinishReason;
import dev.lamina.Generation;
import dev.lamina.GenerationListener;
import dev.lamina.LanguageModel;
import dev.lamina.SweepProgress;
import java.util.Locale;

/** Shows an answer while it is generated: its text, and on a terminal how far and how fast it is. */
class AnswerView implements GenerationListener {
    private static final double NANOS = 1e9;

    private final Terminal terminal;
    private final LanguageModel model;
    private final boolean showText;
    private final long startNanos = System.nanoTime();
    private int tokens;
    private long sweep = -1;
    private long sweepNanos = startNanos;
    private long lastNanos = startNanos;
    private long firstTokenNanos;
    private long tokenNanos = startNanos;
    private long rateNanos = startNanos; // begin of the sweep before this one
    private long rateBytes; // that the sweep before this one read
    private long sweepBytes;
    private final StringBuilder openLine = new StringBuilder(); // text since the last line break

    /**
     * Makes a view for one answer.
     *
     * @param model is cancelled when a signal comes
     * @param showText whether to print the text on stdout
     */
    AnswerView(Terminal terminal, LanguageModel model, boolean showText) {
        this.terminal = terminal;
        this.model = model;
        this.showText = showText;
    }

    @Override
    public void text(String piece) {
        if (showText && !piece.isEmpty()) {
            terminal.status().clear();
            terminal.print(piece);
            int lineBreak = piece.lastIndexOf('\n');
            if (lineBreak >= 0) {
                openLine.setLength(0);
            }
            openLine.append(piece, lineBreak + 1, piece.length());
        }
    }

    @Override
    public void token(int prompt, int id) {
        tokenNanos = System.nanoTime();
        if (tokens++ == 0) {
            firstTokenNanos = tokenNanos;
        }
    }

    @Override
    public void progress(SweepProgress progress) {
        if (terminal.interrupts().interrupted()) {
            model.cancel();
        }
        long now = System.nanoTime();
        if (progress.sweep() != sweep) {
            sweep = progress.sweep();
            rateNanos = sweepNanos;
            rateBytes = sweepBytes;
            sweepNanos = lastNanos;
        }
        lastNanos = now;
        sweepBytes = progress.diskBytes();
        // Text that streams to the same terminal is progress enough, unless a token takes long.
        boolean besideText = showText && terminal.outIsTerminal() && tokens > 0;
        if (terminal.status().due(besideText ? tokenNanos : startNanos)) {
            if (!besideText || openLine.isEmpty()) {
                terminal.status().show(describe(progress, now));
            } else if (staysInPlace(terminal.columns())) {
                terminal.status().showBelow(describe(progress, now));
            }
        }
    }

    /**
     * Whether a terminal finds back to the end of the text: not where the line is full, for then it has yet to begin
     * the next one and forgets to.
     */
    private boolean staysInPlace(int columns) {
        return columns > 0 && !Columns.endsAtTheEdge(openLine, columns);
    }

    private String describe(SweepProgress progress, long now) {
        var what = tokens == 0
                ? "prompt, sweep " + (progress.sweep() + 1) + " of " + progress.rows() + " rows"
                : "token " + (tokens + 1);
        double done = (double) progress.bytesDone() / Math.max(1, progress.bytesTotal());
        double left = (now - sweepNanos) / NANOS * (1 - done) / done;
        var speed = tokens == 0 ? "" : String.format(Locale.ROOT, "%.2f tokens/s, ",
                (tokens - 1 + done) / Math.max(1e-9, (now - firstTokenNanos) / NANOS));
        return what + ": " + Units.percent(progress.bytesDone(), progress.bytesTotal()) + ", " + Units.seconds(left)
                + " left, " + speed + Units.rate(rateBytes + sweepBytes, (now - rateNanos) / NANOS) + " from disk, "
                + Units.percent(progress.residentBytes(), progress.bytesTotal()) + " resident";
    }

    /** Ends the line of the text, if it is open. */
    void endLine() {
        terminal.status().clear();
        if (!openLine.isEmpty()) {
            openLine.setLength(0);
            terminal.println("");
        }
    }

    /**
     * One line of figures of an answer.
     *
     * @param ioLimit the rate that reads were limited to; 0: not at all
     */
    static String figures(Generation answer, long weightBytes, long ioLimit) {
        var stats = answer.stats();
        double seconds = stats.prefillSeconds() + stats.decodeSeconds();
        return String.format(Locale.ROOT,
                "%s%d + %d tokens in %s, %.2f tokens/s, read %s at %s, %s of the weights resident, peak memory %s%s",
                answer.finishReason() == FinishReason.CANCELLED ? "cancelled: " : "",
                stats.promptTokens(), stats.generatedTokens(), Units.seconds(seconds), stats.tokensPerSecond(),
                Units.bytes(stats.diskBytes()), Units.rate(stats.diskBytes(), seconds),
                Units.percent(stats.residentBytes(), weightBytes), Units.memory(stats.peakHostBytes()),
                ioLimit == 0 ? "" : ", limited to " + Units.rate(ioLimit, 1) + " by --io-limit");
    }
}
