package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * A rotary position embedding: how fast each pair of a head's elements turns from one position to the next (RoFormer,
 * <a href="https://arxiv.org/abs/2104.09864">arXiv 2104.09864</a>), with the scalings that published models use.
 *
 * @param id number in its program, from 0; -1 before it is in one
 * @param dim elements of a head that are rotated, even
 * @param theta base of the geometric series of wavelengths
 * @param maxPositions {@code max_position_embeddings}
 * @param scaling how the frequencies are stretched for contexts beyond those of the pre-training
 * @param growth factor of what is rotated, by position
 */
public record Rope(int id, int dim, double theta, int maxPositions, Scaling scaling, Growth growth) {

    /** A factor that grows with the position. */
    public sealed interface Growth {
        /** 1 */
        record None() implements Growth {}

        /** The logarithm of the positions so far to the base of a length, where they are more, as in QWen. */
        record Logarithm(int length) implements Growth {}

        /** 1 + scale * log(1 + floor(positions so far / floor)), as in Llama 4. */
        record Temperature(double floor, double scale) implements Growth {}
    }

    /** How frequencies are stretched. */
    public sealed interface Scaling {
        /** As trained. */
        record None() implements Scaling {}

        /** No rotation: what is left is {@link Growth}. */
        record Still() implements Scaling {}

        /** All positions divided by {@code factor}. */
        record Linear(double factor) implements Scaling {}

        /** NTK-aware base, which grows with the length of the sequence once that is above {@code maxPositions}. */
        record Dynamic(double factor) implements Scaling {}

        /**
         * NTK-aware base of QWen v1, which doubles and more each time that the length of the sequence doubles, once that
         * is above {@code length}.
         */
        record QwenDynamic(int length) implements Scaling {}

        /**
         * LongRoPE, <a href="https://arxiv.org/abs/2402.13753">arXiv 2402.13753</a>: a divisor for each pair.
         *
         * @param shortFactors for sequences of at most that many positions
         * @param longFactors for longer ones
         * @param attentionFactor factor of cosines and sines
         */
        record Long(List<Double> shortFactors, List<Double> longFactors, int originalPositions, double attentionFactor)
                implements Scaling {}

        /** Llama 3.1: long wavelengths are stretched, short ones are kept, those between are blended. */
        record Llama3(double factor, double lowFactor, double highFactor, int originalPositions) implements Scaling {}

        /**
         * YaRN, <a href="https://arxiv.org/abs/2309.00071">arXiv 2309.00071</a>.
         *
         * @param attentionFactor factor of cosines and sines
         * @param truncate whether the borders of the ramp are rounded to whole dimensions
         */
        record Yarn(double factor, double betaFast, double betaSlow, int originalPositions, double attentionFactor,
                boolean truncate) implements Scaling {}
    }

    /**
     * Reads {@code rope_theta} and {@code rope_scaling} (or the newer {@code rope_parameters}) of a configuration.
     *
     * @param headDim elements of a head that are rotated
     * @param maxPositions {@code max_position_embeddings}
     */
    static Rope of(ModelConfig config, int headDim, int maxPositions) {
        return of(config, parameters(config), headDim, maxPositions);
    }

    /** The object that holds them; null where there is none. */
    static @Nullable ModelConfig parameters(ModelConfig config) {
        var scaling = config.object("rope_scaling");
        return scaling == null || scaling.isEmpty() ? config.object("rope_parameters") : scaling;
    }

    /** The name of the scaling. */
    static String type(ModelConfig parameters) {
        return parameters.stringOr("rope_type", parameters.stringOr("type", "default"));
    }

    /** The same with the rope parameters in an object of their own; null: there is {@code rope_theta} alone. */
    static Rope of(ModelConfig config, @Nullable ModelConfig found, int headDim, int maxPositions) {
        return of(config, found, config.positiveOr("rope_theta", 10000.0), headDim, maxPositions);
    }

    /** The same with a base for parameters that have none; where there are none, it turns as trained. */
    static Rope of(ModelConfig config, @Nullable ModelConfig found, double defaultTheta, int headDim,
            int maxPositions) {
        if (found != null && found.isNested()) {
            throw new LaminaException(found.where() + ": rope parameters for each layer type are not supported here.");
        }
        var parameters = found == null ? config : found;
        double theta = found == null ? defaultTheta : found.positiveOr("rope_theta", defaultTheta);
        var type = found == null ? "default" : type(found);
        if (headDim < 2 || headDim % 2 != 0) {
            throw new LaminaException(
                    config.where() + ": heads of " + headDim + " elements cannot be rotated in pairs.");
        }
        var scaling = switch (type) {
            case "default" -> new Scaling.None();
            case "linear" -> new Scaling.Linear(factor(parameters));
            case "dynamic" -> new Scaling.Dynamic(factor(parameters));
            case "llama3" -> llama3(parameters, originalPositions(config, parameters, maxPositions));
            case "yarn" -> yarn(parameters, maxPositions, originalPositions(config, parameters, maxPositions));
            case "longrope", "su" -> longRope(parameters, headDim / 2, maxPositions,
                    originalPositions(config, parameters, maxPositions));
            default -> throw new LaminaException(parameters.where() + ": the rope type \"" + type
                    + "\" is not supported; default, linear, dynamic, llama3, longrope and yarn are.");
        };
        return new Rope(-1, headDim, theta, maxPositions, scaling, new Growth.None());
    }

