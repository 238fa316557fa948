package dev.lamina.internal.model;

/**
 * Multi-head latent attention of DeepSeek V2 (<a href="https://arxiv.org/abs/2405.04434">arXiv 2405.04434</a>, section
 * 2.1). Keys and values of all heads are products of {@code kv_b_proj} with one short vector of a position, its latent,
 * beside which there is one rotated part of a key for all heads. The cache holds these two alone: instead of each
 * latent, each query is multiplied with the rows of its head for keys, and what it attended to with those for values.
 * Both lie side by side, head after head; so a group of heads is computed to the end before the next one is begun, and
 * its rows are read together.
 *
 * @param heads query heads
 * @param still elements of a head of queries that are not rotated
 * @param rotated elements of a head of queries that are
 * @param valueDim elements of a head of values
 * @param latent elements of the latent
 * @param queryRank width of the low-rank product that queries come from; 0: they are one product
 * @param bias whether the products with the hidden state and to it have biases
 * @param interleaved whether the pairs that are rotated are neighbours
 * @param scale of the scores
 */
record LatentAttention(int heads, int still, int rotated, int valueDim, int latent, int queryRank, boolean bias,
        boolean interleaved, float scale) {
    /** Heads of a group. A larger one makes larger activations and panels, a smaller one reads the cache more often. */
    private static final int GROUP = 16;

    private static final NormStyle NORM = NormStyle.rms(1e-6f); // whatever rms_norm_eps says, as in the published code

    /** Reads it. The published defaults stand where the configuration says nothing. */
    static LatentAttention of(ModelConfig config, Dims dims, boolean interleaved) {
        int heads = dims.heads();
        int still = config.intOr("qk_nope_head_dim", 128, 1, Dims.MAX_WIDTH / heads);
        int rotated = config.intOr("qk_rope_head_dim", 64, 2, Dims.MAX_WIDTH / heads);
        int queryRank = config.intOr("q_lora_rank", config.mentions("q_lora_rank") ? 0 : 1536, 0, Dims.MAX_WIDTH);
        return new LatentAttention(heads, still, rotated, config.intOr("v_head_dim", 128, 1, Dims.MAX_WIDTH / heads),
                config.intOr("kv_lora_rank", 512, 1, Dims.MAX_WIDTH / heads), queryRank,
                config.booleanOr("attention_bias", false), interleaved, scale(config, still + rotated));
    }

    /** A longer context makes scores flatter, which a factor makes up for. */
    private static float scale(ModelConfig config, int headDim) {
        var scaling = Rope.parameters(config);
        double factor = 1;
        if (scaling != null && !Rope.type(scaling).equals("default")) {
            double allDim = scaling.doubleOr("mscale_all_dim", 0);
            factor = allDim == 0 ? 1 : Rope.yarnScale(scaling.positiveOr("factor", 1), allDim);
        }
        return (float) (factor * factor / Math.sqrt(headDim));
    }

    /** Returns (rows, hidden) of {@code h}, which has the same shape. */
    Value of(ProgramBuilder p, Value h, Rope rope) {
        int headDim = still + rotated;
        int keyDim = latent + rotated;
        int rowsOfHead = still + valueDim;
        var attending = Attending.all(scale);
        var q = queries(p, h, heads * headDim);
        p.rotateEnds(q, rope, heads, interleaved);
        var keys = p.linear(h, "self_attn.kv_a_proj_with_mqa", keyDim, bias);
        p.normHeads(keys.columns(0, latent), "self_attn.kv_a_layernorm", 1, NORM);
        p.rotateEnds(keys, rope, 1, interleaved);

        int layer = p.storeLatents(keys, latent, attending.reach());

        var keysAndValues = p.matrix("self_attn.kv_b_proj.weight", heads * rowsOfHead, latent);
        var values = p.matrixOf(heads * valueDim);
        for (int first = 0; first < heads; first += GROUP) {
            int count = Math.min(GROUP, heads - first);
            var absorbed = p.matrixOf(count * keyDim);
            for (int i = 0; i < count; i++) {
                var query = q.columns((first + i) * headDim, headDim);
                p.transposedInto(absorbed.columns(i * keyDim, latent), query.columns(0, still), keysAndValues,
                        (first + i) * rowsOfHead, null);
                p.copyInto(absorbed.columns(i * keyDim + latent, rotated), query.columns(still, rotated));
            }
            var attended = p.attend(absorbed, layer, count, keyDim, latent, attending);
            for (int i = 0; i < count; i++) {
                p.productInto(values.columns((first + i) * valueDim, valueDim), attended.columns(i * latent, latent),
                        keysAndValues, (first + i) * rowsOfHead + still, null);
            }
        }
        return p.linear(values, "self_attn.o_proj", h.width(), bias);
    }

    private Value queries(ProgramBuilder p, Value h, int width) {
        if (queryRank == 0) {
            return p.linear(h, "self_attn.q_proj", width, false);
        }
        var low = p.linear(h, "self_attn.q_a_proj", queryRank, bias);
        p.normHeads(low, "self_attn.q_a_layernorm", 1, NORM);
        return p.linear(low, "self_attn.q_b_proj", width, false);
    }
}
