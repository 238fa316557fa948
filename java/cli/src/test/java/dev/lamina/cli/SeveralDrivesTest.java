package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Shard sets over several folders, from the command line. */
class SeveralDrivesTest {
    @TempDir
    private Path folder;

    private Path model;
    private Path first;
    private Path second;
    private String both;

    @BeforeEach
    void unpack() {
        model = DemoCommand.unpack(folder.resolve("model"));
        first = folder.resolve("drive0/set");
        second = folder.resolve("drive1/set");
        both = first + "," + second;
    }

    private Cli split(Object... more) {
        var words = new Object[5 + more.length];
        System.arraycopy(new Object[] {"split", "--model", model, "--shards", both}, 0, words, 0, 5);
        System.arraycopy(more, 0, words, 5, more.length);
        return Cli.run(words);
    }

    private String answer(Object... source) {
        var words = new Object[source.length + 6];
        words[0] = "generate";
        System.arraycopy(source, 0, words, 1, source.length);
        System.arraycopy(new Object[] {"--chat", "--prompt", "What is 2 + 3?", "-n", 12}, 0, words,
                source.length + 1, 5);
        return Cli.run(words).succeeded().out();
    }

    @Test
    void splitsAndReadsFromAll() {
        var out = split("--rates", "3GB/s,1GB/s").succeeded().out();
        assertTrue(out.startsWith("split " + model + " into " + first + ", " + second + ": "), out);
        assertTrue(split().succeeded().out().contains(first + ", " + second + " were complete already"));
        var reversed = second + "," + first;
        var expected = answer("--model", model);
        assertEquals(expected, answer("--model", model, "--shards", both));
        assertEquals(expected, answer("--shards", reversed));
        assertEquals(expected, answer("--shards", second, "--shards", first, "--panel", "20KB", "--memory", "4MiB"));
        assertTrue(Cli.run("perplexity", "--shards", both, "--text", model.resolve("config.json")).succeeded().out()
                .startsWith("perplexity "));
    }

    @Test
    void inspectShowsFoldersAndParts() throws IOException {
        split("--rates", "3GB/s,1GB/s").succeeded();
        var json = Cli.run("inspect", "--shards", second + "," + first, "--verify", "--tensors", "--json").json();
        assertTrue(json.get("verified").getAsBoolean());
        var folders = json.getAsJsonArray("folders");
        assertEquals(2, folders.size());
        assertEquals(first.toString(), folders.get(0).getAsJsonObject().get("folder").getAsString());
        double share = folders.get(0).getAsJsonObject().get("bytes").getAsDouble()
                / (folders.get(0).getAsJsonObject().get("bytes").getAsDouble()
                + folders.get(1).getAsJsonObject().get("bytes").getAsDouble());
        assertEquals(0.75, share, 0.02);
        assertTrue(json.getAsJsonArray("tensors").asList().stream().anyMatch(tensor ->
                tensor.getAsJsonObject().getAsJsonArray("parts").size() == 2));
        var text = Cli.run("inspect", "--shards", both, "--tensors").succeeded().out();
        assertTrue(text.contains("folders     " + first + "  "), text);
        assertTrue(text.contains(second.resolve("embedding.safetensors") + " at 4096"), text);
        try (var file = new RandomAccessFile(second.resolve("layer.000.safetensors").toFile(), "rw")) {
            file.seek(5000);
            int old = file.read();
            file.seek(5000);
            file.write(old ^ 1);
        }
        var damaged = Cli.run("inspect", "--shards", both, "--verify");
        assertEquals(1, damaged.status());
        assertTrue(damaged.out().contains(second.resolve("layer.000.safetensors") + ": 1 damaged MiB"), damaged.out());
    }

    @Test
    void doctorMeasuresAllDrivesTogether() {
        split("--rates", "1,1").succeeded();
        var examined = Cli.run("doctor", "--shards", both, "--json").json().getAsJsonObject("model");
        var folders = examined.getAsJsonArray("folders");
        assertEquals(2, folders.size());
        for (var each : folders) {
            assertTrue(each.getAsJsonObject().get("bytes").getAsLong() > 0);
            assertTrue(each.getAsJsonObject().getAsJsonObject("reading").get("readers").getAsInt() > 0);
        }
        assertTrue(examined.get("disk_bytes_per_second").getAsDouble() > 0);
        var text = Cli.run("doctor", "--shards", both).succeeded().out();
        assertTrue(text.contains("reading      " + first + " ("), text);
        assertTrue(text.contains("reading      " + second + " ("), text);
    }

    @Test
    void ratesAreMeasuredAndTold() {
        var run = split().succeeded();
        assertTrue(run.out().contains("; cut for ") && run.out().contains("/s from " + second)
                || run.err().contains("could not be measured"), run.out() + run.err());
    }

    @Test
    void theOriginalMayGo() {
        var expected = answer("--model", model);
        assertTrue(split("--rates", "1,2", "--delete-original").succeeded().out().contains("deleted 1 original file"));
        assertFalse(Files.exists(model.resolve("model.safetensors")));
        assertEquals(expected, answer("--model", model, "--shards", both));
    }

    @Test
    void whatDoesNotFitTogetherIsToldInOneLine() {
        split("--rates", "1,1").succeeded();
        for (var command : new String[] {"inspect", "doctor"}) {
            Cli.run(command, "--model", first).failedInOneLine(first + " is part 1 of 2", "--shards");
            Cli.run(command, "--shards", second).failedInOneLine(second + " is part 2 of 2", "--shards");
        }
        Cli.run("generate", "--shards", first, "--ids", "1").failedInOneLine("part 1 of 2");
        Cli.run("generate", "--shards", first + "," + first, "--ids", "1").failedInOneLine("is named twice");
        Cli.run("generate", "--shards", first + "," + folder, "--ids", "1")
                .failedInOneLine(folder + " holds no finished shard set", "--shards " + first + "," + folder);
        Cli.run("split", "--model", model, "--shards", first + "," + folder.resolve("new"))
                .failedInOneLine("not all of");
        var other = DemoCommand.unpack(folder.resolve("other"));
        Cli.run("generate", "--model", other, "--shards", both, "--ids", "1", "-n", 1).succeeded();
        other.resolve("config.json").toFile().delete();
        Cli.run("generate", "--model", other, "--shards", both, "--ids", "1").failedInOneLine("another model");
    }

    @Test
    void ratesAreChecked() {
        split("--rates", "fast,1GB/s").wrongUsage("--rates");
        split("--rates", "1GB/s,0").wrongUsage("--rates");
        split("--rates", "1GB/s").failedInOneLine("1 rates are given for 2 folders");
        assertFalse(Files.exists(first));
    }
}
