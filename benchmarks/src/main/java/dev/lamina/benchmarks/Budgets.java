package dev.lamina.benchmarks;

import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Rates;
import java.nio.file.Path;

/** Finds the budget under which a chosen share of the weights stays in memory. */
final class Budgets {
    private static final long STEP = 1L << 20;

    /** A short ring leaves gaps that small panels fit in: so much in memory still counts as nothing. */
    private static final double NOTHING = 0.01;

    private Budgets() {}

    /**
     * The largest budget under which at most that share stays, or a hundredth. With a share of 0 that is one with room
     * for a ring of full length, so that what is measured is streaming and not want.
     *
     * @param options how the model will be opened; their memory does not matter
     * @param share from 0 to 1; 1: the least budget that holds all weights
     * @param positions of the KV caches of all sequences together
     * @return bytes
     */
    static long forShare(Path model, ModelOptions options, double share, int positions) {
        if (!(share >= 0 && share <= 1)) {
            throw new IllegalArgumentException("a share is a number from 0 to 1, not " + share);
        }
        try (var opened = LanguageModel.open(model.toString(), options)) {
            var needs = opened.memoryNeeds(positions);
            if (share == 1) {
                return needs.whole();
            }
            double most = Math.max(share, NOTHING) * opened.info().weightBytes();
            long low = needs.least();
            long high = needs.whole();
            while (high - low > STEP) {
                long middle = low + (high - low) / 2;
                if (opened.plan(middle, positions, Rates.assumed()).residentBytes() <= most) {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            return low;
        }
    }
}
