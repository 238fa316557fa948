package dev.lamina.internal.model;

import java.util.Set;

/** Phi-3, 3.5 and 4: Llama with fused matrices, a window in every layer or none, and a part of each head rotated. */
final class Phi3 implements Architecture {
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
    public Program build(ModelConfig config, ProgramBuilder p) {
        var dims = Dims.of(config, 0, 0, 4096);
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-5));
        var activation = Activation.of(config, "hidden_act", "silu");
        int rotaryDim = dims.rotaryDim(config, "partial_rotary_factor", 1);
        var rope = p.rope(Rope.of(config, rotaryDim, dims.maxPositions()));
        var attending = Attending.all(dims.scale())
                .withWindow(config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE));
        var decoder = new PreNormDecoder(name(), "model.", dims, norm, (h, layer) -> {
            var qkv = Qkv.packed(p, h, dims, "self_attn.qkv_proj", false).rotated(p, rope, false);
            return p.linear(qkv.attend(p, attending), "self_attn.o_proj", dims.hidden(), false);
        }, (x, h, layer) -> p.addTo(x, Mlp.fused(p, h, "mlp.gate_up_proj", "mlp.down_proj", dims.intermediate(),
                activation, false)));
        return decoder.build(p, p.head(config, decoder.embedding(), false), rope.contextLimit());
    }
}
