package dev.lamina.benchmarks;

import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;

/**
 * Lamina beside llama.cpp: the same weights, all in memory, one thread each, in turn in one run. Prints every pair and
 * the medians. {@code benchmarks/README.md} says how to run it.
 *
 * <p>Lamina reads the checkpoint (bf16 or f16), llama.cpp an f16 copy of it, which is as large. Speed is compared only
 * after both have continued a prompt alike.
 */
public final class PeerComparison {
    private static final int PROMPT = 16;
    private static final int PREFILL = 512;
    private static final int CONTEXT = 1024;
    private static final long DECODED_BYTES = 50_000_000_000L; /* that a measured generation reads, about */
    private static final int PAIRS = 7;

    private PeerComparison() {}

    /** Runs the comparison. */
    public static void main(String[] arguments) throws IOException {
        if (arguments.length < 1 || arguments.length > 2) {
            System.err.println("usage: PeerComparison MODEL|300MB|2GB [PAIRS]");
            System.exit(2);
        }
        int pairs = arguments.length > 1 ? Integer.parseInt(arguments[1]) : PAIRS;
        var folder = Files.createTempDirectory("lamina-peers");
        try {
            var model = Path.of(arguments[0]);
            for (var random : RandomCheckpoint.values()) {
                if (arguments[0].equals(random.size())) {
                    model = folder;
                    random.write(folder);
                }
            }
            var gguf = folder.resolve("model.gguf");
            GgufFile.write(model, gguf);
            compare(model, gguf, pairs);
        } finally {
            try (var files = Files.walk(folder)) {
                for (var file : files.sorted(Comparator.reverseOrder()).toList()) {
                    Files.delete(file);
                }
            }
        }
        System.exit(0); // llama.cpp leaves a thread behind, which would keep the process
    }

    private static void compare(Path directory, Path gguf, int pairs) throws IOException {
        try (var one = open(directory, 1); var peer = new LlamaCpp(gguf, 1, CONTEXT)) {
            long bytes = one.info().weightBytes();
            int tokens = (int) Math.clamp(DECODED_BYTES / bytes, 24, 192);
            System.out.printf(Locale.ROOT, "%s; %.2f GB of weights a token%n", one.info().device(), bytes / 1e9);
            checkAlike(one, peer, tokens);

            var prefill = new Pairs("prefill of " + PREFILL + " tokens", "tokens/s", "llama.cpp", "Lamina");
            var decode = new Pairs("decode", "tokens/s", "llama.cpp", "Lamina");
            for (int i = 0; i < pairs; i++) {
                decode.measure(i, () -> peer.generate(prompt(PROMPT), tokens),
                        () -> generate(one, PROMPT, tokens), Run::tokensPerSecond);
            }
            decode.print();
            for (int i = 0; i < pairs; i++) {
                prefill.measure(i, () -> peer.generate(prompt(PREFILL), 1),
                        () -> generate(one, PREFILL, 1), run -> PREFILL / run.prefillSeconds());
            }
            prefill.print();
        }
        try (var one = open(directory, 1); var two = open(directory, 2)) {
            int tokens = (int) Math.clamp(DECODED_BYTES / one.info().weightBytes(), 24, 192);
            generate(one, PROMPT, 2);
            generate(two, PROMPT, 2);
            beside(one, two, tokens, pairs, "decode, nothing else runs");
            var spinner = new ProcessBuilder(ProcessHandle.current().info().command().orElse("java"), "-Xmx16m", "-cp",
                    System.getProperty("java.class.path"), Spinner.class.getName()).inheritIO().start();
            try {
                beside(one, two, tokens, pairs, "decode, another process spins");
            } finally {
                spinner.destroyForcibly();
            }
        }
    }

    private static void beside(LanguageModel one, LanguageModel two, int tokens, int pairs, String name) {
        var threads = new Pairs(name, "tokens/s", "1 thread", "2 threads");
        for (int i = 0; i < pairs; i++) {
            threads.measure(i, () -> generate(one, PROMPT, tokens), () -> generate(two, PROMPT, tokens),
                    Run::tokensPerSecond);
        }
        threads.print();
    }

