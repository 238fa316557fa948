package dev.lamina.cli;

import dev.lamina.FinishReason;
import dev.lamina.Generation;
import dev.lamina.GenerationListener;
import dev.lamina.LanguageModel;
import dev.lamina.SweepProgress;
import java.util.Locale;

/** Shows an answer while it is generated: its text, and on a terminal how far the sweep of the moment is. */
final class AnswerView implements GenerationListener {
    private static final double NANOS = 1e9;

    private final Terminal terminal;
    private final LanguageModel model;
    private final boolean showText;
    private final long startNanos = System.nanoTime();
    private int tokens;
    private long sweep = -1;
    private long sweepNanos = startNanos;
    private long lastNanos = startNanos;
    private boolean openLine;

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
            openLine = !piece.endsWith("\n");
        }
    }

    @Override
    public void token(int prompt, int id) {
        tokens++;
    }

    @Override
    public void progress(SweepProgress progress) {
        if (terminal.interrupts().interrupted()) {
            model.cancel();
        }
        long now = System.nanoTime();
        if (progress.sweep() != sweep) {
            sweep = progress.sweep();
            sweepNanos = lastNanos;
        }
        lastNanos = now;
        // Text that streams to a terminal is progress enough, and shares its line.
        boolean textOnTerminal = showText && terminal.outIsTerminal() && tokens > 0;
        if (terminal.status().due(startNanos) && !textOnTerminal) {
            terminal.status().show(describe(progress, (now - sweepNanos) / NANOS));
        }
    }

    private String describe(SweepProgress progress, double seconds) {
        var what = tokens == 0
                ? "prompt, sweep " + (progress.sweep() + 1) + " of " + progress.rows() + " rows"
                : "token " + (tokens + 1);
        double left = seconds * (progress.bytesTotal() - progress.bytesDone()) / Math.max(1, progress.bytesDone());
        return what + ": " + Units.percent(progress.bytesDone(), progress.bytesTotal()) + ", "
                + Units.rate(progress.bytesDone(), seconds) + ", " + Units.seconds(left) + " left";
    }

    /** Ends the line of the text, if it is open. */
    void endLine() {
        terminal.status().clear();
        if (openLine) {
            openLine = false;
            terminal.println("");
        }
    }

    /** One line of figures of an answer. */
    static String figures(Generation answer, long weightBytes) {
        var stats = answer.stats();
        double seconds = stats.prefillSeconds() + stats.decodeSeconds();
        return String.format(Locale.ROOT,
                "%s%d + %d tokens in %s, %.2f tokens/s, read %s at %s, %s of the weights resident, peak memory %s",
                answer.finishReason() == FinishReason.CANCELLED ? "cancelled: " : "",
                stats.promptTokens(), stats.generatedTokens(), Units.seconds(seconds), stats.tokensPerSecond(),
                Units.bytes(stats.diskBytes()), Units.rate(stats.diskBytes(), seconds),
                Units.percent(stats.residentBytes(), weightBytes), Units.memory(stats.peakHostBytes()));
    }
}
