package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Files and arguments that are wrong: one clear line, status 1, and nothing half-written. */
class BadInputTest {
    @TempDir
    private Path folder;

    private Path model;
    private Path weights;

    @BeforeEach
    void writeModel() throws IOException {
        model = TinyModel.write(folder.resolve("model"));
        weights = model.resolve("model.safetensors");
    }

    /** All commands that open a model refuse it, and a split leaves nothing behind. */
    private void refused(String... words) throws IOException {
        Cli.run("generate", "--model", model, "--ids", "2", "-n", 2).failedInOneLine(words);
        Cli.run("generate", "--model", model, "--ids", "2", "-n", 2, "--json").failedInOneLine(words);
        Cli.run("inspect", "--model", model).failedInOneLine(words);
        Cli.run("doctor", "--model", model).failedInOneLine(words);
        Cli.run("logits", "--model", model, "--ids", "2", "--out", folder.resolve("out")).failedInOneLine(words);
        Cli.run("split", "--model", model, "--shards", folder.resolve("shards")).failedInOneLine(words);
        try (var files = Files.list(folder)) {
            assertTrue(files.allMatch(file -> file.equals(model)), "something half-written was left");
        }
    }

    @Test
    void missingFolder() throws IOException {
        Files.walk(model).sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
        refused(model.toString());
    }

    @Test
    void missingFiles() throws IOException {
        Files.delete(weights);
        refused("no weights", "model.safetensors");
        Files.delete(model.resolve("config.json"));
        Cli.run("generate", "--model", model, "--ids", "2").failedInOneLine("config.json");
    }

    @Test
    void missingTokenizer() throws IOException {
        Files.delete(model.resolve("tokenizer.json"));
        Cli.run("generate", "--model", model, "--prompt", "a").failedInOneLine("tokenizer.json");
        Cli.run("generate", "--model", model, "--ids", "2").succeeded();
        Files.writeString(model.resolve("tokenizer.json"), "{\"version\": 1");
        Cli.run("generate", "--model", model, "--prompt", "a").failedInOneLine("tokenizer.json");
    }

    @Test
    void missingChatTemplate() throws IOException {
        Files.delete(model.resolve("tokenizer_config.json"));
        Cli.run("generate", "--model", model, "--prompt", "a", "--chat").failedInOneLine("chat template");
        Cli.runWithInput("a\n", "chat", "--model", model).failedInOneLine("chat template");
        Files.writeString(model.resolve("tokenizer_config.json"),
                "{\"chat_template\": \"{% while true %}{% endwhile %}\"}");
        Cli.run("generate", "--model", model, "--prompt", "a", "--chat").failedInOneLine("template");
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"})
    void configWithoutANeededKey(String key) throws IOException {
        Files.writeString(model.resolve("config.json"), TinyModel.CONFIG.replace('"' + key + '"', "\"other\""));
        refused("config.json", key);
    }

    @ParameterizedTest
    @ValueSource(strings = {"0", "-1", "1.5", "1e300", "\"16\"", "[]", "null"})
    void configWithANonsenseValue(String value) throws IOException {
        Files.writeString(model.resolve("config.json"),
                TinyModel.CONFIG.replace("\"hidden_size\": 16", "\"hidden_size\": " + value));
        refused("config.json", "hidden_size");
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "null", "{\"a\": }"})
    void configThatIsNone(String text) throws IOException {
        Files.writeString(model.resolve("config.json"), text);
        refused("config.json");
    }

    @Test
    void unknownFamily() throws IOException {
        Files.writeString(model.resolve("config.json"),
                TinyModel.CONFIG.replace("LlamaForCausalLM", "MambaForCausalLM"));
        refused("MambaForCausalLM", "LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM");
    }

    @Test
    void tensorOfTheWrongShape() throws IOException {
        TinyModel.write(model, TinyModel.WIDTH - 1);
        refused("lm_head.weight", "15", "16");
    }

