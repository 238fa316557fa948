package dev.lamina.internal.model;

import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * How a row chooses its experts from its router logits, one for each expert. It is computed in Java: what it chooses
 * must be known here, before the experts can be read.
 *
 * @param chosen how many experts a row chooses
 * @param scoring what becomes of the logits first
 * @param groups into how many equal groups the experts are divided; 1: no groups
 * @param chosenGroups from how many of them a row may choose
 * @param groupScore how groups are compared
 * @param normalised whether the weights of a row are divided by their sum
 * @param scale factor of the weights, after that
 */
public record Router(int chosen, Scoring scoring, int groups, int chosenGroups, GroupScore groupScore,
        boolean normalised, float scale) {
    private static final float SMALLEST_SUM = 1e-20f; // as DeepSeek V3's code adds it

    /** From logits to scores. */
    public enum Scoring {
        /** Softmax over all experts. */
        SOFTMAX,
        /** Softmax over the chosen experts, which those with the largest logits are. */
        SOFTMAX_OF_CHOSEN,
        /** 1 / (1 + exp(-x)) of each. */
        SIGMOID,
        /** The same of the chosen experts, which those with the largest logits are. */
        SIGMOID_OF_CHOSEN
    }

    /** The score of a group. */
    public enum GroupScore {
        LARGEST,
        /** The sum of the two largest. */
        LARGEST_TWO
    }

    /** One that chooses among all experts. */
    static Router of(int chosen, Scoring scoring, boolean normalised) {
        return new Router(chosen, scoring, 1, 1, GroupScore.LARGEST, normalised, 1);
    }

    /**
     * Chooses for one row. Of equal scores the first expert is taken. Whatever the numbers are, the experts are
     * different ones of those that are there: a damaged model gives bad text, not more than that.
     *
     * @param logits one for each expert, of which no fewer than {@code chosen} are in the groups that are kept
     * @param bias what is added to scores for the choice, but not for the weights; null for nothing
     * @param experts (chosen): where the numbers of the experts go, best first
     * @param weights (chosen): where their weights go
     */
    public void choose(float[] logits, float @Nullable [] bias, int[] experts, float[] weights) {
        var scores = scores(logits);
        var choice = scores.clone();
        if (bias != null) {
            for (int i = 0; i < choice.length; i++) {
                choice[i] = finite(choice[i] + bias[i]);
            }
        }
        if (groups > 1) {
            excludeGroups(choice);
        }
        for (int i = 0; i < chosen; i++) {
            int best = largest(choice);
            experts[i] = best;
            weights[i] = scores[best];
            choice[best] = Float.NEGATIVE_INFINITY;
        }
        switch (scoring) {
            case SOFTMAX_OF_CHOSEN -> softmax(weights);
            case SIGMOID_OF_CHOSEN -> sigmoid(weights);
            case SOFTMAX, SIGMOID -> { }
        }
        if (normalised) {
            float sum = SMALLEST_SUM;
            for (float weight : weights) {
                sum += weight;
            }
            for (int i = 0; i < chosen; i++) {
                weights[i] /= sum;
            }
        }
        for (int i = 0; i < chosen; i++) {
            weights[i] *= scale;
        }
    }

    private float[] scores(float[] logits) {
        var scores = new float[logits.length];
        for (int i = 0; i < scores.length; i++) {
            scores[i] = finite(logits[i]);
        }
        switch (scoring) {
            case SOFTMAX -> softmax(scores);
            case SIGMOID -> sigmoid(scores);
            case SOFTMAX_OF_CHOSEN, SIGMOID_OF_CHOSEN -> { }
        }
        return scores;
    }

    /** The nearest number that is neither infinite nor none: only what must not be chosen is below all others. */
    private static float finite(float x) {
        return Float.isNaN(x) ? -Float.MAX_VALUE : Math.clamp(x, -Float.MAX_VALUE, Float.MAX_VALUE);
    }

    private static void sigmoid(float[] x) {
        for (int i = 0; i < x.length; i++) {
            x[i] = (float) (1 / (1 + StrictMath.exp(-x[i])));
        }
    }

    private static void softmax(float[] x) {
        float most = x[0];
        for (float each : x) {
            most = Math.max(most, each);
        }
        double sum = 0;
        for (float each : x) {
            sum += StrictMath.exp(each - most);
        }
        for (int i = 0; i < x.length; i++) {
            x[i] = (float) (StrictMath.exp(x[i] - most) / sum);
        }
    }

    /** Leaves the best groups, and puts the experts of all others below any score. */
    private void excludeGroups(float[] choice) {
        int size = choice.length / groups;
        var groupScores = new float[groups];
        for (int group = 0; group < groups; group++) {
            int first = group * size;
            var members = Arrays.copyOfRange(choice, first, first + size);
            Arrays.sort(members);
            groupScores[group] = finite(members[size - 1]
                    + (groupScore == GroupScore.LARGEST_TWO && size > 1 ? members[size - 2] : 0));
        }
        var kept = new boolean[groups];
        for (int i = 0; i < chosenGroups; i++) {
            int best = largest(groupScores);
            kept[best] = true;
            groupScores[best] = Float.NEGATIVE_INFINITY;
        }
        for (int expert = 0; expert < choice.length; expert++) {
            if (!kept[expert / size]) {
                choice[expert] = Float.NEGATIVE_INFINITY;
            }
        }
    }

    private static int largest(float[] x) {
        int best = 0;
        for (int i = 1; i < x.length; i++) {
            if (x[i] > x[best]) {
                best = i;
            }
        }
        return best;
    }
}
