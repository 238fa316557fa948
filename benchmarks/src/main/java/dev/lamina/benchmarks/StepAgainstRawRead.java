package dev.lamina.benchmarks;

import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.GenerationStats;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.stream.IntStream;

/**
 * Compares a streamed decode step with a raw read of the same bytes, in turn in one run: after each token the model
 * waits while plain threads read as many bytes of the same files as the step streamed. Prints each pair and the
 * medians.
 *
 * <pre>java --enable-native-access=ALL-UNNAMED -cp 'benchmarks/target/lamina-benchmarks.jar:benchmarks/target/lib/*'
 *     dev.lamina.benchmarks.StepAgainstRawRead MODEL [MEMORY [PAIRS]]</pre>
 */
public final class StepAgainstRawRead {
    private static final int PROMPT = 16;
    private static final int THREADS = 4;
    private static final int CHUNK = 8 << 20;

    private StepAgainstRawRead() {}

    /** Runs the comparison. */
    public static void main(String[] arguments) throws IOException {
        var directory = Path.of(arguments[0]);
        var memory = arguments.length > 1 ? arguments[1] : "512MiB";
        int pairs = arguments.length > 2 ? Integer.parseInt(arguments[2]) : 7;
        var options = ModelOptions.builder().memory(memory).build();
        try (var model = LanguageModel.open(directory.toString(), options)) {
            var ids = Prompt.ids(IntStream.range(0, PROMPT).map(i -> 3 + i).toArray());
            var warmUp = GenerationOptions.builder().maxTokens(2).greedy().ignoreEos(true).build();
            GenerationStats stats = model.generate(ids, warmUp).stats();
            long bytes = model.info().weightBytes() - stats.residentBytes();
            System.out.printf(Locale.ROOT, "%s, %s; %.2f GB a step from disk, %.1f %% resident%n",
                    model.info().device(), model.info().reading(), bytes / 1e9,
                    100.0 * stats.residentBytes() / model.info().weightBytes());
            try (var raw = new RawReader(DirectRead.modelFiles(directory), THREADS, CHUNK,
                    model.info().reading().startsWith("direct"))) {
                var pairing = new Pairing(raw, bytes, pairs);
                // The first token ends the prefill and the second the warm-up sweep; the pairs begin after it.
                var counted = GenerationOptions.builder().maxTokens(pairs + 2).greedy().ignoreEos(true).build();
                model.generate(ids, counted, pairing);
                pairing.print();
            }
        }
    }

    /** Times the step before each token, then a raw read, which does not count for the next step. */
    private static final class Pairing implements GenerationListener {
        private final RawReader raw;
        private final long bytes;
        private final double[] step;
        private final double[] read;
        private int tokens;
        private long start;

        Pairing(RawReader raw, long bytes, int pairs) {
            this.raw = raw;
            this.bytes = bytes;
            this.step = new double[pairs];
            this.read = new double[pairs];
        }

        @Override
        public void text(String piece) {}

        @Override
        public void token(int prompt, int id) {
            int pair = tokens++ - 2;
            if (pair >= 0) {
                step[pair] = (System.nanoTime() - start) / 1e9;
                long before = System.nanoTime();
                try {
                    long got = raw.read(bytes);
                    read[pair] = (System.nanoTime() - before) / 1e9 * bytes / got;
                } catch (IOException e) {
                    throw new IllegalStateException(e);
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
                System.out.printf(Locale.ROOT, "step %.3f s (%.2f GB/s)   raw read %.3f s (%.2f GB/s)   ratio %.3f%n",
                        step[pair], bytes / 1e9 / step[pair], read[pair], bytes / 1e9 / read[pair],
                        step[pair] / read[pair]);
            }
            start = System.nanoTime();
        }

        void print() {
            var ratios = IntStream.range(0, step.length).mapToDouble(i -> step[i] / read[i]).toArray();
            System.out.printf(Locale.ROOT,
                    "medians: step %.3f s, raw read %.3f s, ratio of the medians %.3f, of the pairs %.3f%n",
                    median(step), median(read), median(step) / median(read), median(ratios));
        }

        private static double median(double[] values) {
            var sorted = values.clone();
            Arrays.sort(sorted);
            return sorted[sorted.length / 2];
        }
    }
}