    @Test
    void truncatedWeights() throws IOException {
        var whole = Files.readAllBytes(weights);
        for (int length : new int[] {0, 4, 8, 100, whole.length / 2, whole.length - 1}) {
            Files.write(weights, Arrays.copyOf(whole, length));
            refused("model.safetensors");
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "{}",
        "[1]",
        "{\"a\"",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [9223372036854775807, 4], \"data_offsets\": [0, 64]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [-4, -4], \"data_offsets\": [0, 64]}}",
        "{\"a\": {\"dtype\": \"F99\", \"shape\": [16], \"data_offsets\": [0, 64]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [16], \"data_offsets\": [64, 0]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [16], \"data_offsets\": [0, 1e18]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [16], \"data_offsets\": [-64, 0]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [8], \"data_offsets\": [0, 32]}, "
                + "\"b\": {\"dtype\": \"F32\", \"shape\": [8], \"data_offsets\": [16, 48]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [16], \"data_offsets\": [0, 64]}, "
                + "\"a\": {\"dtype\": \"F32\", \"shape\": [16], \"data_offsets\": [0, 64]}}"})
    void hostileHeader(String header) throws IOException {
        var json = header.getBytes(StandardCharsets.UTF_8);
        Files.write(weights, ByteBuffer.allocate(8 + json.length + 64).order(ByteOrder.LITTLE_ENDIAN)
                .putLong(json.length).put(json).array());
        refused();
    }

    @ParameterizedTest
    @ValueSource(longs = {-1, Long.MIN_VALUE, Long.MAX_VALUE, 1L << 40, 1000})
    void hostileHeaderLength(long length) throws IOException {
        Files.write(weights, ByteBuffer.allocate(500).order(ByteOrder.LITTLE_ENDIAN).putLong(length).array());
        refused("model.safetensors");
    }

    @Test
    void flippedBitsOfTheHeader() throws IOException {
        var whole = Files.readAllBytes(weights);
        int headerBytes = 8 + (int) ByteBuffer.wrap(whole).order(ByteOrder.LITTLE_ENDIAN).getLong();
        var random = new Random(11);
        for (int i = 0; i < 200; i++) {
            var flipped = whole.clone();
            flipped[random.nextInt(headerBytes)] ^= (byte) (1 << random.nextInt(8));
            Files.write(weights, flipped);
            var result = Cli.run("generate", "--model", model, "--ids", "2", "-n", 2);
            if (result.status() != 0) { // a bit of a name of the format's metadata, say, changes nothing
                result.failedInOneLine();
            }
        }
    }

    @Test
    void noReadPermission() throws IOException {
        Files.setPosixFilePermissions(weights, PosixFilePermissions.fromString("---------"));
        assumeFalse(Files.isReadable(weights), "the user may read everything");
        refused("permission", "model.safetensors");
    }

    @Test
    void promptsThatDoNotFit() {
        Cli.run("generate", "--model", model, "--prompt", "a b a", "--context", 3)
                .failedInOneLine("5 tokens", "3", "--context");
        Cli.run("generate", "--model", model, "--ids", "2,16").failedInOneLine("16");
        Cli.run("generate", "--model", model, "--ids", "-1").failedInOneLine("-1");
        Cli.run("generate", "--model", model, "--prompt", "").failedInOneLine("empty");
        Cli.runWithInput("a b a b a\n", "chat", "--model", model, "--context", 4).failedInOneLine("--context");
    }

    @Test
    void memoryThatIsTooLittle() {
        Cli.run("generate", "--model", model, "--ids", "2", "--memory", "10KiB")
                .failedInOneLine("--memory", "at least");
        Cli.run("generate", "--model", model, "--ids", "2", "--memory", "4MiB", "--context", 1_000_000)
                .failedInOneLine("--memory", "at least");
    }

    @Test
    void shardsThatAreNoSet() throws IOException {
        var file = Files.writeString(folder.resolve("file"), "x");
        Cli.run("split", "--model", model, "--shards", file).failedInOneLine("file");
        Cli.run("split", "--model", model, "--shards", model).failedInOneLine("another folder");
        var used = Files.createDirectory(folder.resolve("used"));
        Files.writeString(used.resolve("mine"), "x");
        Cli.run("split", "--model", model, "--shards", used).failedInOneLine("not empty");
        assertEquals("x", Files.readString(used.resolve("mine")));
        Cli.run("generate", "--shards", used, "--ids", "2").failedInOneLine("lamina split");
    }
}
