package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GenerateTest {
    @TempDir
    private static Path folder;

    private static Path model;

    @BeforeAll
    static void writeModel() throws IOException {
        model = TinyModel.write(folder.resolve("model"));
    }

    private static List<Integer> ids(JsonObject answer) {
        return answer.getAsJsonArray("ids").asList().stream().map(JsonElement::getAsInt).toList();
    }

    @Test
    void jsonHasTheFixedForm() {
        var result = Cli.run("generate", "--model", model, "--prompt", "a", "-n", 24, "--temperature", 0, "--json");
        assertEquals("", result.succeeded().err());
        assertEquals(1, result.out().lines().count());
        var answer = result.json();
        assertEquals(Set.of("ids", "text", "finish_reason", "stats"), answer.keySet());
        assertEquals(TinyModel.ANSWER, ids(answer));
        assertEquals(TinyModel.TEXT, answer.get("text").getAsString());
        assertEquals("stop", answer.get("finish_reason").getAsString());
        var stats = answer.getAsJsonObject("stats");
        assertTrue(stats.keySet().containsAll(Set.of("prompt_tokens", "generated_tokens", "prefill_seconds",
                "decode_seconds", "sweeps", "disk_bytes", "disk_wait_seconds", "resident_bytes", "peak_host_bytes",
                "embedding_bytes",
                "padding_bytes", "unused_read_ahead_bytes", "cached_tokens")), stats::toString);
        assertEquals(1, stats.get("prompt_tokens").getAsInt());
        assertEquals(5, stats.get("generated_tokens").getAsInt());
        assertEquals(5, stats.get("sweeps").getAsInt());
        assertTrue(stats.get("disk_bytes").getAsLong() > 0);
        assertTrue(stats.get("prefill_seconds").getAsDouble() > 0);
    }

    @Test
    void aLimitIsToldBesideTheFigures() {
        var text = Cli.run("generate", "--model", model, "--prompt", "a", "--io-limit", "550MB/s").succeeded().err();
        assertTrue(text.strip().endsWith(", limited to 550 MB/s by --io-limit"), text);
        var stats = Cli.run("generate", "--model", model, "--prompt", "a", "--io-limit", "550MB/s", "--json").json()
                .getAsJsonObject("stats");
        assertEquals(550_000_000, stats.get("io_limit_bytes_per_second").getAsLong());
    }

    @Test
    void textStreamsAndFiguresGoToTheErrorStream() {
        var result = Cli.run("generate", "--model", model, "--prompt", "a").succeeded();
        assertEquals(TinyModel.TEXT + "\n", result.out());
        assertTrue(result.err().startsWith("1 + 5 tokens in "), result.err());
        assertEquals(1, result.err().lines().count());
    }

    @Test
    void promptsComeAsTextIdsInputOrChat() {
        for (var prompt : List.of(List.of("--prompt", "a"), List.of("--ids", "" + TinyModel.A),
                List.of("--prompt=a", "--chat"))) {
            var answer = Cli.run(with(prompt, "generate", "--model", model, "--json").toArray()).json();
            assertEquals(TinyModel.ANSWER, ids(answer), prompt.toString());
        }
        var piped = Cli.runWithInput("b a\n", "generate", "--model", model, "--prompt", "-", "--json").json();
        assertEquals(TinyModel.ANSWER, ids(piped));
        assertEquals(3, piped.getAsJsonObject("stats").get("prompt_tokens").getAsInt());
        var chat = Cli.run("generate", "--model", model, "--prompt", "a", "--chat", "--system", "b", "--json").json();
        assertEquals(3, chat.getAsJsonObject("stats").get("prompt_tokens").getAsInt(), "begin, b, a");
    }

    private static List<Object> with(List<String> more, Object... first) {
        var all = new ArrayList<>(List.of(first));
        all.addAll(more);
        return all;
    }

    @Test
    void endsWhereItIsTold() {
        var two = Cli.run("generate", "--model", model, "--prompt", "a", "-n", 2, "--json").json();
        assertEquals(List.of(TinyModel.B, 5), ids(two));
        assertEquals("length", two.get("finish_reason").getAsString());
        assertEquals("b\ufffd", two.get("text").getAsString());
        var on = Cli.run("generate", "--model", model, "--prompt", "a", "-n", 7, "--ignore-eos", "--json").json();
        assertEquals(List.of(TinyModel.B, 5, 6, TinyModel.SPACE, TinyModel.END, TinyModel.A, TinyModel.B), ids(on));
        var stopped = Cli.run("generate", "--model", model, "--prompt", "a", "--stop", "zz", "--stop", "é", "--json")
                .json();
        assertEquals("b", stopped.get("text").getAsString());
        assertEquals("stop", stopped.get("finish_reason").getAsString());
        var full = Cli.run("generate", "--model", model, "--prompt", "a", "--context", 3, "--ignore-eos", "--json")
                .json();
        assertEquals("length", full.get("finish_reason").getAsString());
        assertTrue(ids(full).size() <= 3, full::toString);
    }

    @Test
    void optionsOfSpeedChangeNothingElse() throws IOException {
        var shards = folder.resolve("shards");
        Cli.run("split", "--model", model, "--shards", shards).succeeded();
        var options = List.of("--panel=256B", "--prefetch=0", "--prefetch=3", "--threads=3", "--memory=3MiB",
                "--memory=1GiB", "--io=buffered", "--context=100", "--shards=" + shards);
        for (var option : options) {
            var answer = Cli.run("generate", "--model", model, "--prompt", "a", option, "--json").json();
            assertEquals(TinyModel.ANSWER, ids(answer), option);
        }
        assertEquals(TinyModel.ANSWER, ids(Cli.run("generate", "--shards", shards, "--prompt", "a", "--json").json()));
    }

    @Test
    void aShardSetMustBeOfTheModel() throws IOException {
        var other = TinyModel.write(folder.resolve("other"));
        Files.writeString(other.resolve("config.json"), TinyModel.CONFIG.replace("1e-6", "1e-5"));
        var shards = folder.resolve("shards of other");
        Cli.run("generate", "--model", model, "--shards", shards, "--prompt", "a")
                .failedInOneLine("no finished shard set", "lamina split --model " + model + " --shards " + shards);
        Cli.run("split", "--model", other, "--shards", shards).succeeded();
        Cli.run("generate", "--model", other, "--shards", shards, "--prompt", "a").succeeded();
        Cli.run("generate", "--model", model, "--shards", shards, "--prompt", "a").failedInOneLine("another model");
    }
}
