package dev.lamina.internal.generate;

import java.util.Arrays;
import java.util.BitSet;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;

/**
 * Chooses the next token of one sequence. The order of the filters is that of the transformers library: repetition
 * penalty, temperature, top-k, top-p, min-p. With the same logits and seed it chooses the same tokens on every machine:
 * all sums run in a fixed order, over {@link StrictMath}.
 */
final class Sampler {
    private final double temperature;
    private final int topK;
    private final double topP;
    private final double minP;
    private final double repetitionPenalty;
    private final RandomGenerator random;
    private final BitSet seen = new BitSet();

    /** Makes a sampler; temperature 0 is greedy. */
    Sampler(double temperature, int topK, double topP, double minP, double repetitionPenalty, long seed) {
        this.temperature = temperature;
        this.topK = topK;
        this.topP = topP;
        this.minP = minP;
        this.repetitionPenalty = repetitionPenalty;
        this.random = RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
    }

    /** Notes a token of the prompt or of the answer, for the repetition penalty. */
    void see(int token) {
        seen.set(token);
    }

    /**
     * Chooses a token.
     *
     * @param logits one for each token of the vocabulary; the penalty changes them
     */
    int sample(float[] logits) {
        penalise(logits);
        return temperature == 0 ? likeliest(logits) : draw(logits);
    }

    private void penalise(float[] values) {
        if (repetitionPenalty != 1) {
            float penalty = (float) repetitionPenalty;
            for (int token = seen.nextSetBit(0); token >= 0 && token < values.length;
                    token = seen.nextSetBit(token + 1)) {
                values[token] = values[token] < 0 ? values[token] * penalty : values[token] / penalty;
            }
        }
    }

    /** The first of the largest; a NaN is never chosen. */
    private static int likeliest(float[] values) {
        int best = 0;
        for (int i = 1; i < values.length; i++) {
            if (values[i] > values[best] || Float.isNaN(values[best])) {
                best = i;
            }
        }
        return best;
    }

    private int draw(float[] values) {
        var order = byLikelihood(values);
        int count = order.length;
        if (count == 0) {
            return likeliest(values);
        }
        double most = logit(order[0]);
        var weights = new double[count];
        double total = 0;
        for (int i = 0; i < count; i++) {
            weights[i] = StrictMath.exp((logit(order[i]) - most) / temperature);
            total += weights[i];
        }
        if (topP < 1) {
            double sum = 0;
            int kept = 0;
            while (kept < count && (kept == 0 || sum < topP * total)) {
                sum += weights[kept++];
            }
            count = kept;
        }
        while (minP > 0 && count > 1 && weights[count - 1] < minP * weights[0]) {
            count--;
        }
        double mass = 0;
        for (int i = 0; i < count; i++) {
            mass += weights[i];
        }
        double point = random.nextDouble() * mass;
        for (int i = 0; i < count - 1; i++) {
            point -= weights[i];
            if (point < 0) {
                return token(order[i]);
            }
        }
        return token(order[count - 1]);
    }

    /**
     * The likeliest tokens, at most top-k of them, likeliest first, the lower id first among equals. Each entry packs
     * the logit, in an order-preserving form, and the token.
     */
    private long[] byLikelihood(float[] values) {
        var packed = new long[values.length];
        int count = 0;
        for (int token = 0; token < values.length; token++) {
            if (!Float.isNaN(values[token]) && values[token] != Float.NEGATIVE_INFINITY) {
                packed[count++] = pack(values[token], token);
            }
        }
        Arrays.sort(packed, 0, count);
        return Arrays.copyOf(packed, topK == 0 ? count : Math.min(topK, count));
    }

    /** Ascending order of the packed numbers is descending order of the logits. */
    private static long pack(float logit, int token) {
        int bits = Float.floatToIntBits(logit);
        int ascending = bits ^ (bits >> 31 & Integer.MAX_VALUE);
        return (long) ~ascending << 32 | token;
    }

    private static double logit(long packed) {
        int ascending = ~(int) (packed >> 32);
        return Float.intBitsToFloat(ascending ^ (ascending >> 31 & Integer.MAX_VALUE));
    }

    private static int token(long packed) {
        return (int) packed;
    }
}
