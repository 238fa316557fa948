package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** Phi-3, 3.5 and 4: Llama with fused matrices, a window in every layer or none, and a part of each head rotated. */
final class Phi3 implements Architecture {
    /** The first stands beside the rope parameters, where it wins over what they say. */
    private static final Map<String, Number> DEFAULTS =
            Map.of("original_max_position_embeddings", 4096, "max_position_embeddings", 4096);

    private static final Set<String> SCALINGS = Set.of("default", "longrope", "su");

    @Override
    public String name() {
        return "Phi-3";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Phi3ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("phi3");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        var dims = Dims.of(config);
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-5));
        var activation = Activation.of(config, "hidden_act", "silu");
        int rotaryDim = dims.rotaryDim(config, "partial_rotary_factor", 1);
        var rope = p.rope(rope(config, rotaryDim, dims.maxPositions()));
        var attending = Attending.all(dims.scale())
                .withWindow(config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE));
        var decoder = new PreNormDecoder(name(), "model.", dims, norm, (h, layer) -> {
            var qkv = Qkv.packed(p, h, dims, "self_attn.qkv_proj", false).rotated(p, rope, false);
            return p.linear(qkv.attend(p, attending), "self_attn.o_proj", dims.hidden(), false);
        }, (x, h, layer) -> p.addTo(x, Mlp.fused(p, h, "mlp.gate_up_proj", "mlp.down_proj", dims.intermediate(),
                activation, false)));
        return decoder.build(p, p.head(config, decoder.embedding(), false), rope.contextLimit());
    }

    /** What other scalings mean for this family, published code does not agree on. */
    private static Rope rope(ModelConfig config, int rotaryDim, int maxPositions) {
        var parameters = Rope.parameters(config);
        if (parameters != null && !SCALINGS.contains(Rope.type(parameters))) {
            throw parameters.unsupported("rope_type", Rope.type(parameters), "longrope is");
        }
        return Rope.of(config, rotaryDim, maxPositions);
    }
}
