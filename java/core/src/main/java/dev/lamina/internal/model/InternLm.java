package dev.lamina.internal.model;

import java.util.Set;

/** InternLM, the first generation: Llama with biases around its attention, and a rope that grows with the context. */
final class InternLm implements Architecture {
    @Override
    public String name() {
        return "InternLM";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("InternLMForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("internlm");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder p) {
        var dims = Dims.of(config);
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-6));
        var activation = Activation.of(config, "hidden_act", "silu");
        boolean bias = config.booleanOr("bias", true);
        var rope = p.rope(rope(config, dims));
        var attending = Attending.all(dims.scale());
        var decoder = new PreNormDecoder(name(), "model.", dims, norm,
                (h, layer) -> p.linear(Qkv.separate(p, h, dims, bias).rotated(p, rope, false).attend(p, attending),
                        "self_attn.o_proj", dims.hidden(), bias),
                (x, h, layer) -> p.addTo(x, Mlp.gated(p, h, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
                        dims.intermediate(), activation, false)));
        return decoder.build(p, p.head(config, decoder.embedding(), false), rope.contextLimit());
    }

    /** The object {@code rotary}; what it is without one, is that of the last published code. */
    private static Rope rope(ModelConfig config, Dims dims) {
        var rotary = config.object("rotary");
        if (rotary == null) {
            var given = Rope.of(config, dims.headDim(), dims.maxPositions());
            return given.scaling() instanceof Rope.Scaling.None
                    ? given.withScaling(new Rope.Scaling.Dynamic(1))
                    : given;
        }
        double base = rotary.positiveOr("base", 10000);
        var plain = Rope.of(config, null, base, dims.headDim(), dims.maxPositions());
        var type = rotary.stringOr("type", "origin");
        return switch (type) {
            case "origin" -> plain;
            case "dynamic" -> plain.withScaling(new Rope.Scaling.Dynamic(rotary.positiveOr("scaling_factor", 1)));
            default -> throw rotary.unsupported("type", type, "origin and dynamic are");
        };
    }
}
