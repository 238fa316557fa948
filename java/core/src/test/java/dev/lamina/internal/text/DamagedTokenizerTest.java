package dev.lamina.internal.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Files that nobody can trust: each is refused in one line, or it is a tokenizer that works. */
class DamagedTokenizerTest {
    private static final String TEXT = " Hello,  wörld\t你好 👍🏽 <s>\n\u0000a ﬁ";
    private static final String MODEL = "tokenizer.model";

    @TempDir
    private Path folder;

    /** A protobuf message that is written field by field. */
    private static final class Message {
        private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

        Message raw(int... values) {
            Arrays.stream(values).forEach(bytes::write);
            return this;
        }

        Message varint(long value) {
            while ((value & ~0x7fL) != 0) {
                bytes.write((int) (value & 0x7f | 0x80));
                value >>>= 7;
            }
            bytes.write((int) value);
            return this;
        }

        Message number(int field, long value) {
            return varint(field << 3).varint(value);
        }

        Message bytes(int field, byte[] value) {
            varint(field << 3 | 2).varint(value.length);
            bytes.writeBytes(value);
            return this;
        }

        Message message(int field, Message value) {
            return bytes(field, value.bytes.toByteArray());
        }

        Message piece(String text, float score, int type) {
            Message piece = new Message().bytes(1, text.getBytes(StandardCharsets.UTF_8)).varint(2 << 3 | 5);
            piece.bytes.writeBytes(
                    ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putFloat(score).array());
            return message(1, piece.number(3, type));
        }
    }

    /** A model of one unknown piece, two control pieces and a few characters. */
    private static Message model(int modelType) {
        Message model = new Message().piece("<unk>", 0, 2).piece("<s>", 0, 3).piece("</s>", 0, 3);
        for (String text : List.of("\u2581", "a", "b", "ab")) {
            model.piece(text, -text.length(), 1);
        }
        return model.message(2, new Message().number(3, modelType));
    }

    private String refusal(byte[] content) throws IOException {
        Files.write(folder.resolve(MODEL), content);
        String message = assertThrows(LaminaException.class, () -> Tokenizer.open(folder)).getMessage();
        assertTrue(message.contains(MODEL) && !message.contains("\n"), message);
        return message;
    }

    private void assertRefused(String why, Message model) throws IOException {
        String message = refusal(model.bytes.toByteArray());
        assertTrue(message.contains(why), message);
    }

