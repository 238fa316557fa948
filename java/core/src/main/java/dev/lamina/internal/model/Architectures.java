package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import java.util.List;
import java.util.stream.Collectors;

/** The families that are supported. */
public final class Architectures {
    private static final List<Architecture> ALL = List.of(
            new Llama(),
            new Mistral(),
            new Mixtral(),
            new Qwen2(),
            new Qwen3(),
            new Qwen2Moe(),
            new Qwen3Moe(),
            new Deepseek(),
            new Glm4Moe(),
            new GptOss(),
            new Llama4(),
            new Qwen3Next(),
            new Qwen(),
            new ChatGlm(),
            new Baichuan(),
            new InternLm(),
            new InternLm2(),
            new Gemma(),
            new Gemma2(),
            new Gemma3(),
            new Phi(),
            new Phi3(),
            new Glm(),
            new Cohere(),
            new Olmo(),
            new Olmo2(),
            new Granite(),
            new SmolLm3(),
            new StableLm(),
            new Starcoder2());

    private Architectures() {}

    /** Detects the family of a model from its configuration. */
    public static Architecture detect(ModelConfig config) {
        var names = config.strings("architectures");
        var modelType = config.stringOr("model_type", "");
        for (var family : ALL) {
            boolean fits = names.isEmpty()
                    ? family.modelTypes().contains(modelType)
                    : family.architectures().contains(names.getFirst());
            if (fits) {
                return family;
            }
        }
        var name = names.isEmpty() ? modelType.isEmpty() ? "unnamed" : modelType : names.getFirst();
        throw new LaminaException(config.where() + ": the architecture " + name + " is not supported. Supported are "
                + supported() + ".");
    }

    /**
     * Records the program of a checkpoint's model, and checks that the checkpoint has every tensor in its right shape.
     */
    public static Program program(ModelConfig config, Checkpoint checkpoint) {
        var family = detect(config);
        Quantization.check(config);
        refuseOtherDesigns(config.text(), family);
        try {
            return family.build(config, new ProgramBuilder(checkpoint));
        } catch (ArithmeticException e) {
            throw new LaminaException(config.where() + ": the sizes in it are larger than any model's.", e);
        }
    }

    /** What no published model of these families has; to leave it out would be to compute another model. */
    private static void refuseOtherDesigns(ModelConfig config, Architecture family) {
        for (var key : List.of("is_encoder_decoder", "alibi", "use_alibi", "parallel_attn")) {
            config.refuse(key);
        }
        if (!(family instanceof StableLm)) {
            config.refuse("use_parallel_residual");
        }
    }

    /** The names that {@code architectures} may have, for messages. */
    public static String supported() {
        return ALL.stream()
                .flatMap(family -> family.architectures().stream().sorted())
                .collect(Collectors.joining(", "));
    }
}
