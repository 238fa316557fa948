package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.checkpoint.SafetensorsHeader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** All commands but generate and demo, on a sound model. */
class CommandsTest {
    /** Probability of the token that the model expects: its logit is 4, the other 15 have 0. */
    private static final double EXPECTED = Math.exp(4) / (Math.exp(4) + 15);

    @TempDir
    private Path folder;

    private Path model;

    @BeforeEach
    void writeModel() throws IOException {
        model = TinyModel.write(folder.resolve("model"));
    }

    @Test
    void logitsAreWrittenAsSafetensors() throws IOException {
        var out = folder.resolve("logits.safetensors");
        Cli.run("logits", "--model", model, "--ids", "2,3", "--ids", "0", "--out", out, "--panel", "256B").succeeded();
        var bytes = ByteBuffer.wrap(Files.readAllBytes(out)).order(ByteOrder.LITTLE_ENDIAN);
        var tensors = SafetensorsHeader.read(out).tensors();
        assertEquals(List.of("logits.0", "logits.1"), tensors.stream().map(tensor -> tensor.name()).toList());
        assertEquals(List.of(2L, 16L), tensors.get(0).shape());
        assertEquals(List.of(1L, 16L), tensors.get(1).shape());
        var expected = List.of(TinyModel.B, 5); // after a, after b
        for (int row = 0; row < 2; row++) {
            for (int token = 0; token < 16; token++) {
                float logit = bytes.getFloat((int) tensors.get(0).offset() + (16 * row + token) * Float.BYTES);
                assertEquals(token == expected.get(row) ? 4 : 0, logit, 1e-4);
            }
        }
        assertEquals(4, bytes.getFloat((int) tensors.get(1).offset() + TinyModel.A * Float.BYTES), 1e-4);
        assertOnly("logits.safetensors", "model");
    }

    @Test
    void logitsThatCannotBeWrittenLeaveNothing() throws IOException {
        Cli.run("logits", "--model", model, "--ids", "2,99", "--out", folder.resolve("l")).failedInOneLine("99");
        Cli.run("logits", "--model", model, "--ids", "2", "--out", folder.resolve("no/l")).failedInOneLine("no folder");
        Cli.run("logits", "--model", model, "--ids", "2", "--out", model).failedInOneLine("is a folder");
        Cli.run("logits", "--model", model, "--ids", "2,3,4", "--context", 2, "--out", folder.resolve("l"))
                .failedInOneLine("3 tokens", "--context");
        assertOnly("model");
    }

    private void assertOnly(String... names) throws IOException {
        try (var files = Files.list(folder)) {
            assertEquals(List.of(names), files.map(file -> file.getFileName().toString()).sorted().toList());
        }
    }

    @Test
    void perplexityIsThatOfTheFormula() throws IOException {
        var text = folder.resolve("text");
        Files.writeString(text, "ab");
        var one = Cli.run("perplexity", "--model", model, "--text", text, "--json").json();
        assertEquals(1, one.get("tokens").getAsInt());
        assertEquals(1 / EXPECTED, one.get("perplexity").getAsDouble(), 1e-4);
        // windows of 512, 512 and 176 tokens; about half of the scored ones are expected
        Files.writeString(text, "ab".repeat(600));
        var many = Cli.run("perplexity", "--model", model, "--text", text, "--json").json();
        int hits = 256 + 256 + 88;
        int misses = 255 + 255 + 87;
        assertEquals(hits + misses, many.get("tokens").getAsInt());
        double likelihood = hits * Math.log(EXPECTED) + misses * Math.log((1 - EXPECTED) / 15);
        assertEquals(Math.exp(-likelihood / (hits + misses)), many.get("perplexity").getAsDouble(), 1e-3);
        assertTrue(Cli.run("perplexity", "--model", model, "--text", text).succeeded().out().startsWith("perplexity "));
    }

