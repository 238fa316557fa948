package dev.lamina.internal.model;

import dev.lamina.LaminaException;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * The text part of Llama 4: attention within chunks in layers that rotate, to all positions in the others, and mixtures
 * in some layers, whose experts are stored transposed.
 */
final class Llama4 implements Architecture {
    private static final Map<String, Number> DEFAULTS = Map.of("num_key_value_heads", 8, "head_dim", 128,
            "rope_theta", 5e5, "attention_chunk_size", 8192, "num_local_experts", 16,
            "max_position_embeddings", 131072);

    @Override
    public String name() {
        return "Llama 4";
    }

    @Override
    public Set<String> architectures() {
        return Set.of("Llama4ForCausalLM", "Llama4ForConditionalGeneration");
    }

    @Override
    public Set<String> modelTypes() {
        return Set.of("llama4_text", "llama4");
    }

    @Override
    public Program build(ModelConfig given, ProgramBuilder p) {
        var text = TextModel.of(given, p);
        var config = text.config().withDefaults(DEFAULTS);
        var dims = Dims.of(config);
        float epsilon = (float) config.positiveOr("rms_norm_eps", 1e-5);
        var rope = p.rope(Rope.of(config, dims.headDim(), dims.maxPositions()));
        var attention = new Attention(p, dims, rope, temperature(config, p, rope), epsilon,
                config.booleanOr("use_qk_norm", true), config.booleanOr("attention_bias", false));
        int chunk = config.intOr("attention_chunk_size", 0, 0, Integer.MAX_VALUE);
        var rotated = rotatedLayers(config, dims.layers());
        var chunked = LayerTypes.of(config, dims.layers(), "chunked_attention", layer -> rotated[layer]);
        var feedForward = FeedForward.of(config, p, dims);
        var decoder = new PreNormDecoder(name(), text.prefix(), dims, NormStyle.rms(epsilon),
                (h, layer) -> attention.of(h, rotated[layer], chunked.test(layer) ? chunk : 0), feedForward::add);
        return decoder.build(p, text.head(given, p, false), rope.contextLimit());
    }

    /** What the queries of layers that do not rotate are multiplied with; null: nothing. */
    private static @Nullable Rope temperature(ModelConfig config, ProgramBuilder p, Rope rope) {
        if (!config.truthOr("attn_temperature_tuning", true)) {
            return null;
        }
        var growth = new Rope.Growth.Temperature(config.positiveOr("floor_scale", 8192),
                config.doubleOr("attn_scale", 0.1));
        return p.rope(rope.withScaling(new Rope.Scaling.Still()).withGrowth(growth));
    }

    private static boolean[] rotatedLayers(ModelConfig config, int layers) {
        var given = config.numbers("no_rope_layers"); // 1 where there is a rope, despite of the name
        int interval = config.intOr("no_rope_layer_interval", 4, 1, Integer.MAX_VALUE);
        if (!given.isEmpty() && given.size() < layers) {
            throw new LaminaException(config.where() + ": \"no_rope_layers\" tells of " + given.size() + " of " + layers
                    + " layers only.");
        }
        var rotated = new boolean[layers];
        for (int layer = 0; layer < layers; layer++) {
            rotated[layer] = given.isEmpty() ? (layer + 1) % interval != 0 : given.get(layer) != 0;
        }
        return rotated;
    }

    private record Attention(ProgramBuilder p, Dims dims, Rope rope,
            @Nullable Rope temperature, float epsilon, boolean normalised, boolean bias) {
        Value of(Value h, boolean rotated, int chunk) {
            var qkv = Qkv.separate(p, h, dims, bias);
            if (rotated) {
                qkv.rotated(p, rope, true);
                if (normalised) {
                    p.normHeads(qkv.queries(), null, dims.heads(), false, epsilon);
                    p.normHeads(qkv.keys(), null, dims.kvHeads(), false, epsilon);
                }
            } else if (temperature != null) {
                p.rotate(qkv.queries(), temperature, dims.heads());
            }
            var attended = qkv.attend(p, Attending.all(dims.scale()).withChunk(chunk));
            return p.linear(attended, "self_attn.o_proj", dims.hidden(), bias);
        }
    }

    /** What rows choose by, they are multiplied with before the expert; beside the experts is one that all share. */
    private record FeedForward(ProgramBuilder p, Router router, int experts, int expertWidth, int denseWidth,
            Activation function, Set<Integer> mixtures, int step) {
        static FeedForward of(ModelConfig config, ProgramBuilder p, Dims dims) {
            int experts = config.requireInt("num_local_experts", 1, Dims.MAX_EXPERTS);
            int chosen = config.intOr("num_experts_per_tok", 1, 1, experts);
            return new FeedForward(p, Router.of(chosen, Router.Scoring.SIGMOID_OF_CHOSEN, false), experts,
                    dims.intermediate(), config.intOr("intermediate_size_mlp", 16384, 1, Dims.MAX_WIDTH),
                    Activation.of(config, "hidden_act", "silu"), Set.copyOf(config.ids("moe_layers")),
                    config.has("moe_layers") ? 0 : config.intOr("interleave_moe_layer_step", 1, 1, Dims.MAX_LAYERS));
        }

        void add(Value x, Value h, int layer) {
            boolean mixture = step == 0 ? mixtures.contains(layer) : (layer + 1) % step == 0;
            if (!mixture) {
                p.addTo(x, mlp(h, "feed_forward", denseWidth));
                return;
            }
            int hidden = h.width();
            var logits = p.linear(h, "feed_forward.router", experts, false);
            var up = p.matrix("feed_forward.experts.gate_up_proj", experts, hidden, 2L * expertWidth);
            var down = p.matrix("feed_forward.experts.down_proj", experts, expertWidth, hidden);
            p.experts(logits, router, null, experts, number -> {
                var raised = p.transposed(p.chosenRows(h, true), up, number * hidden, null);
                var gated = raised.columns(0, expertWidth);
                p.activate(function, gated, raised.columns(expertWidth, expertWidth));
                p.addToChosen(x, p.transposed(gated, down, number * expertWidth, null), false);
            });
            p.addTo(x, mlp(h, "feed_forward.shared_expert", expertWidth));
        }

        private Value mlp(Value h, String name, int width) {
            return Mlp.gated(p, h, name + ".gate_proj", name + ".up_proj", name + ".down_proj", width, function, false);
        }
    }
}
