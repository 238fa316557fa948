package dev.lamina.internal.model;

import org.jspecify.annotations.Nullable;

/**
 * A mixture of gated experts, of which each row chooses some and adds up what they make of it, with weights of its own.
 *
 * @param router how rows choose
 * @param experts how many there are
 * @param intermediate width inside of an expert
 * @param function of the gates
 */
record Mixture(Router router, int experts, int intermediate, Activation function) {
    /**
     * Adds to {@code x} what the experts make of {@code h}: {@code down(f(gate(h)) * up(h))}. The weights of each are
     * tensors of their own, or those of all are two: {@code gate_up_proj} of (experts, 2 * intermediate, hidden) and
     * {@code down_proj} of (experts, hidden, intermediate).
     *
     * @param block what the names of the weights begin with
     * @param correction name of a vector that is added to the scores for the choice; null for none
     */
    void add(ProgramBuilder p, Value x, Value h, String block, @Nullable String correction) {
        if (p.has(p.own(block + ".experts.gate_up_proj"))) {
            addFused(p, x, h, block, correction);
        } else {
            add(p, x, h, block, correction, "gate_proj", "up_proj", "down_proj");
        }
    }

    /** The same for experts whose weights have names of their own. */
    void add(ProgramBuilder p, Value x, Value h, String block, @Nullable String correction, String gate, String up,
            String down) {
        p.experts(logits(p, h, block), router, correction, experts, number -> {
            var expert = block + ".experts." + number + ".";
            var made = Mlp.gated(p, p.chosenRows(h, false), expert + gate, expert + up, expert + down, intermediate,
                    function, false);
            p.addToChosen(x, made, true);
        });
    }

    private void addFused(ProgramBuilder p, Value x, Value h, String block, @Nullable String correction) {
        int hidden = h.width();
        int both = Math.multiplyExact(2, intermediate);
        var logits = logits(p, h, block);
        var gateAndUp = p.matrix(block + ".experts.gate_up_proj", experts, both, hidden);
        var down = p.matrix(block + ".experts.down_proj", experts, hidden, intermediate);
        p.experts(logits, router, correction, experts, number -> {
            var made = p.product(p.chosenRows(h, false), gateAndUp, number * both, both, null);
            var gated = made.columns(0, intermediate);
            p.activate(function, gated, made.columns(intermediate, intermediate));
            p.addToChosen(x, p.product(gated, down, number * hidden, hidden, null), true);
        });
    }

    private Value logits(ProgramBuilder p, Value h, String block) {
        return p.linear(h, block + ".gate", experts, false);
    }
}