    @Test
    void perplexityNeedsText() throws IOException {
        var text = folder.resolve("text");
        Cli.run("perplexity", "--model", model, "--text", text).failedInOneLine("does not exist");
        Cli.run("perplexity", "--model", model, "--text", model).failedInOneLine("folder");
        Files.writeString(text, "");
        Cli.run("perplexity", "--model", model, "--text", text).failedInOneLine("no token to score");
        Files.write(text, new byte[] {'a', (byte) 0xff});
        Cli.run("perplexity", "--model", model, "--text", text).failedInOneLine("UTF-8");
    }

    @Test
    void splitsInspectsAndVerifies() throws IOException {
        var shards = folder.resolve("shards");
        assertTrue(Cli.run("split", "--model", model, "--shards", shards).succeeded().out().startsWith("split "));
        assertTrue(Cli.run("split", "--model", model, "--shards", shards).succeeded().out()
                .contains("complete already"));
        var unsplit = Cli.run("inspect", "--model", model, "--verify", "--json").json();
        var split = Cli.run("inspect", "--model", shards, "--verify", "--tensors", "--json").json();
        assertFalse(unsplit.get("split").getAsBoolean());
        assertTrue(unsplit.get("verified").isJsonNull());
        assertTrue(split.get("split").getAsBoolean());
        assertTrue(split.get("verified").getAsBoolean());
        assertEquals(12, split.getAsJsonArray("tensors").size());
        for (var object : List.of(unsplit, split)) {
            assertEquals("Llama", object.get("family").getAsString());
            // embedding, head, 3 norms, q and o, k and v, gate, up and down
            int numbers = 2 * 256 + 3 * 16 + 2 * 256 + 2 * 128 + 3 * 512;
            assertEquals(numbers, object.get("parameters").getAsInt());
            assertEquals(4 * (numbers - 256 - 48), object.get("sweep_bytes").getAsInt());
            assertEquals(4 * 16, object.get("kv_bytes_per_token").getAsInt());
            assertTrue(object.get("tokenizer").getAsBoolean());
        }
        var text = Cli.run("inspect", "--model", model, "--tensors", "--verify").succeeded().out();
        assertTrue(text.contains("no checksums") && text.contains("lm_head.weight"), text);
    }

    @Test
    void inspectPlansWhatARunThenDoes() {
        for (var memory : List.of("1MiB", "64KiB", "auto")) {
            var planned = Cli.run("inspect", "--model", model, "--plan", "--memory", memory, "--context", 20, "--panel",
                    "512B", "--prefetch", 1, "--json").json();
            var plan = planned.getAsJsonObject("plan");
            var stats = Cli.run("generate", "--model", model, "--prompt", "a", "--memory", memory, "--context", 20,
                    "--panel", "512B", "--prefetch", 1, "--json").json().getAsJsonObject("stats");
            long resident = plan.get("resident_bytes").getAsLong();
            long read = plan.get("disk_bytes_per_sweep").getAsLong();
            assertEquals(planned.get("sweep_bytes").getAsLong(), resident + read);
            assertEquals(stats.get("resident_bytes").getAsLong(), resident);
            assertEquals(stats.get("disk_bytes").getAsLong(), resident + stats.get("sweeps").getAsLong() * read);
            assertEquals("64KiB".equals(memory), read > 0, plan.toString());
            assertEquals(memory.equals("auto"), plan.get("memory_origin").getAsString().startsWith("auto"));
            assertTrue(plan.get("tokens_per_second").getAsDouble() > 0);
        }
        var text = Cli.run("inspect", "--model", model, "--plan", "--io-limit", "1kB/s").succeeded().out();
        assertTrue(text.contains("reads 0 B") && text.contains("1 kB/s, by --io-limit"), text);
        assertTrue(text.contains("the processor is the limit"), text);
        Cli.run("inspect", "--model", model, "--plan", "--memory", "1KiB").failedInOneLine("--memory 1KiB", "at least");
        Cli.run("inspect", "--model", model, "--memory", "1GiB").wrongUsage("--plan");
    }

