package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import dev.lamina.Profile;
import dev.lamina.Rates;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ProfileTest {
    @TempDir
    private static Path folder;

    private static Path model;

    @BeforeAll
    static void writeModel() throws IOException {
        model = TinyModel.write(folder.resolve("model"));
    }

    private static List<String> stages(JsonObject profile) {
        return profile.getAsJsonArray("stages").asList().stream()
                .map(stage -> stage.getAsJsonObject().get("stage").getAsString()).toList();
    }

    private static void assertTable(String text) {
        var lines = text.lines().toList();
        int header = 0;
        while (!lines.get(header).startsWith("per sweep")) {
            header++;
        }
        assertTrue(lines.get(header - 1).startsWith("profile of "), text);
        var first = lines.subList(header + 1, header + 5).stream().map(line -> line.split("  ")[0].strip()).toList();
        assertEquals(List.of("embedding", "layer 0", "head", "total"), first);
        assertTrue(lines.subList(header, header + 5).stream().mapToInt(String::length).distinct().count() == 1, text);
        assertTrue(lines.get(header + 5).startsWith("a sweep takes "), text);
        assertTrue(lines.get(header + 6).startsWith("limit: "), text);
    }

    @Test
    void theTableNamesTheStagesAndWhatLimits() {
        var result = Cli.run("profile", "--model", model, "--panel", "256B", "-n", 3, "--prompt-tokens", 4).succeeded();
        assertEquals("", result.err());
        assertTrue(result.out().startsWith("profile of 3 sweeps, 6 rows, 3 tokens in "), result.out());
        assertTrue(result.out().contains(" of the weights resident\n"), result.out());
        assertTrue(result.out().contains("; the probe read ") && result.out().contains("/s, measured now\n"),
                result.out());
        assertTable(result.out());
        assertTable(Cli.run("profile", "--model", model, "--stages", "-n", 1).succeeded().out());
    }

    @Test
    void aLimitIsNoProbe() throws IOException {
        var text = Cli.run("profile", "--model", model, "-n", 1, "--io-limit", "100kB/s").succeeded().out();
        assertTrue(text.contains("; reads are held to 100 kB/s, by --io-limit\n"), text);
        assertTrue(text.contains("  of limit  ") && !text.contains("probe"), text);
        var json = Cli.run("profile", "--model", model, "-n", 1, "--io-limit", "100kB/s", "--json").json();
        assertEquals(100_000, json.get("limit_bytes_per_second").getAsLong());
        assertFalse(json.has("probe_bytes_per_second"));
    }

    @Test
    void jsonHasAllSums() throws IOException {
        var profile = Cli.run("profile", "--model", model, "-n", 2, "--json").json();
        assertEquals(Set.of("sweeps", "rows", "tokens", "sweep_seconds", "sample_seconds", "probe_bytes_per_second",
                "limit", "total", "stages"), profile.keySet());
        assertEquals(2, profile.get("sweeps").getAsLong());
        assertEquals(List.of("embedding", "layer.000", "head"), stages(profile));
        var total = profile.getAsJsonObject("total");
        assertEquals(Set.of("stage", "weight_bytes", "disk_bytes", "read_bytes", "read_seconds", "wait_seconds",
                "copy_seconds", "compute_seconds"), total.keySet());
        long weights = Cli.run("inspect", "--model", model, "--json").json().get("sweep_bytes").getAsLong();
        assertEquals(2 * weights, total.get("weight_bytes").getAsLong());
        assertEquals(0, total.get("disk_bytes").getAsLong(), "the first sweep filled the memory");
        double computing = profile.getAsJsonArray("stages").asList().stream().map(JsonElement::getAsJsonObject)
                .mapToDouble(stage -> stage.get("compute_seconds").getAsDouble()).sum();
        assertEquals(total.get("compute_seconds").getAsDouble(), computing, 1e-9);
    }

    @Test
    void theTimelineIsWrittenWhole() throws IOException {
        var page = folder.resolve("page.html");
        var result = Cli.run("profile", "--model", model, "-n", 2, "--html", page).succeeded();
        assertTrue(result.out().endsWith("timeline: " + page + "\n"), result.out());
        var html = Files.readString(page);
        assertTrue(html.startsWith("<!DOCTYPE html>") && html.endsWith("</html>\n"));
        assertFalse(html.contains("http:") || html.contains("https:"));
        assertTrue(html.contains("\"stages\":[\"embedding\",\"layer.000\",\"head\"]"));
        Cli.run("profile", "--model", model, "--html", folder.resolve("no/page")).failedInOneLine("no folder");
        Cli.run("profile", "--model", model, "--html", folder).failedInOneLine("folder");
    }

    @Test
    void generateTellsItsProfileAfterTheAnswer() {
        var result = Cli.run("generate", "--model", model, "--prompt", "a", "--profile").succeeded();
        assertEquals(TinyModel.TEXT + "\n", result.out());
        assertTrue(result.err().startsWith("1 + 5 tokens in "), result.err());
        assertTable(result.err());
        var answer = Cli.run("generate", "--model", model, "--prompt", "a", "--profile", "--json").json();
        assertEquals(5, answer.getAsJsonObject("profile").get("sweeps").getAsInt());
        assertEquals(answer.getAsJsonObject("stats").get("disk_bytes"),
                answer.getAsJsonObject("profile").getAsJsonObject("total").get("disk_bytes"));
    }

    @Test
    void chatTellsTheProfileOfEachAnswer() {
        var result = Cli.runWithInput("a\nb a\n", "chat", "--model", model, "-n", 3, "--profile").succeeded();
        assertEquals("bé\nbé\n", result.out());
        var titles = result.err().lines().filter(line -> line.startsWith("profile of ")).toList();
        assertEquals(2, titles.size(), result.err());
        assertTrue(titles.stream().allMatch(title -> title.startsWith("profile of 3 sweeps, ")), result.err());
        assertTable(result.err());
    }

    @Test
    void equalLayersAreOneRow() {
        var layers = List.of(stage("embedding", 0), stage("layer.000", 10), stage("layer.001", 10),
                stage("layer.002", 12), stage("layer.003", 10), stage("head", 30));
        var report = new ProfileReport(new Profile(1, 1, 1, 7, 0, layers), probe(100));
        var rows = report.text(false).lines().skip(2).map(line -> line.split("  ")[0]).limit(6).toList();
        assertEquals(List.of("embedding", "layers 0-1", "layer 2", "layer 3", "head", "total"), rows);
        assertEquals(7, report.text(true).lines().skip(2).takeWhile(line -> !line.startsWith("a sweep")).count());
    }

    private static Profile.Stage stage(String name, long weights) {
        return new Profile.Stage(name, weights, weights / 2, weights / 2, 0.1, 0, 0, 1);
    }

    private static Rates probe(double rate) {
        return new Rates(rate, Rates.Origin.MEASURED, 1, Rates.Origin.MEASURED);
    }

    private static String limit(double wait, double compute, double readSeconds, @Nullable Rates rates) {
        var stage = new Profile.Stage("head", 1000, 500, 500, readSeconds, wait, 0, compute);
        var text = new ProfileReport(new Profile(1, 1, 1, 10, 0, List.of(stage)), rates).text(false);
        return text.substring(text.indexOf("limit: "));
    }

    @Test
    void oneSentenceSaysWhatLimits() {
        assertTrue(limit(6, 3, 10, probe(50)).startsWith("limit: the disk. More --memory helps: 500 B come"));
        assertFalse(limit(6, 3, 10, probe(50)).contains("--prefetch"));
        assertTrue(limit(6, 3, 10, probe(100)).contains("slower than the drive allows: try a larger --prefetch"));
        assertTrue(limit(6, 3, 10, probe(100).limited(80)).startsWith("limit: the disk, or --io-limit. More"));
        assertFalse(limit(6, 3, 10, null).contains("--prefetch"));
        assertTrue(limit(0.5, 9, 5, probe(50)).startsWith("limit: the processor and its memory. The disk keeps up"));
        assertTrue(limit(0.1, 2, 5, probe(50)).startsWith("limit: none of these"));
        var none = new ProfileReport(new Profile(0, 0, 0, 0, 0, List.of()), null);
        assertEquals("profile: no sweep was completed", none.text(false));
        assertFalse(none.json().has("limit"));
    }

    @Test
    void numbersAreChecked() {
        for (var option : List.of("-n=0", "-n=x", "--prompt-tokens=0", "--prompt-tokens=-1")) {
            Cli.run("profile", "--model", model, option).wrongUsage();
        }
        Cli.run("profile", "--model", model, "--prompt-tokens", 5, "--context", 3).failedInOneLine("--context");
    }
}
