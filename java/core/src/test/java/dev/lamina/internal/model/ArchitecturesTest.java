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
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
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
        "qwen_v1_ntk_logn | kv_channels | 8388608 | too wide",
        "qwen_v1_ntk_logn | intermediate_size | 1 | intermediate_size",
        "qwen_v1_ntk_logn | rotary_pct | 0.5 | use_logn_attn",
        "smollm3 | no_rope_layers | [1] | 1 entries for 4 layers",
        "granite | logits_scaling | 0 | logits_scaling",
        "mixtral | num_experts_per_tok | 9 | num_experts_per_tok",
        "qwen2_moe | shared_expert_intermediate_size | null | shared_expert_intermediate_size",
        "qwen3_moe | decoder_sparse_step | 0 | decoder_sparse_step",
        "deepseek_v2_full | topk_method | 'noaux_tc' | greedy and group_limited_greedy are",
        "deepseek_v2_full | norm_topk_prob | true | norm_topk_prob",
        "deepseek_v2_full | topk_group | 1 | 3 of 8 experts cannot be chosen from 1 of 4",
        "deepseek_v3_yarn | n_group | 3 | from 2 of 3 equal groups",
        "deepseek_v3_yarn | topk_group | 5 | from 5 of 4 equal groups",
        "deepseek_v3_yarn | scoring_func | 'softmax' | sigmoid is",
        "deepseek_v3_yarn | q_lora_rank | null | q_proj.weight",
        "llama4_text | no_rope_layers | [1] | 1 of 4 layers",
        "llama4_text | layer_types | ['a', 'a', 'a', 'a'] | chunked_attention and full_attention are",
        "qwen2_tied | layer_types | ['sliding_attention'] | 1 entries for",
        "qwen3_next | layer_types | ['full_attention', 'x', 'x', 'x'] | linear_attention and full_attention are",
        "phi4_mini | rope_scaling | {'rope_type': 'yarn', 'factor': 4} | longrope is",
        "yi_llama_gqa | hidden_act | 'mish' | mish",
        "yi_llama_gqa | alibi | true | alibi",
        "yi_llama_gqa | is_encoder_decoder | true | is_encoder_decoder",
        "starcoder2 | use_parallel_residual | true | use_parallel_residual",
        "olmo | clip_qkv | -8 | clip_qkv",
        "qwen3_next | linear_num_value_heads | 3 | cannot share 2"})
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

    /** What the transformers library takes where a configuration does not have the key at all; each family its own. */
    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '"', value = {
        "mixtral | rope_theta | 1000000",
        "mixtral | rms_norm_eps | 0.00001",
        "mixtral | max_position_embeddings | 131072",
        "mistral_swa | sliding_window | 4096",
        "mistral_swa | max_position_embeddings | 131072",
        "glm4_moe | rms_norm_eps | 0.00001",
        "gpt_oss | rope_theta | 150000",
        "gpt_oss | rope_scaling | {'rope_type': 'yarn', 'factor': 32, 'beta_fast': 32, 'beta_slow': 1, "
                + "'truncate': false, 'original_max_position_embeddings': 4096}",
        "gpt_oss | sliding_window | 128",
        "llama4_text | rope_theta | 500000",
        "llama4_text | attention_chunk_size | 8192",
        "qwen2_moe | num_experts_per_tok | 4",
        "deepseek_v3_yarn | max_position_embeddings | 4096",
        "qwen3 | max_position_embeddings | 32768",
        "qwen3_next | num_key_value_heads | 2",
        "internlm | rotary | {'base': 10000, 'type': 'dynamic'}",
        "phi4_mini | original_max_position_embeddings | 4096"})
    void whatIsAbsentIsTheFamilysDefault(String fixture, String key, String value) throws IOException {
        var config = config(fixture);
        var folder = FIXTURES.resolve(fixture);
        config.add(key, JsonParser.parseString(value));
        var expected = program(config, folder);
        config.remove(key);
        assertEquals(expected, program(config, folder));
    }

    /** The same where the fixtures have others: the number shows in the error. */
    @ParameterizedTest
    @CsvSource({"qwen3_moe, 4", "qwen3_5_text, 4", "glm4_moe, 8", "mixtral, 8", "mistral_swa, 8"})
    void keyHeadsThatAreAbsentAreTheFamilysDefault(String fixture, int heads) throws IOException {
        var config = config(fixture);
        config.addProperty("num_attention_heads", 9);
        config.remove("num_key_value_heads");
        var message = assertThrows(LaminaException.class, () -> program(config, FIXTURES.resolve(fixture)))
                .getMessage();
        assertTrue(message.contains("9 attention heads cannot share " + heads + " key-value heads"), message);
    }

    /** The same key means two things: ChatGLM2's code divides positions, that of all others multiplies the base. */
    @Test
    void ratioOfChatGlm2IsAnotherOne() throws IOException {
        var config = config("chatglm2");
        config.addProperty("rope_ratio", 16);
        config.addProperty("_name_or_path", "THUDM/chatglm3-6b-32k");
        var rope = program(config, FIXTURES.resolve("chatglm2")).ropes().getFirst();
        assertEquals(160000, rope.theta());
        assertEquals(new Rope.Scaling.None(), rope.scaling());
        config.addProperty("_name_or_path", "THUDM/chatglm2-6b-32k");
        rope = program(config, FIXTURES.resolve("chatglm2")).ropes().getFirst();
        assertEquals(10000, rope.theta());
        assertEquals(new Rope.Scaling.Linear(16), rope.scaling());
    }

    /** The published code of Qwen3.5 does not look at what Qwen3-Next says of its mixtures. */
    @Test
    void mixturesOfQwen35AreEverywhere() throws IOException {
        var config = config("qwen3_next");
        config.add("architectures", JsonParser.parseString("['Qwen3_5MoeForCausalLM']"));
        var expected = program(config, FIXTURES.resolve("qwen3_next"));
        config.add("mlp_only_layers", JsonParser.parseString("[0]"));
        config.addProperty("decoder_sparse_step", 2);
        config.addProperty("norm_topk_prob", false);
        assertEquals(expected, program(config, FIXTURES.resolve("qwen3_next")));
    }

    /** Other names of the same function. */
    @ParameterizedTest
    @CsvSource({"gelu_python, gelu", "gelu_python_tanh, gelu_pytorch_tanh", "gelu_accurate, gelu_new", "swish, silu"})
    void activationsHaveSeveralNames(String name, String same) throws IOException {
        var config = config("yi_llama_gqa");
        config.addProperty("hidden_act", name);
        var program = program(config, FIXTURES.resolve("yi_llama_gqa"));
        config.addProperty("hidden_act", same);
        assertEquals(program(config, FIXTURES.resolve("yi_llama_gqa")), program);
    }

    private static int windows(JsonObject config) {
        return program(config, FIXTURES.resolve("gemma2")).ops()
                .filter(Op.Attention.class::isInstance)
                .mapToInt(op -> ((Op.Attention) op).attending().window())
                .max()
                .orElseThrow();
    }

    /** A small file must not fill the memory. */
    @Test
    void expertsWithoutEndAreRefused() throws IOException {
        int layers = 33;
        int experts = 4096;
        var header = new JsonObject();
        int bytes = describe(header, 0, "model.embed_tokens.weight", 2, 2);
        for (int layer = 0; layer < layers; layer++) {
            var name = "model.layers." + layer + ".";
            for (var norm : List.of("input_layernorm", "post_attention_layernorm", "self_attn.q_norm",
                    "self_attn.k_norm")) {
                bytes = describe(header, bytes, name + norm + ".weight", 2);
            }
            for (var square : List.of("q_proj", "k_proj", "v_proj", "o_proj")) {
                bytes = describe(header, bytes, name + "self_attn." + square + ".weight", 2, 2);
            }
            bytes = describe(header, bytes, name + "mlp.gate.weight", experts, 2);
            bytes = describe(header, bytes, name + "mlp.experts.gate_up_proj", experts, 2, 2);
            bytes = describe(header, bytes, name + "mlp.experts.down_proj", experts, 2, 1);
        }
        Files.write(temporary.resolve("model.safetensors"), SafetensorsFiles.file(header.toString(), bytes));
        var config = JsonParser.parseString("{'model_type': 'qwen3_moe', 'hidden_size': 2, 'num_attention_heads': 1, "
                + "'num_key_value_heads': 1, 'vocab_size': 2, 'moe_intermediate_size': 1, "
                + "'num_experts_per_tok': 1, 'tie_word_embeddings': true}")
                .getAsJsonObject();
        config.addProperty("num_hidden_layers", layers);
        config.addProperty("num_experts", experts);
        var message = assertThrows(LaminaException.class, () -> program(config, temporary)).getMessage();
        assertTrue(message.contains("131072 experts"), message);
    }

    private static int describe(JsonObject header, int offset, String name, int... shape) {
        int end = offset + IntStream.of(shape).reduce(Short.BYTES, Math::multiplyExact);
        header.add(name, JsonParser.parseString("{'dtype': 'BF16', 'shape': %s, 'data_offsets': [%d, %d]}"
                .formatted(Arrays.toString(shape), offset, end)));
        return end;
    }

    /** Without {@code architectures}, the type of the model says what it is. */
    @ParameterizedTest
    @ValueSource(strings = {"glm_tied", "glm4", "cohere", "cohere2", "gemma3_text", "olmo2", "chatglm2", "internlm",
        "mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2_full", "deepseek_v3_yarn", "glm4_moe", "gpt_oss",
        "llama4_text", "qwen3_next", "qwen3_5_text"})
    void modelTypesAreKnown(String fixture) throws IOException {
        var config = config(fixture);
        var expected = program(config, FIXTURES.resolve(fixture));
        config.remove("architectures");
        assertEquals(expected, program(config, FIXTURES.resolve(fixture)));
    }

    /** As in the transformers library, which writes both. */
    @Test
    void rotatedElementsAmongTheRopeParametersWin() throws IOException {
        var config = config("glm4_moe");
        assertEquals(8, program(config, FIXTURES.resolve("glm4_moe")).ropes().getFirst().dim());
        config.add("rope_parameters", JsonParser.parseString("{'partial_rotary_factor': 0.25}"));
        assertEquals(4, program(config, FIXTURES.resolve("glm4_moe")).ropes().getFirst().dim());
        config.remove("partial_rotary_factor");
        config.add("rope_parameters", JsonParser.parseString("{'partial_rotary_factor': 1}"));
        assertEquals(16, program(config, FIXTURES.resolve("glm4_moe")).ropes().getFirst().dim());
    }

    /** Published configurations have a number there, and the transformers library writes a truth. */
    @Test
    void temperatureOfLlama4IsOnForNumbersToo() throws IOException {
        var config = config("llama4_text");
        var expected = program(config, FIXTURES.resolve("llama4_text"));
        config.addProperty("attn_temperature_tuning", 4);
        assertEquals(expected, program(config, FIXTURES.resolve("llama4_text")));
        config.addProperty("attn_temperature_tuning", 0);
        assertEquals(1, program(config, FIXTURES.resolve("llama4_text")).ropes().size());
    }

    private static JsonObject config(String fixture) throws IOException {
        return JsonParser.parseString(Files.readString(FIXTURES.resolve(fixture).resolve("config.json")))
                .getAsJsonObject();
    }

    private static Program program(JsonObject config, Path folder) {
        return Architectures.program(ModelConfig.parse("config.json", config.toString()), Checkpoint.open(folder));
    }
}
