package dev.lamina.internal.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.lamina.LaminaException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class TokenizerPartsTest {
    @TempDir
    private Path folder;

    static Stream<Path> older() {
        return Fixtures.children(Fixtures.resource("older")).stream();
    }

    @ParameterizedTest
    @MethodSource("older")
    void encodesAndDecodesLikeTheReference(Path model) {
        assertEquals(55, check(model));
    }

    @Test
    void publishedTokenizersDoToo() {
        Path shared = Fixtures.shared("real_tokenizers");
        assumeTrue(shared != null, "no shared fixtures here");
        assertEquals(73 + 75, Fixtures.children(shared).stream().mapToInt(TokenizerPartsTest::check).sum());
    }

    /** Compares with goldens of sentencepiece and tiktoken. */
    private static int check(Path model) {
        Map<String, Object> golden = Fixtures.readJson(model.resolve("golden.json"));
        try (Tokenizer tokenizer = Tokenizer.open(model)) {
            List<Map<String, Object>> cases = Fixtures.maps(golden.get("encode"));
            for (Map<String, Object> one : cases) {
                String text = (String) one.get("text");
                Object plain = one.getOrDefault("ids_no_special", one.get("ids"));
                assertArrayEquals(Fixtures.ids(plain), tokenizer.encodePlain(text), text);
                if (one.containsKey("ids_no_special")) {
                    assertArrayEquals(Fixtures.ids(one.get("ids")), tokenizer.encode(text, false), text);
                }
            }
            for (Map<String, Object> one : Fixtures.maps(golden.get("encode_with_prefix"))) {
                String text = (String) one.get("text");
                assertArrayEquals(Fixtures.ids(one.get("ids")), tokenizer.encode(text, true), text);
            }
            for (Map<String, Object> one : concat(cases, Fixtures.maps(golden.get("decode_random")))) {
                assertEquals(one.get("decoded"), tokenizer.decode(Fixtures.ids(one.get("ids")), false));
            }
            return cases.size();
        }
    }

    private static List<Map<String, Object>> concat(List<Map<String, Object>> a, List<Map<String, Object>> b) {
        return Stream.concat(a.stream(), b.stream()).toList();
    }

    /** The same tokenizer in both layouts. */
    @ParameterizedTest
    @ValueSource(strings = {"llama2_spm_bpe", "gemma_spm_bpe", "qwen2_bbpe", "qwen3_bbpe"})
    void agreesWithTheTokenizerJson(String name) throws IOException {
        copyWithoutJson("tokenizers/" + name, config -> config.addProperty("legacy", true));
        Map<String, Object> golden = Fixtures.readJson(folder.resolve("golden.json"));
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertEquals(golden.get("vocab_size"), (long) tokenizer.vocabularySize());
            for (Map<String, Object> one : Fixtures.maps(golden.get("encode"))) {
                String text = (String) one.get("text");
                assertArrayEquals(Fixtures.ids(one.get("ids")), tokenizer.encode(text, false), text);
                assertArrayEquals(Fixtures.ids(one.get("ids_with_special")), tokenizer.encode(text, true), text);
                assertEquals(one.get("decoded"), tokenizer.decode(Fixtures.ids(one.get("ids")), false));
            }
            List<Map<String, Object>> random = Fixtures.maps(golden.get("decode_random"));
            // SentencePiece decodes what is valid of damaged bytes.
            for (Map<String, Object> one : name.startsWith("qwen") ? random : List.<Map<String, Object>>of()) {
                assertEquals(one.get("decoded"), tokenizer.decode(Fixtures.ids(one.get("ids")), false));
                assertEquals(one.get("decoded_skip_special"), tokenizer.decode(Fixtures.ids(one.get("ids")), true));
            }
            try (Tokenizer other = Tokenizer.open(Fixtures.resource("tokenizers/" + name))) {
                for (int id = 0; id < tokenizer.vocabularySize(); id++) {
                    assertEquals(other.isSpecial(id), tokenizer.isSpecial(id), "" + id);
                    assertEquals(other.isByte(id), tokenizer.isByte(id), "" + id);
                }
                assertEquals(other.addsBos(), tokenizer.addsBos());
                assertEquals(other.bosId(), tokenizer.bosId());
            }
        }
    }

    private void copyWithoutJson(String name, Consumer<JsonObject> change) throws IOException {
        for (Path file : Fixtures.children(Fixtures.resource(name))) {
            if (!file.endsWith("tokenizer.json")) {
                Files.copy(file, folder.resolve(file.getFileName()));
            }
        }
        Path config = folder.resolve("tokenizer_config.json");
        JsonObject json = JsonParser.parseString(Files.readString(config)).getAsJsonObject();
        change.accept(json);
        Files.writeString(config, json.toString());
    }

    @Test
    void onlyTheStartOfATextGetsASpaceWhereTheConfigurationIsNotLegacy() throws IOException {
        copyWithoutJson("tokenizers/llama2_spm_bpe", config -> config.addProperty("legacy", false));
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertArrayEquals(tokenizer.encodePlain("Hello"), tokenizer.encode("Hello", false));
            // <s>, then the pieces of the text without a space in front
            assertArrayEquals(new int[] {1, 907, 367}, Arrays.copyOf(tokenizer.encode("<s>not", false), 3));
            assertArrayEquals(new int[] {1, 461}, Arrays.copyOf(tokenizer.encode("<s> not", false), 2));
            assertEquals("<s>not", tokenizer.decode(tokenizer.encode("<s>not", false), false));
        }
    }

    @Test
    void theConfigurationSaysWhatBelongsAroundAText() throws IOException {
        copyWithoutJson("tokenizers/llama2_spm_bpe", config -> {
            config.addProperty("legacy", true);
            config.addProperty("add_bos_token", false);
            config.addProperty("add_eos_token", true);
            config.add("added_tokens_decoder", JsonParser.parseString("""
                    {"1000": {"content": "<|a|>", "special": true, "rstrip": true, "lstrip": true},
                     "1001": {"content": "<|b", "special": false}}"""));
        });
        Files.writeString(folder.resolve("added_tokens.json"), "{\"<|b|>\": 1002}");
        Files.writeString(folder.resolve("special_tokens_map.json"), "{\"additional_special_tokens\": [\"<|b|>\"]}");
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            int[] a = tokenizer.encodePlain("a");
            assertArrayEquals(append(a, 2), tokenizer.encode("a", true));
            assertArrayEquals(append(append(a, 1000), a), tokenizer.encode("a \n<|a|>  a", false));
            assertArrayEquals(append(append(a, 1001), 1002), tokenizer.encode("a<|b<|b|>", false));
            assertEquals(1003, tokenizer.vocabularySize());
            assertEquals("a<|b", tokenizer.decode(append(append(a, 1001), 1002), true));
            assertEquals("a<|b<|b|>", tokenizer.decode(append(append(a, 1001), 1002), false));
            assertEquals(1000, tokenizer.tokenId("<|a|>"));
            assertFalse(tokenizer.addsBos());
            assertEquals(1, tokenizer.bosId());
        }
    }

    private static int[] append(int[] ids, int... more) {
        return IntStream.concat(Arrays.stream(ids), Arrays.stream(more)).toArray();
    }

    /** User-defined pieces are those of any text, control pieces only where special tokens are recognised. */
    @Test
    void piecesOfEachType() {
        try (Tokenizer tokenizer = Tokenizer.open(Fixtures.resource("older/baichuan_internlm_spm_bpe"))) {
            assertArrayEquals(append(tokenizer.encodePlain("a"), 3), tokenizer.encodePlain("a<reserved_102>"));
            assertArrayEquals(append(tokenizer.encodePlain("a"), 2), tokenizer.encode("a</s>", false));
            assertFalse(Arrays.stream(tokenizer.encodePlain("a</s>")).anyMatch(id -> id == 2));
            assertEquals(4, tokenizer.tokenId("<reserved_103>"));
            assertTrue(tokenizer.isSpecial(1) && !tokenizer.isSpecial(3));
            assertEquals("", tokenizer.decode(new int[] {1, 2, 0}, true));
        }
        try (Tokenizer tokenizer = Tokenizer.open(Fixtures.resource("older/chatglm3_spm"))) {
            assertEquals(943, tokenizer.tokenId("sop"));
            assertTrue(tokenizer.isSpecial(943));
            int[] sop = tokenizer.encode("sophisticated [gMASK]", false);
            assertFalse(Arrays.stream(sop).anyMatch(id -> id >= 940), Arrays.toString(sop));
            assertEquals("[gMASK]sop<|user|>", tokenizer.decode(new int[] {941, 943, 946}, false));
            assertEquals("", tokenizer.decode(new int[] {941, 943, 946, 5000}, true));
        }
    }

    /** Bytes of no character become a replacement each: surrogates, encodings that are too long, too large numbers. */
    @Test
    void byteTokensOfNoCharacter() {
        try (Tokenizer tokenizer = Tokenizer.open(Fixtures.resource("older/chatglm2_spm"))) {
            assertEquals("😀\ufffd\ufffd\ufffda", decodeBytes(tokenizer, 0xf0, 0x9f, 0x98, 0x80, 0xed, 0xa0, 0x80, 'a'));
            assertEquals("\ufffd\ufffd\ufffd", decodeBytes(tokenizer, 0xe0, 0x80, 0x80));
            assertEquals("\ufffd\ufffd", decodeBytes(tokenizer, 0xc1, 0x81));
            assertEquals("\ufffd\ufffd\ufffd\ufffd", decodeBytes(tokenizer, 0xf0, 0x80, 0x80, 0x80));
            assertEquals("\ufffd\ufffd\ufffd\ufffd", decodeBytes(tokenizer, 0xf4, 0x90, 0x80, 0x80));
            assertEquals("é\ufffd", decodeBytes(tokenizer, 0xc3, 0xa9, 0xe4));
        }
    }

    /** Byte pieces follow the three special ones. */
    private static String decodeBytes(Tokenizer tokenizer, int... bytes) {
        return tokenizer.decode(Arrays.stream(bytes).map(value -> value + 3).toArray(), true);
    }

    /** The vocabulary of a Llama 3 tokenizer as the tiktoken file that Meta published such vocabularies in. */
    @Test
    void tiktokenFileOfLlama3() throws IOException {
        Path model = Fixtures.resource("tokenizers/llama3_bbpe");
        copyWithoutJson("tokenizers/llama3_bbpe", config -> { });
        JsonObject vocabulary = JsonParser.parseString(Files.readString(model.resolve("tokenizer.json")))
                .getAsJsonObject().getAsJsonObject("model").getAsJsonObject("vocab");
        List<String> lines = new ArrayList<>();
        for (Map.Entry<String, JsonElement> token : vocabulary.entrySet()) {
            lines.add(Base64.getEncoder().encodeToString(bytes(token.getKey())) + " " + token.getValue());
        }
        Files.write(folder.resolve("tokenizer.model"), lines);
        Map<String, Object> golden = Fixtures.readJson(model.resolve("golden.json"));
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertEquals(golden.get("vocab_size"), (long) tokenizer.vocabularySize());
            for (Map<String, Object> one : Fixtures.maps(golden.get("encode"))) {
                String text = (String) one.get("text");
                assertArrayEquals(Fixtures.ids(one.get("ids")), tokenizer.encode(text, false), text);
                assertArrayEquals(Fixtures.ids(one.get("ids_with_special")), tokenizer.encode(text, true), text);
            }
        }
        // Where no file names the special tokens they are those of Llama 3, behind the ranks.
        Files.writeString(folder.resolve("tokenizer_config.json"), "{}");
        Files.delete(folder.resolve("special_tokens_map.json"));
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            int ranks = lines.size();
            assertEquals(ranks, tokenizer.bosId());
            assertEquals(ranks + 9, tokenizer.tokenId("<|eot_id|>"));
            assertEquals(ranks + 10, tokenizer.tokenId("<|reserved_special_token_5|>"));
            assertEquals(ranks + 255, tokenizer.tokenId("<|reserved_special_token_250|>"));
            assertEquals(ranks + 256, tokenizer.vocabularySize());
        }
    }

    /** The bytes of a token of a byte-level vocabulary. */
    private static byte[] bytes(String token) {
        List<Integer> bytes = new ArrayList<>();
        for (char c : token.toCharArray()) {
            int value = 0;
            while (ByteAlphabet.write(new byte[] {(byte) value}).charAt(0) != c) {
                value++;
            }
            bytes.add(value);
        }
        byte[] result = new byte[bytes.size()];
        for (int i = 0; i < result.length; i++) {
            result[i] = bytes.get(i).byteValue();
        }
        return result;
    }

    @Test
    void glm4PutsItsOwnTokensInFront() throws IOException {
        copyWithoutJson("older/qwen_tiktoken", config -> {
            config.addProperty("tokenizer_class", "ChatGLM4Tokenizer");
            config.add("added_tokens_decoder", JsonParser.parseString("""
                    {"900": {"content": "<|endoftext|>", "special": true},
                     "902": {"content": "[gMASK]", "special": true}, "904": {"content": "<sop>", "special": true}}"""));
        });
        Files.move(folder.resolve("qwen.tiktoken"), folder.resolve("tokenizer.model"));
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertArrayEquals(
                    append(new int[] {902, 904}, tokenizer.encodePlain("a b")), tokenizer.encode("a b", true));
            assertArrayEquals(new int[] {902, 904, 900}, tokenizer.encode("[gMASK]<sop><|endoftext|>", false));
            assertEquals("[gMASK]", tokenizer.decode(new int[] {902, 903}, false));
        }
    }

    @Test
    void tokenizerJsonComesFirst() throws IOException {
        for (Path file : Fixtures.children(Fixtures.resource("tokenizers/qwen3_bbpe"))) {
            Files.copy(file, folder.resolve(file.getFileName()));
        }
        Files.writeString(folder.resolve("vocab.json"), "nonsense");
        Files.writeString(folder.resolve("tokenizer.model"), "nonsense");
        Tokenizer.open(folder).close();
        Files.delete(folder.resolve("tokenizer.json"));
        assertTrue(assertThrows(LaminaException.class, () -> Tokenizer.open(folder)).getMessage()
                .contains("tokenizer.model is not a tokenizer"));
        Files.delete(folder.resolve("tokenizer.model"));
        assertTrue(assertThrows(LaminaException.class, () -> Tokenizer.open(folder)).getMessage()
                .contains("vocab.json is not a JSON object"));
        assertTrue(Tokenizer.exists(folder));
        Files.delete(folder.resolve("merges.txt"));
        assertFalse(Tokenizer.exists(folder));
        assertNull(TokenizerParts.file(folder));
    }
}
