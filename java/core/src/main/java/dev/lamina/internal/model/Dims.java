package dev.lamina.internal.model;

import dev.lamina.LaminaException;

/**
 * The dimensions that almost every decoder has, under the keys that Hugging Face's configurations give them.
 *
 * @param hidden width of the residual stream
 * @param intermediate width inside of the MLP; 1 where all layers have mixtures and the configuration has none
 * @param layers how many
 * @param heads query heads
 * @param kvHeads key and value heads
 * @param headDim floats of a head
 * @param vocabulary tokens
 * @param maxPositions positions that the model was made for, before any scaling
 */
record Dims(int hidden, int intermediate, int layers, int heads, int kvHeads, int headDim, int vocabulary,
        int maxPositions) {
    static final int MAX_WIDTH = 1 << 24;
    static final int MAX_LAYERS = 1 << 12;
    static final int MAX_EXPERTS = 1 << 12;

    /** Reads them; as many key and value heads as query heads, and heads of hidden / heads floats, unless it says so. */
    static Dims of(ModelConfig config) {
        return of(config, 0, 0, 2048);
    }

    /**
     * Reads them.
     *
     * @param defaultKvHeads where the configuration says nothing; 0: as many as query heads
     * @param defaultHeadDim where the configuration says nothing; 0: hidden / heads
     * @param defaultPositions where the configuration says nothing
     */
    static Dims of(ModelConfig config, int defaultKvHeads, int defaultHeadDim, int defaultPositions) {
        int hidden = config.requireInt("hidden_size", 1, MAX_WIDTH);
        int heads = config.requireInt("num_attention_heads", 1, hidden);
        return checked(config, new Dims(
                hidden,
                config.has("moe_intermediate_size")
                        ? config.intOr("intermediate_size", 1, 1, MAX_WIDTH)
                        : config.requireInt("intermediate_size", 1, MAX_WIDTH),
                config.requireInt("num_hidden_layers", 1, MAX_LAYERS),
                heads,
                config.intOr("num_key_value_heads", defaultKvHeads == 0 ? heads : defaultKvHeads, 1, heads),
                config.intOr("head_dim", defaultHeadDim == 0 ? hidden / heads : defaultHeadDim, 1, MAX_WIDTH / heads),
                config.requireInt("vocab_size", 1, Integer.MAX_VALUE),
                config.intOr("max_position_embeddings", defaultPositions, 1, Integer.MAX_VALUE)));
    }

    /** Returns dimensions that were read under other keys, if they fit together. */
    static Dims checked(ModelConfig config, Dims dims) {
        if (dims.heads % dims.kvHeads != 0) {
            throw new LaminaException(config.where() + ": " + dims.heads + " attention heads cannot share "
                    + dims.kvHeads + " key-value heads evenly.");
        }
        if (dims.headDim > MAX_WIDTH / dims.heads) {
            throw new LaminaException(config.where() + ": " + dims.heads + " attention heads of " + dims.headDim
                    + " elements are too wide.");
        }
        return dims;
    }

    /** Width of all queries. */
    int queries() {
        return heads * headDim;
    }

    /** Width of all keys, or of all values. */
    int keys() {
        return kvHeads * headDim;
    }

    /** The usual factor of attention scores. */
    float scale() {
        return (float) (1 / Math.sqrt(headDim));
    }

    /** Elements of a head that are rotated: a factor in the rope parameters wins over one in the configuration. */
    int rotaryDim(ModelConfig config, String key, double fallback) {
        var parameters = Rope.parameters(config);
        boolean inside = parameters != null && parameters.has(key);
        int dim = (int) (headDim * (inside ? parameters : config).doubleOr(key, fallback, 0, 1));
        if (dim < 2 || dim % 2 != 0) {
            throw new LaminaException(config.where() + ": \"" + key + "\" leaves " + dim + " of the " + headDim
                    + " elements of a head to be rotated, but these must be pairs.");
        }
        return dim;
    }
}
