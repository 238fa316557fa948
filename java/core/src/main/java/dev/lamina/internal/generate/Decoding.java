package dev.lamina.internal.generate;

import dev.lamina.FinishReason;
import dev.lamina.Generation;
import dev.lamina.GenerationListener;
import dev.lamina.internal.generate.Sweep.Output;
import dev.lamina.internal.generate.Sweep.Part;
import dev.lamina.internal.telemetry.Telemetry;
import dev.lamina.internal.telemetry.Telemetry.Activity;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.function.BooleanSupplier;

/**
 * The generation loop: sweeps until every answer has ended. Answers that decode move by one token a sweep; the rows
 * that are left go to prompts, in their order, so that a long prompt takes several sweeps.
 */
final class Decoding {
    private final Sweep sweep;
    private final LogitsRows logits;
    private final int rowsPerSweep;
    private final GenerationListener listener;
    private final BooleanSupplier cancelled;
    private final Telemetry telemetry;

    /**
     * Makes a loop.
     *
     * @param rowsPerSweep most rows of a sweep, at least one for each answer
     */
    Decoding(Sweep sweep, LogitsRows logits, int rowsPerSweep, GenerationListener listener, BooleanSupplier cancelled,
            Telemetry telemetry) {
        this.sweep = sweep;
        this.logits = logits;
        this.rowsPerSweep = rowsPerSweep;
        this.listener = listener;
        this.cancelled = cancelled;
        this.telemetry = telemetry;
    }

    /** Runs to the end and returns one result for each answer. */
    List<Generation> run(List<Answer> answers, RunStart start) throws IOException {
        var live = new ArrayList<>(answers);
        live.removeIf(Answer::finished);
        while (!live.isEmpty()) {
            var parts = nextParts(live);
            if (!sweep.run(parts, logits, listener::progress, cancelled)) {
                live.forEach(answer -> answer.finish(FinishReason.CANCELLED));
                break;
            }
            int row = 0;
            for (var answer : List.copyOf(live)) {
                if (answer.sequence().pending() == 0) {
                    start.noteToken();
                    answer.accept(sample(answer, row++));
                }
            }
            live.removeIf(Answer::finished);
        }
        return answers.stream()
                .map(answer -> new Generation(answer.ids(), answer.text(), answer.finishReason(),
                        start.stats(answer, sweep.done())))
                .toList();
    }

    private int sample(Answer answer, int row) {
        telemetry.begin(Activity.SAMPLE, Telemetry.SWEEP_LANE);
        long start = System.nanoTime();
        int token = answer.sampler().sample(logits.row(row));
        telemetry.sampled(answer.index(), token, start, System.nanoTime());
        return token;
    }

    /** One row for each answer that decodes, then as much of the prompts as there is room for. */
    private List<Part> nextParts(List<Answer> live) {
        int decoding = (int) live.stream().filter(answer -> answer.sequence().pending() == 1).count();
        int room = rowsPerSweep - decoding;
        var parts = new ArrayList<Part>();
        for (var answer : live) {
            int pending = answer.sequence().pending();
            int count = pending == 1 ? 1 : Math.min(pending, Math.min(room, Division.PREFILL_ROWS));
            if (count > 0) {
                parts.add(new Part(answer.sequence(), count, count == pending ? Output.LAST : Output.NONE));
                room -= pending == 1 ? 0 : count;
            }
        }
        return parts;
    }
}
