package dev.lamina.internal.model;

import dev.lamina.LaminaException;

/**
 * A rotary position embedding: how fast each pair of a head's elements turns from one position to the next (RoFormer,
 * <a href="https://arxiv.org/abs/2104.09864">arXiv 2104.09864</a>), with the scalings that published models use.
 *
 * @param id number in its program, from 0
 * @param dim elements of a head that are rotated, even
 * @param theta base of the geometric series of wavelengths
 * @param maxPositions {@code max_position_embeddings}
 * @param scaling how the frequencies are stretched for contexts beyond those of the pre-training
 */
public record Rope(int id, int dim, double theta, int maxPositions, Scaling scaling) {

    /** How frequencies are stretched. */
    public sealed interface Scaling {
        /** As trained. */
        record None() implements Scaling {}

        /** All positions divided by {@code factor}. */
        record Linear(double factor) implements Scaling {}

        /** NTK-aware base, which grows with the length of the sequence once that is above {@code maxPositions}. */
        record Dynamic(double factor) implements Scaling {}

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
     * @param headDim elements of a head
     * @param maxPositions {@code max_position_embeddings}
     */
    static Rope of(ModelConfig config, int id, int headDim, int maxPositions) {
        var scalingParameters = config.object("rope_scaling");
        var found = scalingParameters == null || scalingParameters.isEmpty()
                ? config.object("rope_parameters")
                : scalingParameters;
        if (found != null && found.isNested()) {
            throw new LaminaException(found.where() + ": rope parameters for each layer type are not supported here.");
        }
        var parameters = found == null ? config : found;
        double theta = parameters.positiveOr("rope_theta", config.positiveOr("rope_theta", 10000.0));
        var type = found == null ? "default" : found.stringOr("rope_type", found.stringOr("type", "default"));
        if (headDim % 2 != 0) {
            throw new LaminaException(
                    config.where() + ": heads of " + headDim + " elements cannot be rotated in pairs.");
        }
        var scaling = switch (type) {
            case "default" -> new Scaling.None();
            case "linear" -> new Scaling.Linear(factor(parameters));
            case "dynamic" -> new Scaling.Dynamic(factor(parameters));
            case "llama3" -> llama3(parameters, originalPositions(config, parameters, maxPositions));
            case "yarn" -> yarn(parameters, maxPositions, originalPositions(config, parameters, maxPositions));
            default -> throw new LaminaException(parameters.where() + ": the rope type \"" + type
                    + "\" is not supported; default, linear, dynamic, llama3 and yarn are.");
        };
        return new Rope(id, headDim, theta, maxPositions, scaling);
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

    private static double yarnScale(double factor, double mscale) {
        return factor <= 1 ? 1.0 : 0.1 * mscale * StrictMath.log(factor) + 1.0;
    }

    /** Positions that the model was made for, as far as its rope tells. */
    public int contextLimit() {
        double limit = switch (scaling) {
            case Scaling.None none -> maxPositions;
            case Scaling.Llama3 llama3 -> maxPositions;
            case Scaling.Linear linear -> maxPositions * Math.max(1, linear.factor);
            case Scaling.Dynamic dynamic -> Integer.MAX_VALUE;
            case Scaling.Yarn yarn -> Math.max(maxPositions, yarn.originalPositions * yarn.factor);
        };
        return (int) Math.min(Integer.MAX_VALUE, limit);
    }

    /**
     * The angle, in radians, that each pair turns from one position to the next: (dim / 2), float precision as in the
     * reference code.
     *
     * @param sequenceLength positions of the sequence; only {@link Scaling.Dynamic} depends on it
     */
    public float[] frequencies(int sequenceLength) {
        return switch (scaling) {
            case Scaling.None none -> series(theta);
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
        return scaling instanceof Scaling.Yarn yarn ? (float) yarn.attentionFactor : 1f;
    }

    /**
     * Writes the cosines of a position's angles, then their sines.
     *
     * @param frequencies as {@link #frequencies} gave them
     * @param position from 0
     * @param out (dim): cosines and sines of dim / 2 pairs
     */
    public void table(float[] frequencies, int position, float[] out) {
        float factor = attentionFactor();
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
