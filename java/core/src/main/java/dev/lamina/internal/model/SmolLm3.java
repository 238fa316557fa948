package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import java.util.Map;
import java.util.Set;
import java.util.function.IntPredicate;

/** SmolLM3: Llama, some of whose layers do not rotate. */
final class SmolLm3 implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("num_key_value_heads", 4, "rope_theta", 2e6);

    @Override
    public String name() {
        return "SmolLM3";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("SmolLM3ForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("smollm3");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        var dims = Dims.of(config, 0, 0, 32768);
        var norm = NormStyle.rms((float) config.positiveOr("rms_norm_eps", 1e-6));
        var activation = Activation.of(config, "hidden_act", "silu");
        boolean bias = config.booleanOr("attention_bias", false);
        boolean mlpBias = config.booleanOr("mlp_bias", false);
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        var rotates = rotates(config, dims.layers());
        int window = config.booleanOr("use_sliding_window", false)
                ? config.intOr("sliding_window", 0, 0, Integer.MAX_VALUE)
                : 0;
        var sliding = LayerTypes.sliding(config, dims.layers(), rotates.negate());
        var all = Attending.all(dims.scale());
        var decoder = new PreNormDecoder(name(), "model.", dims, norm, (h, layer) -> {
            var qkv = Qkv.separate(p, h, dims, bias);
            if (rotates.test(layer)) {
                qkv.rotated(p, rope, false);
            }
            var attended = qkv.attend(p, sliding.test(layer) ? all.withWindow(window) : all);
            return p.linear(attended, "self_attn.o_proj", dims.hidden(), bias);
        }, (x, h, layer) -> p.addTo(x, Mlp.gated(p, h, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
                dims.intermediate(), activation, mlpBias)));
        return decoder.build(p, p.head(config, decoder.embedding(), true), rope.contextLimit());
    }

    /** {@code no_rope_layers} has a 1 for each layer that does rotate. */
    private static IntPredicate rotates(ModelConfig config, int layers) {
        var flags = config.numbers("no_rope_layers");
        if (flags.isEmpty()) {
            return LayerTypes.allButEvery(config, "no_rope_layer_interval", 4);
        }
        if (flags.size() < layers) {
            throw new LaminaException(config.where() + ": \"no_rope_layers\" has " + flags.size() + " entries for "
                    + layers + " layers.");
        }
        return layer -> flags.get(layer) != 0;
    }
}
