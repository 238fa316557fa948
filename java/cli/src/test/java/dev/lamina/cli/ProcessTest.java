package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** What only a process of its own shows: signals, locales, closed pipes, full disks. */
@EnabledOnOs(OS.LINUX)
@Timeout(value = 2, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class ProcessTest {
    @TempDir
    private static Path folder;

    private static Path model;

    @BeforeAll
    static void writeModel() throws IOException {
        model = TinyModel.write(folder.resolve("model"));
    }

    /** A shell command that runs the command line in place of the shell. Signals have their default effect. */
    private static ProcessBuilder lamina(String before, Object... arguments) {
        var words = new ArrayList<>(List.of("exec", "env", "--default-signal=INT", quote(Path.of(
                System.getProperty("java.home"), "bin", "java")), "--enable-native-access=ALL-UNNAMED",
                "-XX:-UsePerfData", "-Xmx128m", "-cp", quote(System.getProperty("java.class.path")),
                Main.class.getName()));
        Arrays.stream(arguments).map(ProcessTest::quote).forEach(words::add);
        var builder = new ProcessBuilder("sh", "-c", before + String.join(" ", words));
        builder.environment().put("LC_ALL", "C");
        return builder.redirectInput(ProcessBuilder.Redirect.from(Path.of("/dev/null").toFile()));
    }

    private static String quote(Object word) {
        return "'" + word.toString().replace("'", "'\\''") + "'";
    }

    private static Cli finish(Process process, String outSoFar) throws IOException, InterruptedException {
        var out = outSoFar + new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        var err = new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Cli(process.waitFor(), out, err);
    }

    private static void interrupt(Process process) throws IOException, InterruptedException {
        assertEquals(0, new ProcessBuilder("kill", "-INT", String.valueOf(process.pid())).start().waitFor());
    }

    /** A generation that would go on for a very long time. */
    private static Process endless(Object... more) throws IOException {
        var arguments = new ArrayList<Object>(
                List.of("generate", "--model", model, "--prompt=a", "--ignore-eos", "-n", 300_000, "--memory=256MiB"));
        arguments.addAll(List.of(more));
        return lamina("", arguments.toArray()).start();
    }

    @Test
    void interruptEndsWithTheFiguresSoFar() throws IOException, InterruptedException {
        var process = endless();
        var begun = new String(process.getInputStream().readNBytes(100), StandardCharsets.UTF_8);
        interrupt(process);
        var result = finish(process, begun);
        assertEquals(130, result.status(), result.err());
        assertTrue(result.out().startsWith("bé abé a"), begun);
        assertTrue(result.out().endsWith("\n"));
        assertEquals(1, result.err().lines().count(), result.err());
        assertTrue(result.err().startsWith("cancelled: 1 + "), result.err());
    }

    @Test
    void interruptedJsonIsWhole() throws IOException, InterruptedException {
        var process = endless("--json");
        while (!Files.readString(Path.of("/proc/" + process.pid() + "/maps")).contains("liblamina")) {
            Thread.sleep(20);
        }
        interrupt(process);
        var result = finish(process, "");
        assertEquals(130, result.status(), result.err());
        var answer = JsonParser.parseString(result.out()).getAsJsonObject();
        assertEquals("cancelled", answer.get("finish_reason").getAsString());
        assertEquals(answer.getAsJsonArray("ids").size(),
                answer.getAsJsonObject("stats").get("generated_tokens").getAsInt());
        assertEquals("", result.err());
    }

    @Test
    void outputIsUtf8InAnyLocale() throws IOException, InterruptedException {
        for (var json : List.of("--json", "--prefetch=1")) {
            var result = finish(lamina("", "generate", "--model", model, "--prompt", "a", json).start(), "");
            assertEquals(0, result.status(), result.err());
            assertTrue(result.out().contains(TinyModel.TEXT), result.out());
        }
        var input = folder.resolve("input");
        Files.writeString(input, "é");
        var piped = finish(lamina("", "generate", "--model", model, "--prompt", "-", "--json")
                .redirectInput(input.toFile()).start(), "");
        assertEquals(2, piped.json().getAsJsonObject("stats").get("prompt_tokens").getAsInt());
    }

    @Test
    void closedOutputEndsQuietly() throws IOException, InterruptedException {
        var process = endless();
        process.getInputStream().readNBytes(10);
        process.getInputStream().close();
        var err = new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor(), err);
        assertEquals("", err);
    }

    @Test
    void outputThatCannotBeWrittenIsAnError() throws IOException, InterruptedException {
        var process = lamina("", "generate", "--model", model, "--prompt", "a", "--json")
                .redirectOutput(Path.of("/dev/full").toFile()).start();
        var err = new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(1, process.waitFor());
        assertTrue(err.startsWith("lamina: cannot write to the standard output"), err);
        assertEquals(1, err.lines().count(), err);
    }

    /** The limit of a file's size fails writes like a disk that is full. */
    @Test
    void filesThatCannotBeWrittenWholeLeaveNothing() throws IOException, InterruptedException {
        var out = folder.resolve("full").resolve("logits");
        Files.createDirectories(out.getParent());
        var ids = "2,3" + ",5,6,4".repeat(200); // 600 rows of 64 bytes
        var logits = finish(lamina("ulimit -f 20; ", "logits", "--model", model, "--ids", ids, "--out", out).start(),
                "");
        logits.failedInOneLine("cannot write", out.toString());
        var shards = out.resolveSibling("shards");
        var split = finish(lamina("ulimit -f 8; ", "split", "--model", model, "--shards", shards).start(), "");
        split.failedInOneLine("cannot split");
        try (var files = Files.walk(out.getParent())) {
            assertEquals(List.of(out.getParent()), files.toList());
        }
    }

    @Test
    void stackTracesOnlyOnDemand() throws IOException, InterruptedException {
        var missing = folder.resolve("missing");
        finish(lamina("", "generate", "--model", missing, "--prompt", "a").start(), "").failedInOneLine("missing");
        var verbose = finish(lamina("", "generate", "--model", missing, "--prompt", "a", "--verbose").start(), "");
        assertTrue(verbose.err().contains("at dev.lamina"), verbose.err());
    }

    @Test
    void demoLeavesNothingWhenItIsInterrupted() throws IOException, InterruptedException {
        var temporary = Files.createDirectories(folder.resolve("temporary"));
        var builder = lamina("", "demo");
        builder.environment().put("JAVA_TOOL_OPTIONS", "-Djava.io.tmpdir=" + temporary);
        var process = builder.start();
        var begun = new String(process.getInputStream().readNBytes(60), StandardCharsets.UTF_8);
        interrupt(process);
        var result = finish(process, begun);
        assertTrue(List.of(130, 0).contains(result.status()), result.err()); // 0: it was done just then
        assertFalse(result.err().toLowerCase(Locale.ROOT).contains("exception"), result.err());
        try (var files = Files.list(temporary)) {
            assertTrue(files.noneMatch(file -> file.getFileName().toString().startsWith("lamina-demo")),
                    "was not removed");
        }
    }
}