    /** The same with another number in its program. */
    Rope withId(int id) {
        return new Rope(id, dim, theta, maxPositions, scaling, growth);
    }

    /** The same with another factor by position. */
    Rope withGrowth(Growth growth) {
        return new Rope(id, dim, theta, maxPositions, scaling, growth);
    }

    /** The same with another scaling. */
    Rope withScaling(Scaling scaling) {
        return new Rope(id, dim, theta, maxPositions, scaling, growth);
    }

    private static double factor(ModelConfig parameters) {
        return required(parameters, "factor");
    }

    private static double required(ModelConfig parameters, String key) {
        if (!parameters.has(key)) {
            throw new LaminaException(
                    parameters.where() + " has no \"" + key + "\": the model cannot be built without it.");
        }
        return parameters.positiveOr(key, 1.0);
    }

    /** The value beside the parameters wins over the one inside, as in the transformers library. */
    private static int originalPositions(ModelConfig config, ModelConfig parameters, int maxPositions) {
        var key = "original_max_position_embeddings";
        return config.intOr(key, parameters.intOr(key, maxPositions, 1, Integer.MAX_VALUE), 1, Integer.MAX_VALUE);
    }

    private static Scaling llama3(ModelConfig parameters, int original) {
        double low = required(parameters, "low_freq_factor");
        double high = required(parameters, "high_freq_factor");
        if (high <= low) {
            throw new LaminaException(parameters.where() + ": \"high_freq_factor\" must be above \"low_freq_factor\".");
        }
        return new Scaling.Llama3(factor(parameters), low, high, original);
    }

    private static Scaling yarn(ModelConfig parameters, int maxPositions, int original) {
        double factor = parameters.has("factor") ? factor(parameters) : (double) maxPositions / original;
        double mscale = parameters.doubleOr("mscale", 0);
        double mscaleAllDim = parameters.doubleOr("mscale_all_dim", 0);
        double inferred = mscale != 0 && mscaleAllDim != 0
                ? yarnScale(factor, mscale) / yarnScale(factor, mscaleAllDim)
                : yarnScale(factor, 1);
        return new Scaling.Yarn(factor, parameters.positiveOr("beta_fast", 32), parameters.positiveOr("beta_slow", 1),
                original, parameters.doubleOr("attention_factor", inferred), parameters.booleanOr("truncate", true));
    }

    private static Scaling longRope(ModelConfig parameters, int pairs, int maxPositions, int original) {
        var shortFactors = parameters.positives("short_factor");
        var longFactors = parameters.positives("long_factor");
        if (shortFactors.size() != pairs || longFactors.size() != pairs) {
            throw new LaminaException(parameters.where() + ": \"short_factor\" and \"long_factor\" must have " + pairs
                    + " numbers, but have " + shortFactors.size() + " and " + longFactors.size() + ".");
        }
        double factor = parameters.has("factor") ? factor(parameters) : (double) maxPositions / original;
        double inferred = factor <= 1 ? 1 : Math.sqrt(1 + StrictMath.log(factor) / StrictMath.log(original));
        return new Scaling.Long(shortFactors, longFactors, original,
                parameters.doubleOr("attention_factor", inferred));
    }

    static double yarnScale(double factor, double mscale) {
        return factor <= 1 ? 1.0 : 0.1 * mscale * StrictMath.log(factor) + 1.0;
    }

    /** Whether its frequencies depend on the length of the sequence. */
    public boolean growsWithLength() {
        return growsWithEachToken() || scaling instanceof Scaling.Long || scaling instanceof Scaling.QwenDynamic;
    }

    /** Whether each token beyond the positions that the model was trained for changes its frequencies. */
    public boolean growsWithEachToken() {
        return scaling instanceof Scaling.Dynamic;
    }

    /** Positions that the model was made for, as far as its rope tells. */
    public int contextLimit() {
        double limit = switch (scaling) {
            case Scaling.None none -> maxPositions;
            case Scaling.Still still -> maxPositions;
            case Scaling.Long stretched -> maxPositions;
            case Scaling.Llama3 llama3 -> maxPositions;
            case Scaling.Linear linear -> maxPositions * Math.max(1, linear.factor);
            case Scaling.Dynamic dynamic -> Integer.MAX_VALUE;
            case Scaling.QwenDynamic dynamic -> Integer.MAX_VALUE;
            case Scaling.Yarn yarn -> Math.max(maxPositions, yarn.originalPositions * yarn.factor);
        };
        return (int) Math.min(Integer.MAX_VALUE, limit);
    }

