package dev.lamina.internal.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class TextStreamTest {
    private static final String FIXTURES = "dev.lamina.internal.text.Fixtures#tokenizers";
    private static final String OLDER = "dev.lamina.internal.text.TokenizerPartsTest#older";

    private static String stream(Tokenizer tokenizer, int[] ids) {
        TextStream stream = new TextStream(tokenizer);
        StringBuilder text = new StringBuilder();
        for (int id : ids) {
            String piece = stream.accept(id);
            assertFalse(!piece.isEmpty() && Character.isHighSurrogate(piece.charAt(piece.length() - 1)));
            text.append(piece);
        }
        return text.append(stream.finish()).toString();
    }

    @ParameterizedTest
    @MethodSource({FIXTURES, OLDER})
    void piecesMakeTheWhole(Path model) {
        Map<String, Object> golden = Fixtures.readJson(model.resolve("golden.json"));
        try (Tokenizer tokenizer = Tokenizer.open(model)) {
            for (String list : List.of("encode", "decode_random")) {
                for (Map<String, Object> one : Fixtures.maps(golden.get(list))) {
                    int[] ids = Fixtures.ids(one.get("ids"));
                    assertEquals(tokenizer.decode(ids, true), stream(tokenizer, ids));
                }
            }
        }
    }

    /** Random tokens: mostly invalid bytes, with special tokens and ids outside the vocabulary between them. */
    @ParameterizedTest
    @MethodSource({FIXTURES, OLDER})
    void piecesOfRandomTokensMakeTheWhole(Path model) {
        Random random = new Random(1);
        try (Tokenizer tokenizer = Tokenizer.open(model)) {
            for (int round = 0; round < 300; round++) {
                int bound = List.of(tokenizer.vocabularySize() + 20, 300, 30).get(round % 3);
                int[] ids = random.ints(1 + random.nextInt(120), 0, bound).toArray();
                assertEquals(tokenizer.decode(ids, true), stream(tokenizer, ids), () -> Arrays.toString(ids));
            }
        }
    }

    /** Blanks that decode to nothing at the start of a text are blanks in the middle of one. */
    @Test
    void blanksInARowAreKept() {
        try (Tokenizer tokenizer = Tokenizer.open(Fixtures.resource("older/unigram_nmt_nfkc_spm"))) {
            int[] ids = {259, 262, 259, 259, 262};
            assertEquals("s  s", tokenizer.decode(ids, true));
            assertEquals("s  s", stream(tokenizer, ids));
        }
    }

    /** What is sent as soon as it is certain holds no replacement of half a character. */
    @ParameterizedTest
    @MethodSource({FIXTURES, OLDER})
    void halfCharactersAreNeverSent(Path model) {
        String text = "Emoji 👩‍💻 🏳️‍🌈 👍🏽, 你好世界 и ещё: naïve 한국어 🙂🙂🙂.";
        try (Tokenizer tokenizer = Tokenizer.open(model)) {
            TextStream stream = new TextStream(tokenizer);
            StringBuilder soFar = new StringBuilder();
            int[] ids = tokenizer.encode(text, false);
            String whole = tokenizer.decode(ids, true);
            int pieces = 0;
            for (int id : ids) {
                String piece = stream.accept(id);
                pieces += piece.isEmpty() ? 0 : 1;
                soFar.append(piece);
                assertTrue(whole.startsWith(soFar.toString()), soFar.toString());
            }
            assertEquals(whole, soFar + stream.finish());
            assertTrue(pieces > 10, pieces + " pieces");
        }
    }

    /** Plain text is sent token by token, not at the end. */
    @ParameterizedTest
    @MethodSource({FIXTURES, OLDER})
    void plainTextIsNotHeldBack(Path model) {
        try (Tokenizer tokenizer = Tokenizer.open(model)) {
            TextStream stream = new TextStream(tokenizer);
            int[] ids = tokenizer.encode("The cat sat on the mat, and then it was gone", false);
            StringBuilder soFar = new StringBuilder();
            for (int i = 0; i < ids.length; i++) {
                soFar.append(stream.accept(ids[i]));
                assertEquals(tokenizer.decode(Arrays.copyOf(ids, i + 1), true), soFar.toString());
            }
            assertEquals("", stream.finish());
        }
    }

    /** Blanks at the start are dropped once, as for the whole text, and every text starts anew. */
    @Test
    void leadingBlanksAreDroppedOnlyAtTheStart() {
        try (Tokenizer tokenizer = Tokenizer.open(Fixtures.resource("tokenizers/llama2_spm_bpe"))) {
            int[] word = tokenizer.encode("hello", false);
            int[] ids = IntStream.range(0, 3 * word.length).map(i -> word[i % word.length]).toArray();
            assertEquals("hello hello hello", stream(tokenizer, ids));
            TextStream stream = new TextStream(tokenizer);
            for (int round = 0; round < 2; round++) {
                StringBuilder text = new StringBuilder();
                for (int id : word) {
                    text.append(stream.accept(id));
                }
                assertEquals("hello", text.append(stream.finish()).toString());
            }
        }
    }

    /** A model that goes on with invalid bytes is decoded in small windows, and nothing is lost. */
    @Test
    void endlessInvalidBytes() {
        try (Tokenizer tokenizer = Tokenizer.open(Fixtures.resource("tokenizers/qwen3_bbpe"))) {
            int[] emoji = tokenizer.encode("🙂", false);
            assertTrue(emoji.length > 1, "an emoji of several tokens: "
                    + Arrays.toString("🙂".getBytes(StandardCharsets.UTF_8)));
            int[] ids = new int[2000];
            Arrays.fill(ids, emoji[0]);
            assertEquals(tokenizer.decode(ids, true), stream(tokenizer, ids));
        }
    }
}
