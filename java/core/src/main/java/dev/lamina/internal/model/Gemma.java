package dev.lamina.internal.model;

import java.util.Map;
import java.util.Set;

/** Gemma, the first generation. */
final class Gemma implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("num_key_value_heads", 16, "head_dim", 256);

    @Override
    public String name() {
        return "Gemma";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("GemmaForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("gemma");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var config = given.withDefaults(DEFAULTS);
        var dims = Dims.of(config, 0, 0, 8192);
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        var layer = new GemmaDecoder.Layer(rope, Attending.all(dims.scale()));
        return new GemmaDecoder(name(), "model.", false, false, activation(config), number -> layer, 0)
                .build(config, dims, p, p.head(config, "model.embed_tokens.weight", true), rope.contextLimit());
    }

    /** What the first configurations call gelu is its approximation by tanh. */
    private static Activation activation(ModelConfig config) {
        var activation = Activation.of(config, config.has("hidden_act") ? "hidden_act" : "hidden_activation",
                "gelu_pytorch_tanh");
        return activation == Activation.GELU ? Activation.GELU_TANH : activation;
    }
}