    /**
     * The angle, in radians, that each pair turns from one position to the next: (dim / 2), float precision as in the
     * reference code.
     *
     * @param sequenceLength positions of the sequence; some scalings depend on it
     */
    public float[] frequencies(int sequenceLength) {
        return switch (scaling) {
            case Scaling.None none -> series(theta);
            case Scaling.Still still -> new float[dim / 2];
            case Scaling.QwenDynamic dynamic -> {
                double doublings =
                        Math.ceil(StrictMath.log((double) sequenceLength / dynamic.length) / StrictMath.log(2));
                double alpha = sequenceLength <= dynamic.length ? 1 : StrictMath.pow(2, doublings + 1) - 1;
                yield series(theta * StrictMath.pow(alpha, dim / (dim - 2.0)));
            }
            case Scaling.Long stretched -> {
                var factors = sequenceLength > stretched.originalPositions
                        ? stretched.longFactors
                        : stretched.shortFactors;
                var result = new float[dim / 2];
                for (int i = 0; i < result.length; i++) {
                    result[i] = 1f / (factors.get(i).floatValue() * power(theta, i));
                }
                yield result;
            }
            case Scaling.Linear linear -> {
                var result = series(theta);
                for (int i = 0; i < result.length; i++) {
                    result[i] = (float) (result[i] / linear.factor);
                }
                yield result;
            }
            case Scaling.Dynamic dynamic -> {
                double length = Math.max(sequenceLength, maxPositions);
                double stretch = dynamic.factor * length / maxPositions - (dynamic.factor - 1);
                yield series(theta * StrictMath.pow(stretch, dim / (dim - 2.0)));
            }
            case Scaling.Llama3 llama3 -> stretchLongWaves(llama3);
            case Scaling.Yarn yarn -> blend(yarn);
        };
    }

    /** Factor of the cosines and sines. */
    private float attentionFactor() {
        return switch (scaling) {
            case Scaling.Yarn yarn -> (float) yarn.attentionFactor;
            case Scaling.Long stretched -> (float) stretched.attentionFactor;
            default -> 1f;
        };
    }

    private float growth(int position) {
        return switch (growth) {
            case Growth.None none -> 1f;
            case Growth.Logarithm logarithm -> position < logarithm.length
                    ? 1f
                    : (float) (StrictMath.log(position + 1.0) / StrictMath.log(logarithm.length));
            case Growth.Temperature temperature -> (float) (1
                    + temperature.scale * StrictMath.log1p(Math.floor((position + 1) / temperature.floor)));
        };
    }

    /**
     * Writes the cosines of a position's angles, then their sines.
     *
     * @param frequencies as {@link #frequencies} gave them
     * @param position from 0
     * @param out (dim): cosines and sines of dim / 2 pairs
     */
    public void table(float[] frequencies, int position, float[] out) {
        float factor = attentionFactor() * growth(position);
        for (int i = 0; i < dim / 2; i++) {
            double angle = frequencies[i] * position;
            out[i] = (float) StrictMath.cos(angle) * factor;
            out[dim / 2 + i] = (float) StrictMath.sin(angle) * factor;
        }
    }

    /** 1 / base^(2 i / dim) for each pair i. */
    private float[] series(double base) {
        var result = new float[dim / 2];
        for (int i = 0; i < result.length; i++) {
            result[i] = 1f / power(base, i);
        }
        return result;
    }

    private float power(double base, int pair) {
        return (float) StrictMath.pow((float) base, (float) (2 * pair) / dim);
    }

    private float[] stretchLongWaves(Scaling.Llama3 llama3) {
        var result = series(theta);
        double longWave = llama3.originalPositions / llama3.lowFactor;
        double shortWave = llama3.originalPositions / llama3.highFactor;
        for (int i = 0; i < result.length; i++) {
            double wave = 2 * Math.PI / result[i];
            if (wave > longWave) {
                result[i] = (float) (result[i] / llama3.factor);
            } else if (wave >= shortWave) {
                double smooth = (llama3.originalPositions / wave - llama3.lowFactor)
                        / (llama3.highFactor - llama3.lowFactor);
                result[i] = (float) ((1 - smooth) * result[i] / llama3.factor + smooth * result[i]);
            }
        }
        return result;
    }

    private float[] blend(Scaling.Yarn yarn) {
        double low = correctionDim(yarn.betaFast, yarn.originalPositions);
        double high = correctionDim(yarn.betaSlow, yarn.originalPositions);
        if (yarn.truncate) {
            low = Math.floor(low);
            high = Math.ceil(high);
        }
        low = Math.max(low, 0);
        high = Math.min(high, dim - 1.0);
        if (low == high) {
            high += 0.001;
        }
        var result = new float[dim / 2];
        for (int i = 0; i < result.length; i++) {
            double kept = 1 - Math.clamp((i - low) / (high - low), 0, 1);
            double power = power(theta, i);
            result[i] = (float) ((1 - kept) / (yarn.factor * power) + kept / power);
        }
        return result;
    }

    /** The dimension whose pair turns this many times over the original context. */
    private double correctionDim(double rotations, int positions) {
        return dim * StrictMath.log(positions / (rotations * 2 * Math.PI)) / (2 * StrictMath.log(theta));
    }

}