    @Test
    void damageOfShardsIsFound() throws IOException {
        var shards = folder.resolve("shards");
        Cli.run("split", "--model", model, "--shards", shards).succeeded();
        try (var file = new RandomAccessFile(shards.resolve("layer.000.safetensors").toFile(), "rw")) {
            file.seek(file.length() - 100);
            file.write(1);
        }
        var verified = Cli.run("inspect", "--model", shards, "--verify");
        assertEquals(1, verified.status());
        assertTrue(verified.out().contains("layer.000.safetensors"), verified.out());
        assertEquals(1, verified.err().lines().count());
        Cli.run("generate", "--model", shards, "--ids", "2", "-n", 2)
                .failedInOneLine("layer.000.safetensors", "damaged");
    }

    @Test
    void deletesTheOriginalOnDemand() throws IOException {
        var shards = folder.resolve("shards");
        var result = Cli.run("split", "--model", model, "--shards", shards, "--delete-original").succeeded();
        assertTrue(result.out().contains("deleted 1 original file"), result.out());
        assertFalse(Files.exists(model.resolve("model.safetensors")));
        var answer = Cli.run("generate", "--model", model, "--shards", shards, "--prompt", "a").succeeded();
        assertEquals(TinyModel.TEXT + "\n", answer.out());
    }

    @Test
    void chatTakesLineByLine() {
        var result = Cli.runWithInput("a\n\nb a\n/reset\na\n/exit\nb\n", "chat", "--model", model, "--system", "b",
                "-n", 3,
                "--verbose").succeeded();
        assertEquals("bé\nbé\nbé\n", result.out());
        assertEquals(3, result.err().lines().filter(line -> line.startsWith("[") && line.contains("tokens in")).count(),
                result.err());
        assertEquals("bé\n", Cli.runWithInput("a", "chat", "--model", model, "-n", 3).succeeded().out());
        assertEquals("", Cli.runWithInput("a", "chat", "--model", model, "-n", 3).err());
    }

    @Test
    void doctorExaminesTheMachineAndAModel() throws IOException {
        var machine = Cli.run("doctor", "--json").json();
        assertTrue(machine.get("cores").getAsInt() > 0);
        assertTrue(machine.get("memory_free_bytes").getAsLong() > machine.get("memory_auto_bytes").getAsLong());
        assertTrue(machine.getAsJsonArray("simd_supported").asList().stream()
                .anyMatch(simd -> simd.getAsString().equals("plain")));
        var examined = Cli.run("doctor", "--model", model, "--json").json().getAsJsonObject("model");
        assertFalse(examined.get("checksums").getAsBoolean());
        assertTrue(examined.get("fits").getAsBoolean());
        assertTrue(examined.get("disk_bytes_per_second").getAsLong() > 0);
        assertTrue(examined.get("compute_bytes_per_second").getAsLong() > 0);
        var text = Cli.run("doctor", "--model", model).succeeded().out();
        assertTrue(text.contains("checksums    none") && text.contains("recommended"), text);
        // what it says is the least is enough, and what it says holds all weights leaves nothing to be read
        for (var name : List.of("minimum_memory_bytes", "whole_memory_bytes")) {
            var answer = Cli.run("generate", "--model", model, "--prompt", "a", "--memory",
                    examined.get(name).getAsLong(), "--context", examined.get("positions").getAsInt(), "--json").json();
            var stats = answer.getAsJsonObject("stats");
            assertEquals(TinyModel.TEXT, answer.get("text").getAsString());
            if (name.startsWith("whole")) {
                assertEquals(examined.get("sweep_bytes").getAsLong(), stats.get("disk_bytes").getAsLong(), "one sweep");
            }
        }
    }

    @Test
    void logMessagesAreShownOnDemandOnly() {
        var logger = System.getLogger("dev.lamina.test");
        var listening = new InputStream() {
            @Override
            public int read() {
                logger.log(System.Logger.Level.DEBUG, "a message");
                return -1;
            }
        };
        for (var verbose : List.of(true, false)) {
            var out = new ByteArrayOutputStream();
            var err = new ByteArrayOutputStream();
            try (var terminal = Terminal.of(listening, out, err)) {
                Main.run(terminal, "chat", "--model", model.toString(), verbose ? "--verbose" : "-n=1");
            }
            assertEquals(verbose, err.toString(StandardCharsets.UTF_8).contains("a message"));
        }
    }
}
