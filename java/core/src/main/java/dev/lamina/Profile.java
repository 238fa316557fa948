package dev.lamina;

import java.util.ArrayList;
import java.util.List;

/**
 * What a model has read, waited for and computed: sums over its sweeps since it was opened. Those of a part of its life
 * are the difference of two, {@link #since}.
 *
 * @param sweeps trips through all weights that were completed
 * @param rows token positions that they computed
 * @param tokens tokens that were sampled
 * @param sweepSeconds time in those sweeps
 * @param sampleSeconds time in which tokens were chosen, after the sweeps
 * @param stages the embedding, the layers and the head, in the order of computing
 */
public record Profile(long sweeps, long rows, long tokens, double sweepSeconds, double sampleSeconds,
        List<Stage> stages) {
    /** Copies the list. */
    public Profile {
        stages = List.copyOf(stages);
    }

    /**
     * What one stage took. Reading goes on while others are computed, so that {@code readSeconds} overlap with the
     * rest; a panel that holds matrices of several stages counts for the first of them.
     *
     * @param name such as {@code "embedding"}, {@code "layer.000"}, {@code "head"}
     * @param weightBytes bytes of weights that were computed with
     * @param diskBytes how many of them came from disk for it; all others were in memory
     * @param readBytes bytes that were read from files: ahead of use too, and what alignment adds
     * @param readSeconds time by which its reads made the disk busy; of reads that overlap, each counts from the end of
     *     the one before it, so that the sum over all stages is the time in which anything was read
     * @param waitSeconds time in which the computation waited for its bytes
     * @param copySeconds time in which bytes were copied between host and device
     * @param computeSeconds time in which its ops were computed
     */
    public record Stage(String name, long weightBytes, long diskBytes, long readBytes, double readSeconds,
            double waitSeconds, double copySeconds, double computeSeconds) {
        /** This one and another one together, under a name. */
        public Stage plus(Stage other, String together) {
            return new Stage(together, weightBytes + other.weightBytes, diskBytes + other.diskBytes,
                    readBytes + other.readBytes, readSeconds + other.readSeconds, waitSeconds + other.waitSeconds,
                    copySeconds + other.copySeconds, computeSeconds + other.computeSeconds);
        }

        private Stage minus(Stage other) {
            return new Stage(name, weightBytes - other.weightBytes, diskBytes - other.diskBytes,
                    readBytes - other.readBytes, readSeconds - other.readSeconds, waitSeconds - other.waitSeconds,
                    copySeconds - other.copySeconds, computeSeconds - other.computeSeconds);
        }
    }

    /** All stages together, under the name {@code "total"}. */
    public Stage total() {
        var total = new Stage("total", 0, 0, 0, 0, 0, 0, 0);
        for (var stage : stages) {
            total = total.plus(stage, total.name);
        }
        return total;
    }

    /**
     * What was added since an earlier profile of the same model.
     *
     * @throws IllegalArgumentException if it is one of another model
     */
    public Profile since(Profile earlier) {
        if (earlier.stages.size() != stages.size()) {
            throw new IllegalArgumentException("profiles of " + stages.size() + " and " + earlier.stages.size()
                    + " stages");
        }
        var added = new ArrayList<Stage>();
        for (int i = 0; i < stages.size(); i++) {
            added.add(stages.get(i).minus(earlier.stages.get(i)));
        }
        return new Profile(sweeps - earlier.sweeps, rows - earlier.rows, tokens - earlier.tokens,
                sweepSeconds - earlier.sweepSeconds, sampleSeconds - earlier.sampleSeconds, added);
    }
}
