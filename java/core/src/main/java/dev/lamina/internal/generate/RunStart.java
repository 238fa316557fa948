package dev.lamina.internal.generate;

import dev.lamina.GenerationStats;
import dev.lamina.internal.stream.StreamCounters;

/** The state of clock and counters when a call began, from which its figures follow. */
final class RunStart {
    private static final double NANOS = 1e9;

    private final Budget budget;
    private final StreamCounters countersBefore;
    private final long nanosBefore = System.nanoTime();
    private long firstTokenNanos;

    RunStart(Budget budget) {
        this.budget = budget;
        this.countersBefore = budget.counters();
    }

    /** Notes that a token is about to be sampled. */
    void noteToken() {
        if (firstTokenNanos == 0) {
            firstTokenNanos = System.nanoTime();
        }
    }

    /** The figures up to now. */
    GenerationStats stats(Answer answer, long sweeps) {
        long now = System.nanoTime();
        long first = firstTokenNanos == 0 ? now : firstTokenNanos;
        var counters = budget.counters().minus(countersBefore);
        return new GenerationStats(
                answer.promptTokens(),
                answer.cachedTokens(),
                answer.ids().size(),
                (first - nanosBefore) / NANOS,
                (now - first) / NANOS,
                sweeps,
                counters.weightBytes(),
                counters.rowBytes(),
                counters.paddingBytes(),
                counters.discardedBytes() + budget.readAheadBytes(),
                counters.waitNanos() / NANOS,
                budget.residentBytes(),
                budget.peakBytes(),
                counters.expertsUsed(),
                counters.expertsRead(),
                counters.expertBytes(),
                counters.predictedBytes(),
                counters.mispredictedBytes());
    }
}