    /** Opens a damaged file; returns whether it is refused. */
    private boolean isRefused(String name, byte[] content) throws IOException {
        Files.write(folder.resolve(name), content);
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            for (int id : tokenizer.encode(TEXT, true)) {
                assertTrue(id >= 0 && id < tokenizer.vocabularySize());
            }
            tokenizer.decode(IntStream.range(0, tokenizer.vocabularySize()).toArray(), false);
            return false;
        } catch (LaminaException e) {
            assertTrue(e.getMessage().contains(name) && !e.getMessage().contains("\n"), e.getMessage());
            return true;
        }
    }

    @Test
    void theModelOfTheseTestsIsOne() throws IOException {
        for (int type : new int[] {1, 2}) {
            Files.write(folder.resolve(MODEL), model(type).bytes.toByteArray());
            try (Tokenizer tokenizer = Tokenizer.open(folder)) {
                assertEquals(List.of(1, 3, 6, 0, 5), Arrays.stream(tokenizer.encode("abxyb", true)).boxed().toList());
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"baichuan_internlm_spm_bpe/tokenizer.model", "qwen_tiktoken/qwen.tiktoken"})
    void truncatedFiles(String name) throws IOException {
        byte[] whole = Files.readAllBytes(Fixtures.resource("older/" + name));
        String file = name.substring(name.indexOf('/') + 1);
        int refused = 0;
        for (int length = 0; length < whole.length; length += whole.length / 60) {
            refused += isRefused(file, Arrays.copyOf(whole, length)) ? 1 : 0;
        }
        // A file that ends between two pieces or lines looks complete until the last byte is needed.
        assertTrue(refused > 15, refused + " refused");
    }

    @ParameterizedTest
    @ValueSource(strings = {"baichuan_internlm_spm_bpe/tokenizer.model", "qwen_tiktoken/qwen.tiktoken",
        "unigram_nmt_nfkc_spm/tokenizer.model"})
    void flippedBits(String name) throws IOException {
        byte[] whole = Files.readAllBytes(Fixtures.resource("older/" + name));
        String file = name.substring(name.indexOf('/') + 1);
        Random random = new Random(1);
        int refused = 0;
        for (int i = 0; i < 60; i++) {
            byte[] damaged = whole.clone();
            for (int flips = random.nextInt(4); flips >= 0; flips--) {
                damaged[random.nextInt(damaged.length)] ^= (byte) (1 << random.nextInt(8));
            }
            refused += isRefused(file, damaged) ? 1 : 0;
        }
        assertTrue(refused > 0 && refused < 60, refused + " refused");
    }

    @Test
    void messagesThatAreNone() throws IOException {
        assertRefused("beyond the end", model(2).raw(0x0a).varint(Long.MAX_VALUE));
        assertRefused("beyond the end", model(2).raw(0x0a).varint(-1));
        assertRefused("beyond the end", model(2).raw(0x0a, 5, 1));
        assertRefused("unknown wire type 3", model(2).raw(9 << 3 | 3));
        assertRefused("unknown wire type 7", model(2).raw(9 << 3 | 7));
        assertRefused("without a number", model(2).raw(0, 0));
        assertRefused("without an end", model(2).raw(0x48).raw(IntStream.generate(() -> 0xff).limit(20).toArray()));
        assertRefused("middle of a field", model(2).raw(9 << 3 | 1, 1, 2, 3));
        assertRefused("has the wire type 0 and not 2", model(2).number(1, 1));
        assertRefused("not UTF-8", model(2).message(1, new Message().bytes(1, new byte[] {(byte) 0xff})));
        assertRefused("not UTF-8", model(2).message(1, new Message().bytes(1, new byte[] {(byte) 0xed, -96, -128})));
        // Fields of other kinds are passed over.
        assertFalse(isRefused(MODEL, model(2).number(77, 1).raw(9 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8)
                .raw(9 << 3 | 5, 1, 2, 3, 4).bytes(9, new byte[3]).bytes.toByteArray()));
    }

    @Test
    void piecesThatAreNone() throws IOException {
        assertRefused("the piece 'ab' twice", model(2).piece("ab", 0, 1));
        assertRefused("the piece '<s>' twice", model(2).piece("<s>", 0, 1));
        assertRefused("the score NaN of 'c?d'", model(2).piece("c\nd", Float.NaN, 1));
        assertRefused("the score Infinity", model(2).piece("c", Float.POSITIVE_INFINITY, 1));
        assertRefused("without text", model(2).message(1, new Message()));
        assertRefused("unknown type 0", model(2).piece("c", 0, 0));
        assertRefused("unknown type 7", model(2).piece("c", 0, 7));
        assertRefused("two unknown pieces", model(2).piece("c", 0, 2));
        assertRefused("no unknown piece", new Message().piece("a", 0, 1).message(2, new Message().number(3, 2)));
        assertRefused("no byte piece <0x00>", model(2).message(2, new Message().number(35, 1)));
        assertRefused("tokens are too long", model(2).piece("x".repeat(20_000), 0, 1));
    }

    @Test
    void whatIsNotSupportedIsNamed() throws IOException {
        assertRefused("treat_whitespace_as_suffix", model(1).message(2, new Message().number(24, 1)));
        assertRefused("model_type 3", model(3));
        assertRefused("UNUSED", model(2).piece("c", 0, 5));
        assertFalse(isRefused(MODEL, model(1).piece("c", 0, 5).bytes.toByteArray()));
        assertRefused("denormalizer", model(1).message(5, new Message().bytes(2, new byte[9])));
    }

    @Test
    void moreTokensThanAnyModelHas() throws IOException {
        Message many = new Message();
        for (int i = 0; i <= 1 << 20; i++) {
            many.message(1, new Message().bytes(1, Integer.toString(i, 36).getBytes(StandardCharsets.UTF_8)));
        }
        assertRefused("more than 1048576 pieces", many);
    }

    @Test
    void damagedRules() throws IOException {
        Random random = new Random(2);
        for (int i = 0; i < 300; i++) {
            byte[] rules = new byte[4 + random.nextInt(4000)];
            random.nextBytes(rules);
            int trieBytes = rules.length / 2 / 4 * 4;
            if (i % 4 != 0) {
                ByteBuffer.wrap(rules).order(ByteOrder.LITTLE_ENDIAN).putInt(trieBytes);
                // Small offsets keep the walk inside the trie.
                for (int unit = 7; i % 4 > 1 && unit < trieBytes; unit += 4) {
                    rules[unit] = 0;
                    rules[unit - 1] &= 3;
                }
                rules[rules.length - 1] = 0;
            }
            isRefused(MODEL, model(1).message(3, new Message().bytes(2, rules)).bytes.toByteArray());
        }
        assertRefused("precompiled_charsmap", model(1).message(3, new Message().bytes(2, new byte[3])));
        assertRefused("precompiled_charsmap",
                model(1).message(3, new Message().bytes(2, new byte[] {4, 0, 0, 0, 0, 0})));
        byte[] endless = new byte[5000];
        Arrays.fill(endless, (byte) 'x');
        ByteBuffer.wrap(endless).order(ByteOrder.LITTLE_ENDIAN).putInt(4);
        endless[4999] = 0;
        assertRefused("too long", model(1).message(3, new Message().bytes(2, endless)));
    }

    /** A trie of the one key "a", and its value at a place that may be beyond all values. */
    @ParameterizedTest
    @ValueSource(ints = {0, 1, 3, 9999, Integer.MAX_VALUE})
    void placesOfValues(int place) throws IOException {
        ByteBuffer rules = ByteBuffer.allocate(4 + 4 * 512 + 3).order(ByteOrder.LITTLE_ENDIAN).putInt(4 * 512);
        rules.putInt(4, 256 << 10); // the root's children begin at 256
        rules.putInt(4 + 4 * (256 ^ 'a'), 256 << 10 | 1 << 8 | 'a'); // its leaf is at 256 ^ 256 ^ 'a'
        rules.putInt(4 + 4 * 'a', 1 << 31 | place);
        rules.put(4 + 4 * 512 + 1, (byte) 'b');
        Message model = model(1).message(3, new Message().bytes(2, rules.array()));
        Files.write(folder.resolve(MODEL), model.bytes.toByteArray());
        List<Integer> expected = place == 0 ? List.of() : List.of(3, place == 1 ? 5 : 4);
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertEquals(expected, Arrays.stream(tokenizer.encodePlain("a")).boxed().toList());
        }
    }

    @Test
    void userDefinedPiecesAreNotNormalised() throws IOException {
        Path published = Fixtures.resource("older/unigram_nmt_nfkc_spm").resolve(MODEL);
        byte[] rules = SentencePieceModel.read(published).charsmap();
        Message model = model(1).piece("\ufb01", 0, 4).message(3, new Message().bytes(2, rules));
        Files.write(folder.resolve(MODEL), model.bytes.toByteArray());
        try (Tokenizer tokenizer = Tokenizer.open(folder)) {
            assertEquals(List.of(3, 7, 4), Arrays.stream(tokenizer.encodePlain("\ufb01\uff41")).boxed().toList());
        }
    }

    private static String line(int value, Object rank) {
        return Base64.getEncoder().encodeToString(new byte[] {(byte) value}) + " " + rank;
    }

    private String tiktokenRefusal(List<String> more) throws IOException {
        List<String> lines = IntStream.range(0, 256).mapToObj(i -> line(i, i)).collect(Collectors.toCollection(
                ArrayList::new));
        lines.addAll(more);
        return refusal(String.join("\n", lines).getBytes(StandardCharsets.UTF_8));
    }

    @Test
    void tiktokenVocabulariesThatAreNone() throws IOException {
        assertTrue(tiktokenRefusal(List.of("YWE= 255")).contains("line 257 has the rank 255 again"));
        assertTrue(tiktokenRefusal(List.of("YWE= 257")).contains("no token has the rank 256"));
        assertTrue(tiktokenRefusal(List.of("YQ== 256")).contains("the token of the rank 256 is there twice"));
        for (String line : List.of("YWE=", "YWE= x", "YWE= -1", "YWE= 99999999", "YWE= 99999999999", " 256",
                "YWE=  256", "YWE= 256 1")) {
            assertTrue(tiktokenRefusal(List.of(line)).contains("line 257 is not a token in base64 and a rank"), line);
        }
        for (String line : List.of("Y 256", "Y?E= 256", "YWE=YWE= 256", "é 256", "\0 256")) {
            assertTrue(tiktokenRefusal(List.of(line)).contains("line 257 is not base64"), line);
        }
        assertTrue(refusal("IQ== 0".getBytes(StandardCharsets.UTF_8)).contains("no token is the byte 0"));
        assertTrue(refusal(new byte[0]).contains("no token is the byte 0"));
        String tooLong = Base64.getEncoder().encodeToString(new byte[20_000]) + " 256";
        assertTrue(tiktokenRefusal(List.of(tooLong)).contains("tokens are too long"));
    }

    @Test
    void vocabulariesAndMergesThatAreNone() throws IOException {
        Files.writeString(folder.resolve("tokenizer_config.json"), "{\"tokenizer_class\": \"GPT2Tokenizer\"}");
        Path vocabulary = folder.resolve("vocab.json");
        Path merges = folder.resolve("merges.txt");
        Files.writeString(merges, "#version: 0.2\na b\n");
        for (String content : List.of("{\"a\": -1}", "{\"a\": 99999999}", "{\"a\": \"x\"}", "{\"a\": []}", "[]", "")) {
            Files.writeString(vocabulary, content);
            assertOneLine("vocab.json");
        }
        Files.writeString(vocabulary, "{\"a\": 0, \"b\": 1, \"ab\": 2}");
        Tokenizer.open(folder).close();
        for (String content : List.of("a", "a b c", " b", "a  b", "a c", "\u0000")) {
            Files.writeString(merges, content);
            assertOneLine(content.equals("a c") ? "vocab.json" : "merges.txt");
        }
        Files.writeString(folder.resolve("tokenizer_config.json"), "{\"tokenizer_class\": \"Other\\nTokenizer\"}");
        assertOneLine("'Other?Tokenizer'");
    }

    private void assertOneLine(String part) {
        String message = assertThrows(LaminaException.class, () -> Tokenizer.open(folder)).getMessage();
        assertTrue(message.contains(part) && !message.contains("\n"), message);
    }

    @Test
    void addedTokensThatAreNone() throws IOException {
        Files.write(folder.resolve(MODEL), model(2).bytes.toByteArray());
        for (String token : List.of("\"x\": {\"content\": \"t\"}", "\"-1\": {\"content\": \"t\"}",
                "\"99999999\": {\"content\": \"t\"}", "\"9\": {\"content\": \"\"}",
                "\"9\": {\"content\": \"" + "t".repeat(2000) + "\"}")) {
            Files.writeString(folder.resolve("tokenizer_config.json"), "{\"added_tokens_decoder\": {" + token + "}}");
            assertOneLine("the added token");
        }
        for (String config : List.of("{\"added_tokens_decoder\": 1, \"legacy\": \"x\", \"tokenizer_class\": []}",
                "{\"added_tokens_decoder\": {\"9\": 1, \"10\": {\"content\": [], \"special\": 7}}}")) {
            Files.writeString(folder.resolve("tokenizer_config.json"), config);
            Tokenizer.open(folder).close();
        }
    }
}
