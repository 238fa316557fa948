package dev.lamina.internal.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.SafetensorsFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What configurations mean, and which are refused. */
class ArchitecturesTest {
    private static final Path FIXTURES = Path.of("src/test/resources/fixtures");

    @TempDir
    Path temporary;

    /** The four designs of Baichuan, as their published configurations have them. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '"', value = {
        "BaiChuanForCausalLM | {'vocab_size': 64000, 'max_position_embeddings': 4096} | true | false",
        "BaichuanForCausalLM | {'vocab_size': 64000, 'model_max_length': 4096} | false | false",
        "BaichuanForCausalLM | {'vocab_size': 64000, 'model_max_length': 4096, 'tokenizer_class': 'B'} | false | false",
        "BaichuanForCausalLM | {'vocab_size': 125696, 'max_position_embeddings': 4096, 'model_max_length': 4096} "
                + "| true | true",
        "BaichuanForCausalLM | {'vocab_size': 125696, 'model_max_length': 4096} | false | true",
        "BaichuanForCausalLM | {'vocab_size': 70000, 'model_max_length': 4096} | false | false",
        "BaichuanForCausalLM | {'vocab_size': 70000, 'model_max_length': 4096, 'z_loss_weight': 0} | false | true",
        "BaichuanForCausalLM | {'vocab_size': 70000, 'max_position_embeddings': 4096} | true | true",
        "BaiChuanForCausalLM | {'vocab_size': 70000} | true | false"})
    void designsOfBaichuanAreToldApart(String architecture, String keys, boolean rotates, boolean normalised)
            throws IOException {
        var config = JsonParser.parseString(keys).getAsJsonObject();
        config.add("architectures", JsonParser.parseString("['" + architecture + "']"));
        for (var key : List.of("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")) {
            config.addProperty(key, key.startsWith("num") ? 1 : 2);
        }
        writeBaichuan(config.get("vocab_size").getAsInt());
        var program = program(config, temporary);
        assertEquals(rotates, program.ops().anyMatch(Op.Rotate.class::isInstance), "rotates");
        assertEquals(!rotates, program.ops().anyMatch(op -> op instanceof Op.Attention attention
                && attention.attending().kind() == Attending.Kind.ALIBI), "attends with slopes");
        assertEquals(normalised, program.ops().anyMatch(Op.WeightNorm.class::isInstance), "normalised head");
    }

    private void writeBaichuan(int vocabulary) throws IOException {
        var layer = "model.layers.0.";
        var shapes = new Object[][] {{"model.embed_tokens.weight", vocabulary, 2}, {"lm_head.weight", vocabulary, 2},
                {"model.norm.weight", 1, 2}, {layer + "input_layernorm.weight", 1, 2},
                {layer + "post_attention_layernorm.weight", 1, 2}, {layer + "self_attn.W_pack.weight", 6, 2},
                {layer + "self_attn.o_proj.weight", 2, 2}, {layer + "mlp.gate_proj.weight", 2, 2},
                {layer + "mlp.up_proj.weight", 2, 2}, {layer + "mlp.down_proj.weight", 2, 2}};
        var header = new JsonObject();
        int bytes = 0;
        for (var shape : shapes) {
            int end = bytes + (int) shape[1] * (int) shape[2] * Float.BYTES;
            header.add((String) shape[0], JsonParser.parseString("{'dtype': 'F32', 'shape': [%d, %d], "
                    .formatted(shape[1], shape[2]) + "'data_offsets': [%d, %d]}".formatted(bytes, end)));
            bytes = end;
        }
        Files.write(temporary.resolve("model.safetensors"), SafetensorsFiles.file(header.toString(), bytes));
    }

    /** A change of a fixture's configuration that cannot be computed, and what the error names. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '"', value = {
        "chatglm2 | position_encoding_2d | true | first ChatGLM",
        "chatglm2 | pre_seq_len | 128 | pre_seq_len",
        "chatglm2 | quantization_bit | 4 | quantization_bit",
        "chatglm2 | kv_channels | 10 | heads of 5 elements",
        "chatglm2 | multi_query_group_num | 3 | cannot share 3",
        "internlm | rotary | {'type': 'spiral'} | spiral",
        "gemma | use_bidirectional_attention | true | use_bidirectional_attention",
        "gemma2 | layer_types | ['sliding_attention'] | 1 entries for 4 layers",
        "gemma2 | layer_types | ['ring', 'ring', 'ring', 'ring'] | ring",
        "gemma2 | query_pre_attn_scalar | 0 | query_pre_attn_scalar",
        "gemma3_text | rope_scaling | {'rope_type': 'spiral'} | spiral",
        "phi2 | partial_rotary_factor | 0.2 | 3 of the 16 elements",
        "phi2 | qk_layernorm | true | q_layernorm.weight",
        "qwen_v1_ntk_logn | intermediate_size | 1 | intermediate_size",
        "qwen_v1_ntk_logn | rotary_pct | 0.5 | use_logn_attn",
        "smollm3 | no_rope_layers | [1] | 1 entries for 4 layers",
        "granite | logits_scaling | 0 | logits_scaling"})
    void whatCannotBeComputedIsNamed(String fixture, String key, String value, String named) throws IOException {
        var config = config(fixture);
        config.add(key, JsonParser.parseString(value));
        var message = assertThrows(LaminaException.class, () -> program(config, FIXTURES.resolve(fixture)))
                .getMessage();
        assertTrue(message.contains(named), message);
    }

    /** Keys whose absence means a number of the family's own, and whose null means none. */
    @Test
    void whatIsAbsentIsNotWhatIsNull() throws IOException {
        var config = config("gemma2");
        assertEquals(16, windows(config));
        config.add("sliding_window", JsonParser.parseString("null"));
        assertEquals(0, windows(config));
        config.remove("sliding_window");
        assertEquals(4096, windows(config));
    }

    private static int windows(JsonObject config) {
        return program(config, FIXTURES.resolve("gemma2")).ops()
                .filter(Op.Attention.class::isInstance)
                .mapToInt(op -> ((Op.Attention) op).attending().window())
                .max()
                .orElseThrow();
    }

    /** Without {@code architectures}, the type of the model says what it is. */
    @ParameterizedTest
    @ValueSource(strings = {"glm", "glm4", "cohere", "cohere2", "gemma3_text", "olmo2", "chatglm2", "internlm"})
    void modelTypesAreKnown(String fixture) throws IOException {
        var config = config(fixture);
        var expected = program(config, FIXTURES.resolve(fixture));
        config.remove("architectures");
        assertEquals(expected, program(config, FIXTURES.resolve(fixture)));
    }

    private static JsonObject config(String fixture) throws IOException {
        return JsonParser.parseString(Files.readString(FIXTURES.resolve(fixture).resolve("config.json")))
                .getAsJsonObject();
    }

    private static Program program(JsonObject config, Path folder) {
        return Architectures.program(ModelConfig.parse("config.json", config.toString()), Checkpoint.open(folder));
    }
}
