package dev.lamina.internal.text;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.lamina.LaminaException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class TokenizerTest {
    private static final String FIXTURES = "dev.lamina.internal.text.Fixtures#tokenizers";

    @ParameterizedTest
    @MethodSource(FIXTURES)
    void encodesAndDecodesLikeTheReference(Path model) {
        Map<String, Object> golden = Fixtures.readJson(model.resolve("golden.json"));
        try (Tokenizer tokenizer = Tokenizer.open(model)) {
            assertEquals(golden.get("vocab_size"), (long) tokenizer.vocabularySize());
            List<Map<String, Object>> cases = new ArrayList<>(Fixtures.maps(golden.get("encode")));
            assertEquals(55, cases.size());
            for (Map<String, Object> one : cases) {
                String text = (String) one.get("text");
                assertArrayEquals(Fixtures.ids(one.get("ids")), tokenizer.encode(text, false), text);
                assertArrayEquals(Fixtures.ids(one.get("ids_with_special")), tokenizer.encode(text, true), text);
            }
            cases.addAll(Fixtures.maps(golden.get("decode_random")));
            for (Map<String, Object> one : cases) {
                int[] ids = Fixtures.ids(one.get("ids"));
                assertEquals(one.get("decoded"), tokenizer.decode(ids, false));
                if (one.containsKey("decoded_skip_special")) {
                    assertEquals(one.get("decoded_skip_special"), tokenizer.decode(ids, true));
                }
            }
        }
    }

    /** Prompts and answers of whole models. */
    @Test
    void encodesAndDecodesForModels() {
        Path shared = Fixtures.shared("");
        assumeTrue(shared != null, "no shared fixtures here");
        int count = 0;
        for (Path model : Fixtures.children(shared)) {
            if (!model.getFileName().toString().startsWith("e2e_") || !Files.exists(model.resolve("tokenizer.json"))) {
                continue;
            }
            ChatTemplate template = ChatTemplate.load(model);
            try (Tokenizer tokenizer = Tokenizer.open(model)) {
                for (Map<String, Object> one : Fixtures.maps(
                        Fixtures.readJson(model.resolve("golden.json")).get("prompts"))) {
                    int[] ids;
                    if (one.get("text") instanceof String text) {
                        ids = tokenizer.encode(text, (Boolean) one.getOrDefault("add_special_tokens", true));
                    } else {
                        assertTrue(template != null);
                        String rendered = template.render(
                                Fixtures.maps(one.get("messages")),
                                (Boolean) one.get("add_generation_prompt"),
                                Map.of(),
                                Clock.systemUTC());
                        assertEquals(one.get("rendered"), rendered);
                        ids = tokenizer.encode(rendered, false);
                    }
                    assertArrayEquals(Fixtures.ids(one.get("input_ids")), ids, model.toString());
                    int[] answer = Fixtures.ids(one.get("greedy_ids"));
                    assertEquals(one.get("greedy_text_skip_special"), tokenizer.decode(answer, true), model.toString());
                    count++;
                }
            }
        }
        assertTrue(count > 20, count + " prompts");
    }

    @Test
    void knowsItsSpecialTokens() {
        try (Tokenizer llama3 = Tokenizer.open(Fixtures.resource("tokenizers/llama3_bbpe"))) {
            assertTrue(llama3.addsBos());
            assertEquals(900, llama3.bosId());
            assertEquals(900, llama3.tokenId("<|begin_of_text|>"));
            assertNull(llama3.tokenId("<|nothing|>"));
            assertTrue(llama3.isSpecial(900));
            assertFalse(llama3.isSpecial(10));
            assertFalse(llama3.isSpecial(-1));
            assertFalse(llama3.isSpecial(1 << 20));
        }
        try (Tokenizer qwen = Tokenizer.open(Fixtures.resource("tokenizers/qwen2_bbpe"))) {
            assertFalse(qwen.addsBos());
            assertNull(qwen.bosId());
            int end = qwen.tokenId("<|im_end|>");
            assertArrayEquals(new int[] {end}, qwen.encode("<|im_end|>", false));
            assertEquals("<|im_end|>", qwen.decode(new int[] {end}, false));
            assertEquals("", qwen.decode(new int[] {end}, true));
        }
        try (Tokenizer gpt2 = Tokenizer.open(Fixtures.resource("tokenizers/gpt2_bbpe_digits"))) {
            assertFalse(gpt2.addsBos());
            assertEquals(600, gpt2.bosId());
        }
    }

    @ParameterizedTest
    @MethodSource(FIXTURES)
    void survivesAnyTextAndAnyIds(Path model) {
        try (Tokenizer tokenizer = Tokenizer.open(model)) {
            assertEquals("a\0b", tokenizer.decode(tokenizer.encode("a\0b", false), true));
            assertEquals("x\ufffdy", tokenizer.decode(tokenizer.encode("x\ud83dy", false), true));
            assertEquals("\ufffd", tokenizer.decode(tokenizer.encode("\udc00", false), true).strip());
            assertEquals(0, tokenizer.encode("", false).length);
            assertEquals("", tokenizer.decode(new int[0], true));
            int size = tokenizer.vocabularySize();
            int[] outside = {size, size + 1, -1, Integer.MAX_VALUE, Integer.MIN_VALUE};
            assertEquals("", tokenizer.decode(outside, false));
            // Neither truncated nor padded, whatever the library would do by default.
            assertTrue(tokenizer.encode("word 1 ".repeat(2000), false).length > 4000);
        }
    }

    @Test
    void unusableFilesAreOneClearLine(@TempDir Path folder) throws IOException {
        String missing = assertThrows(LaminaException.class, () -> Tokenizer.open(folder)).getMessage();
        assertTrue(missing.contains(folder.toString()) && missing.contains("has no tokenizer.json"), missing);
        String whole = Files.readString(Fixtures.resource("tokenizers/qwen3_bbpe").resolve("tokenizer.json"));
        for (String content : List.of("", "{", "[]", "nonsense", "{}", "{\"model\": 3}",
                "{\"model\": {\"type\": \"BPE\"}}", "{\"added_tokens\": [{\"id\": -1}]}",
                "{\"added_tokens\": [{\"id\": 99999999999}]}", "{\"added_tokens\": 1}",
                "{\"model\": {\"vocab\": [1]}}", "{\"model\": {\"vocab\": {\"a\": \"b\"}}}", "[".repeat(100_000),
                whole.substring(0, whole.length() / 2), whole.replace("\"BPE\"", "\"Other\""), whole + "x")) {
            Files.writeString(folder.resolve("tokenizer.json"), content);
            String message = assertThrows(
                    LaminaException.class, () -> Tokenizer.open(folder), () -> start(content)).getMessage();
            assertTrue(message.contains("tokenizer.json"), message);
            assertFalse(message.contains("\n"), message);
        }
    }

    private static String start(String content) {
        return content.substring(0, Math.min(60, content.length()));
    }

    @Test
    void hostSettingsAreKept() {
        System.clearProperty("ai.djl.offline");
        System.setProperty("OPT_OUT_TRACKING", "TRUE");
        try {
            Tokenizer.open(Fixtures.resource("tokenizers/qwen3_bbpe")).close();
            assertEquals("true", System.getProperty("ai.djl.offline"));
            assertEquals("TRUE", System.getProperty("OPT_OUT_TRACKING"));
            assertEquals("cpu", System.getProperty("RUST_FLAVOR"));
        } finally {
            System.clearProperty("OPT_OUT_TRACKING");
        }
    }

    @Test
    void isSafeToShareBetweenThreads() throws InterruptedException, ExecutionException {
        Path model = Fixtures.resource("tokenizers/llama3_bbpe");
        try (ExecutorService threads = Executors.newFixedThreadPool(4); Tokenizer shared = Tokenizer.open(model)) {
            int[] expected = shared.encode("The quick brown fox, 你好 👍", true);
            List<Future<?>> results = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                results.add(threads.submit(() -> {
                    try (Tokenizer own = Tokenizer.open(model)) {
                        for (int k = 0; k < 50; k++) {
                            assertArrayEquals(expected, shared.encode("The quick brown fox, 你好 👍", true));
                            assertEquals(own.decode(expected, true), shared.decode(expected, true));
                        }
                    }
                }));
            }
            for (Future<?> result : results) {
                result.get();
            }
        }
    }

    @Test
    void closedTokenizersSaySo() {
        Tokenizer tokenizer = Tokenizer.open(Fixtures.resource("tokenizers/qwen3_bbpe"));
        tokenizer.close();
        tokenizer.close();
        assertThrows(IllegalStateException.class, () -> tokenizer.encode("a", true));
        assertThrows(IllegalStateException.class, () -> tokenizer.decode(new int[] {1}, true));
    }
}
