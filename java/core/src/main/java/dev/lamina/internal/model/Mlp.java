package dev.lamina.internal.model;

/** The two-layer perceptrons that families share; each returns (rows, hidden), which is not added to anything yet. */
final class Mlp {
    private Mlp() {}

    /** {@code down(f(gate(h)) * up(h))}. */
    static Value gated(ProgramBuilder p, Value h, String gate, String up, String down, int intermediate,
            Activation function, boolean bias) {
        var gated = p.linear(h, gate, intermediate, bias);
        var raised = p.linear(h, up, intermediate, bias);
        return p.linear(p.activate(function, gated, raised), down, h.width(), bias);
    }

    /** The same with the rows of gate and up in one matrix, gate first. */
    static Value fused(ProgramBuilder p, Value h, String gateAndUp, String down, int intermediate,
            Activation function, boolean bias) {
        var both = p.linear(h, gateAndUp, 2 * intermediate, bias);
        var gated = both.columns(0, intermediate);
        p.activate(function, gated, both.columns(intermediate, intermediate));
        return p.linear(gated, down, h.width(), bias);
    }

    /** {@code down(f(up(h)))}. */
    static Value plain(ProgramBuilder p, Value h, String up, String down, int intermediate, Activation function,
            boolean bias) {
        return p.linear(p.activate(function, p.linear(h, up, intermediate, bias), null), down, h.width(), bias);
    }
}
