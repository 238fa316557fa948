package dev.lamina.benchmarks;

import dev.lamina.ModelOptions;
import dev.lamina.internal.text.Tokenizer;
import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/** Text to tokens and back. One operation is one text. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
public class Tokenize {
    /** Prose, numbers, code and other scripts: what tokenizers treat differently. */
    private static final List<String> PHRASES = List.of(
            "The weights stay on disk and stream through the processor while it computes. ",
            "A page cache hits nothing on a cyclic scan that is larger than memory; ",
            "in 1987 there were 3,141,592 of them, or 27.5 % more than in 1986.\n",
            "for (int i = 0; i < rows; i++) {\n    sum += weights[i] * x[i];\n}\n",
            "Größe und Maß zählen, naïve Annahmen auch. ",
            "今日はとても良い天気ですね。",
            "Быстрая лиса перепрыгивает через ленивую собаку. ",
            "{\"name\": \"value\", \"list\": [1, 2, 3]}\n");

    /** A folder with {@code tokenizer.json}; the one of the demo model, from the project's folder. */
    @Param("java/cli/src/main/resources/dev/lamina/cli/demo")
    public String model = "";

    /** Characters of a text, such as 1KiB. */
    @Param({"1KiB", "64KiB", "1MiB"})
    public String text = "";

    private Tokenizer tokenizer;
    private String characters = "";
    private int[] ids = {};

    /** What was done, for each second. */
    @AuxCounters(AuxCounters.Type.OPERATIONS)
    @State(Scope.Thread)
    public static class Figures {
        /** Tokens that were made or read. */
        public long tokens;
    }

    /** Opens the tokenizer and makes the text. */
    @Setup(Level.Trial)
    public void open() {
        tokenizer = Tokenizer.open(Path.of(model));
        int length = Math.toIntExact(ModelOptions.parseSize(text));
        var random = new SplittableRandom(1);
        var builder = new StringBuilder();
        while (builder.length() < length) {
            builder.append(PHRASES.get(random.nextInt(PHRASES.size())));
        }
        characters = builder.substring(0, length);
        ids = tokenizer.encode(characters, false);
    }

    /** Closes the tokenizer. */
    @TearDown(Level.Trial)
    public void close() {
        tokenizer.close();
    }

    /** Makes tokens of the text. */
    @Benchmark
    public int[] encode(Figures figures) {
        figures.tokens += ids.length;
        return tokenizer.encode(characters, false);
    }

    /** Makes the text of the tokens. */
    @Benchmark
    public String decode(Figures figures) {
        figures.tokens += ids.length;
        return tokenizer.decode(ids, false);
    }
}