    private static LanguageModel open(Path directory, int threads) throws IOException {
        long size;
        try (var files = Files.list(directory)) {
            size = files.filter(file -> file.toString().endsWith(".safetensors"))
                    .mapToLong(file -> file.toFile().length())
                    .sum();
        }
        return LanguageModel.open(directory.toString(), ModelOptions.builder()
                .memory(size + size / 4 + (1L << 30)) // everything stays
                .threads(threads)
                .context(CONTEXT)
                .build());
    }

    /** Both continue a prompt; the first tokens must be the same, later ones may part where two logits are close. */
    private static void checkAlike(LanguageModel model, LlamaCpp peer, int tokens) {
        var ours = generate(model, PROMPT, tokens).ids();
        var theirs = peer.generate(prompt(PROMPT), tokens).ids();
        int alike = Arrays.mismatch(ours, theirs);
        System.out.printf("%d of %d greedy tokens alike%n", alike < 0 ? tokens : alike, tokens);
        if (alike >= 0 && alike < Math.min(tokens, 4)) {
            throw new IllegalStateException("not the same model: Lamina says " + Arrays.toString(ours)
                    + ", llama.cpp " + Arrays.toString(theirs));
        }
    }

    private static int[] prompt(int tokens) {
        return IntStream.range(0, tokens).map(i -> 3 + i * 7 % 499).toArray();
    }

    private static Run generate(LanguageModel model, int prompt, int tokens) {
        var options = GenerationOptions.builder().maxTokens(tokens).greedy().ignoreEos(true).build();
        var run = new Run(tokens);
        var generation = model.generate(Prompt.ids(prompt(prompt)), options, new GenerationListener() {
            @Override
            public void text(String piece) {}

            @Override
            public void token(int index, int id) {
                run.token(id);
            }
        });
        run.diskBytes(generation.stats().diskBytes());
        return run;
    }

    /** Measurements of two, in turn: first one begins, then the other. */
    private static final class Pairs {
        private final String name;
        private final String unit;
        private final String first;
        private final String second;
        private final List<Double> firsts = new ArrayList<>();
        private final List<Double> seconds = new ArrayList<>();
        private final List<Double> ratios = new ArrayList<>();

        Pairs(String name, String unit, String first, String second) {
            this.name = name;
            this.unit = unit;
            this.first = first;
            this.second = second;
        }

        void measure(int index, Measured one, Measured other, ToDoubleFunction<Run> value) {
            Run a;
            Run b;
            if (index % 2 == 0) {
                a = one.run();
                b = other.run();
            } else {
                b = other.run();
                a = one.run();
            }
            if (a.diskBytes() + b.diskBytes() > 0) {
                throw new IllegalStateException("weights were read from disk: give the machine more memory");
            }
            firsts.add(value.applyAsDouble(a));
            seconds.add(value.applyAsDouble(b));
            ratios.add(seconds.getLast() / firsts.getLast());
            System.out.printf(Locale.ROOT, "  %s %.2f, %s %.2f, ratio %.3f%n", first, firsts.getLast(), second,
                    seconds.getLast(), ratios.getLast());
        }

        void print() {
            System.out.printf(Locale.ROOT, "%s, medians of %d: %s %.2f %s, %s %.2f, ratio of the pairs %.3f%n", name,
                    firsts.size(), first, Medians.of(firsts), unit, second, Medians.of(seconds), Medians.of(ratios));
        }
    }

    /** Something to measure. */
    @FunctionalInterface
    private interface Measured {
        Run run();
    }

    /** A process that holds a core until it is ended. */
    static final class Spinner {
        private Spinner() {}

        public static void main(String[] arguments) {
            var parent = ProcessHandle.current().parent();
            while (parent.isPresent() && parent.get().isAlive()) {
                long end = System.nanoTime() + 1_000_000_000;
                while (System.nanoTime() < end) {
                    Thread.onSpinWait();
                }
            }
        }
    }
}
