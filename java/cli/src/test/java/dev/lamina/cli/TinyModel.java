package dev.lamina.cli;

import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.SafetensorsLayout;
import dev.lamina.internal.checkpoint.SafetensorsWriter;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A Llama that recites: its embedding is the unit matrix, its layer adds nothing, and its head maps each token to the
 * next of a cycle with logit 4, all others having 0. So "a" is continued by "bé" and a space, then the end token, and
 * so on from the beginning.
 */
final class TinyModel {
    static final int WIDTH = 16;
    static final int END = 1;
    static final int A = 2;
    static final int B = 3;
    static final int SPACE = 4;

    /** Token after token: begin, end, a, b, space, and the two bytes of é as byte-level tokenizers write them. */
    private static final List<String> TOKENS = List.of("<s>", "</s>", "a", "b", "Ġ", "Ã", "©");

    private static final int[] NEXT = {2, 2, 3, 5, 1, 6, 4};

    /** What follows "a". */
    static final List<Integer> ANSWER = List.of(B, 5, 6, SPACE, END);

    static final String TEXT = "bé ";

    static final String CONFIG = """
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
             "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
             "vocab_size": 16,
             "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 1048576,
             "tie_word_embeddings": false, "bos_token_id": 0, "eos_token_id": 1}
            """;

    private static final String TEMPLATE = "<s>{% for message in messages %}{{ message['content'] }}{% endfor %}";

    private TinyModel() {}

    /** Writes the model into a new folder. */
    static Path write(Path folder) throws IOException {
        return write(folder, WIDTH);
    }

    /**
     * Writes the model.
     *
     * @param headRows rows of its head, of which 16 are right
     */
    static Path write(Path folder, int headRows) throws IOException {
        Files.createDirectories(folder);
        Files.writeString(folder.resolve("config.json"), CONFIG);
        Files.writeString(folder.resolve("tokenizer.json"), tokenizer());
        Files.writeString(folder.resolve("tokenizer_config.json"),
                "{\"chat_template\": \"" + TEMPLATE + "\", \"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
        var tensors = new LinkedHashMap<String, float[][]>();
        tensors.put("model.embed_tokens.weight", unit());
        var layer = "model.layers.0.";
        tensors.put(layer + "input_layernorm.weight", ones());
        tensors.put(layer + "self_attn.q_proj.weight", new float[16][WIDTH]);
        tensors.put(layer + "self_attn.k_proj.weight", new float[8][WIDTH]);
        tensors.put(layer + "self_attn.v_proj.weight", new float[8][WIDTH]);
        tensors.put(layer + "self_attn.o_proj.weight", new float[WIDTH][16]);
        tensors.put(layer + "post_attention_layernorm.weight", ones());
        tensors.put(layer + "mlp.gate_proj.weight", new float[32][WIDTH]);
        tensors.put(layer + "mlp.up_proj.weight", new float[32][WIDTH]);
        tensors.put(layer + "mlp.down_proj.weight", new float[WIDTH][32]);
        tensors.put("model.norm.weight", ones());
        tensors.put("lm_head.weight", head(headRows));
        writeTensors(folder.resolve("model.safetensors"), tensors);
        return folder;
    }

    private static float[][] unit() {
        var matrix = new float[WIDTH][WIDTH];
        for (int i = 0; i < WIDTH; i++) {
            matrix[i][i] = 1;
        }
        return matrix;
    }

    private static float[][] head(int rows) {
        var matrix = new float[rows][WIDTH];
        for (int token = 0; token < NEXT.length && NEXT[token] < rows; token++) {
            matrix[NEXT[token]][token] = 1;
        }
        return matrix;
    }

    /** One row, which stands for a vector. */
    private static float[][] ones() {
        var row = new float[WIDTH];
        Arrays.fill(row, 1);
        return new float[][] {row};
    }

    private static void writeTensors(Path file, Map<String, float[][]> tensors) throws IOException {
        var entries = tensors.entrySet().stream()
                .map(tensor -> new SafetensorsLayout.Entry(tensor.getKey(), DType.F32, shape(tensor.getValue())))
                .toList();
        try (var writer = SafetensorsWriter.create(file, SafetensorsLayout.packed(entries))) {
            int index = 0;
            for (var matrix : tensors.values()) {
                var bytes = ByteBuffer.allocate(matrix.length * matrix[0].length * Float.BYTES)
                        .order(ByteOrder.LITTLE_ENDIAN);
                for (var row : matrix) {
                    for (float value : row) {
                        bytes.putFloat(value);
                    }
                }
                writer.write(index++, 0, bytes.flip());
            }
            writer.commit();
        }
    }

    private static List<Long> shape(float[][] matrix) {
        return matrix.length == 1 ? List.of((long) matrix[0].length)
                : List.of((long) matrix.length, (long) matrix[0].length);
    }

    private static String tokenizer() {
        var vocabulary = new StringBuilder();
        for (int i = 0; i < TOKENS.size(); i++) {
            vocabulary.append(i == 0 ? "" : ", ").append('"').append(TOKENS.get(i)).append("\": ").append(i);
        }
        return """
                {"version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
                 "added_tokens": [
                   {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true},
                   {"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true}],
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                   "use_regex": true},
                 "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
                 "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": {%s}, "merges": []}}
                """.formatted(vocabulary);
    }
}
