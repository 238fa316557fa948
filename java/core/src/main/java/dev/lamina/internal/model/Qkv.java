package dev.lamina.internal.model;

/**
 * Queries, keys and values of one layer.
 *
 * @param queries (rows, heads * headDim)
 * @param keys (rows, kvHeads * headDim)
 * @param values of the same shape as the keys
 * @param heads query heads
 * @param kvHeads key and value heads
 */
record Qkv(Value queries, Value keys, Value values, int heads, int kvHeads) {

    /** From three matrices {@code self_attn.q_proj}, {@code k_proj} and {@code v_proj}. */
    static Qkv separate(ProgramBuilder p, Value h, Dims dims, boolean bias) {
        var queries = p.linear(h, "self_attn.q_proj", dims.queries(), bias);
        var keys = p.linear(h, "self_attn.k_proj", dims.keys(), bias);
        var values = p.linear(h, "self_attn.v_proj", dims.keys(), bias);
        return new Qkv(queries, keys, values, dims.heads(), dims.kvHeads());
    }

    /** From one matrix: rows of all queries, then of all keys, then of all values. */
    static Qkv packed(ProgramBuilder p, Value h, Dims dims, String name, boolean bias) {
        var all = p.linear(h, name, width(dims), bias);
        return new Qkv(all.columns(0, dims.queries()), all.columns(dims.queries(), dims.keys()),
                all.columns(dims.queries() + dims.keys(), dims.keys()), dims.heads(), dims.kvHeads());
    }

    /** From one matrix: for each key head the rows of the queries that share it, of the key, and of the value. */
    static Qkv grouped(ProgramBuilder p, Value h, Dims dims, String name, boolean bias) {
        var matrix = p.matrix(name + ".weight", width(dims), h.width());
        var vector = bias ? p.vector(name + ".bias", width(dims), false) : null;
        int headDim = dims.headDim();
        int shared = dims.queries() / dims.kvHeads();
        var qkv = new Qkv(p.matrixOf(dims.queries()), p.matrixOf(dims.keys()), p.matrixOf(dims.keys()), dims.heads(),
                dims.kvHeads());
        int row = 0;
        for (int group = 0; group < dims.kvHeads(); group++) {
            var parts = new Value[] {qkv.queries.columns(group * shared, shared),
                    qkv.keys.columns(group * headDim, headDim), qkv.values.columns(group * headDim, headDim)};
            for (var part : parts) {
                p.productInto(part, h, matrix, row, vector == null ? null : new Op.Bias(vector, row));
                row += part.width();
            }
        }
        return qkv;
    }

    private static int width(Dims dims) {
        return Math.addExact(dims.queries(), Math.multiplyExact(2, dims.keys()));
    }

    /** Rotates queries and keys in place; pairs of a head lie half a rotation apart, or are neighbours. */
    Qkv rotated(ProgramBuilder p, Rope rope, boolean interleaved) {
        return rotated(p, rope, rope, interleaved);
    }

    /** The same with a rope of their own for the queries. */
    Qkv rotated(ProgramBuilder p, Rope ofQueries, Rope ofKeys, boolean interleaved) {
        if (interleaved) {
            p.rotateInterleaved(queries, ofQueries, heads);
            p.rotateInterleaved(keys, ofKeys, kvHeads);
        } else {
            p.rotate(queries, ofQueries, heads);
            p.rotate(keys, ofKeys, kvHeads);
        }
        return this;
    }

    /** What the queries find: (rows, heads * headDim). */
    Value attend(ProgramBuilder p, Attending attending) {
        return p.attention(queries, keys, values, heads, kvHeads, attending);
    }
}
