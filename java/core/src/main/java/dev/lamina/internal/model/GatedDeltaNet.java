package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import java.util.List;

/**
 * The linear attention of Qwen3-Next (<a href="https://arxiv.org/abs/2412.06464">arXiv 2412.06464</a>): a state of
 * fixed size instead of keys and values of all positions.
 *
 * @param keyHeads heads of queries and of keys
 * @param keyDim elements of each
 * @param valueHeads heads of values, a multiple
 * @param valueDim elements of each
 * @param kernel positions that the convolution before the rule sees
 * @param norm of each head of what the rule gives
 */
record GatedDeltaNet(int keyHeads, int keyDim, int valueHeads, int valueDim, int kernel, NormStyle norm) {
    private static final float EPSILON = 1e-6f; // of the lengths of queries and keys, as in the published code
    private static final int MAX_KERNEL = 1 << 10;
    private static final int MAX_HEADS = 1 << 12; // each takes some Java heap

    /** Reads it. The published defaults stand where the configuration says nothing. */
    static GatedDeltaNet of(ModelConfig config, float epsilon) {
        int keyHeads = config.intOr("linear_num_key_heads", 16, 1, MAX_HEADS);
        int valueHeads = config.intOr("linear_num_value_heads", 32, 1, MAX_HEADS);
        if (valueHeads % keyHeads != 0) {
            throw new LaminaException(config.where() + ": " + valueHeads + " heads of values cannot share " + keyHeads
                    + " heads of keys evenly.");
        }
        return new GatedDeltaNet(
                keyHeads, config.intOr("linear_key_head_dim", 128, 1, Dims.MAX_WIDTH / keyHeads),
                valueHeads, config.intOr("linear_value_head_dim", 128, 1, Dims.MAX_WIDTH / valueHeads),
                config.intOr("linear_conv_kernel_dim", 4, 2, MAX_KERNEL), NormStyle.rms(epsilon));
    }

    /** Returns (rows, hidden) of {@code h}, which has the same shape. */
    Value of(ProgramBuilder p, Value h) {
        int width = 2 * keys() + values();
        var mixed = p.matrixOf(width);
        var z = p.matrixOf(values());
        var gates = p.matrixOf(2 * valueHeads);
        if (p.has(p.own("linear_attn.in_proj_qkvz.weight"))) {
            projectGrouped(p, h, mixed, z, gates);
        } else {
            project(p, h, mixed, "in_proj_qkv");
            project(p, h, z, "in_proj_z");
            project(p, h, gates.columns(0, valueHeads), "in_proj_b");
            project(p, h, gates.columns(valueHeads, valueHeads), "in_proj_a");
        }
        var filter = p.vector("linear_attn.conv1d.weight", (long) width * kernel, false);
        var decay = p.joined(p.own("linear_attn.decay"), 2L * valueHeads, List.of(
                new Vector.Stored(p.own("linear_attn.A_log"), Vector.Change.NEGATIVE_EXP),
                new Vector.Stored(p.own("linear_attn.dt_bias"), Vector.Change.NONE)));
        var convolved = p.convolution(mixed, filter, kernel, Activation.SILU);
        var out = p.deltaRule(convolved, gates, decay, keyHeads, keyDim, valueHeads, valueDim, EPSILON);
        p.normHeads(out, "linear_attn.norm", valueHeads, norm);
        return p.linear(p.gate(Activation.SILU, z, out), "linear_attn.out_proj", h.width(), false);
    }

    /** The rows of each key head lie together: its query, its key, its values, their z; and its b, its a. */
    private void projectGrouped(ProgramBuilder p, Value h, Value mixed, Value z, Value gates) {
        int shared = valueHeads / keyHeads;
        int group = shared * valueDim;
        var qkvz = p.matrix("linear_attn.in_proj_qkvz.weight", 2L * (keys() + values()), h.width());
        int row = 0;
        for (int head = 0; head < keyHeads; head++) {
            p.productInto(mixed.columns(head * keyDim, keyDim), h, qkvz, row, null);
            p.productInto(mixed.columns(keys() + head * keyDim, keyDim), h, qkvz, row + keyDim, null);
            p.productInto(mixed.columns(2 * keys() + head * group, group), h, qkvz, row + 2 * keyDim, null);
            p.productInto(z.columns(head * group, group), h, qkvz, row + 2 * keyDim + group, null);
            row += 2 * (keyDim + group);
        }
        var ba = p.matrix("linear_attn.in_proj_ba.weight", 2L * valueHeads, h.width());
        for (int head = 0; head < keyHeads; head++) {
            p.productInto(gates.columns(head * shared, shared), h, ba, 2 * head * shared, null);
            p.productInto(gates.columns(valueHeads + head * shared, shared), h, ba, (2 * head + 1) * shared, null);
        }
    }

    private static void project(ProgramBuilder p, Value h, Value out, String name) {
        p.productInto(out, h, p.matrix("linear_attn." + name + ".weight", out.width(), h.width()), 0, null);
    }

    private int keys() {
        return keyHeads * keyDim;
    }

    private int values() {
        return valueHeads * valueDim;
    }
}
