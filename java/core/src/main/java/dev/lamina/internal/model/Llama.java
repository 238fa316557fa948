package dev.lamina.internal.model;

import java.util.Set;

/** Llama 2, 3, 3.1, 3.2, and models of the same design under other names, such as Yi. */
final class Llama implements Architecture {
    @Override
    public String name() {
        return "Llama";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("LlamaForCausalLM");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("llama");
    }

    @Override
    public Program build(ModelConfig config, ProgramBuilder builder) {
        boolean attentionBias = config.booleanOr("attention_bias", false);
        boolean mlpBias = config.booleanOr("mlp_bias", false);
        return new LlamaDecoder(name(), attentionBias, attentionBias, mlpBias, false, LlamaDecoder.Window.NONE)
                .build(config, builder);
    }
}
