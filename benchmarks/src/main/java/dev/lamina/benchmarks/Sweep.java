package dev.lamina.benchmarks;

import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import dev.lamina.internal.runtime.Device;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/** Sweeps through a synthetic checkpoint. One operation is one sweep: every row moves by one token. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 1, time = 1)
@Measurement(iterations = 5, time = 1)
public class Sweep {
    private static final int SWEEPS = 4; // of one call

    /** The folder for the checkpoint, on the drive to be measured; empty: the one for temporary files. */
    @Param("")
    public String work = "";

    /** Size of the checkpoint. */
    @Param("1GB")
    public String size = "";

    /** Whether to split it into a shard set. */
    @Param("false")
    public boolean split;

    /** Share of the weights that stays in memory, from 0 to 1; without effect where memory is given. */
    @Param("0")
    public double resident;

    /** The budget, such as 512MiB; {@code "by share"}: what the share needs. */
    @Param("by share")
    public String memory = "";

    /** Panels that are read ahead; -1: chosen. */
    @Param("-1")
    public int prefetch;

    /** Most bytes of a panel, such as 4MiB; 0: chosen. */
    @Param("0")
    public String panel = "";

    /** A {@link ModelOptions.Io}, in small letters. */
    @Param("auto")
    public String io = "";

    /** Threads that compute; 0: one a core. */
    @Param("0")
    public int threads;

    /** A rate such as 550MB/s that stands in for a slower drive. */
    @Param("none")
    public String limit = "";

    /** Sequences that are generated together. */
    @Param("1")
    public int rows;

    private LanguageModel model;
    private List<Prompt> prompts;
    private double rate; // bytes a second that the drive or the limit gives

    /** Figures of a sweep, all of them for each second. */
    @AuxCounters(AuxCounters.Type.OPERATIONS)
    @State(Scope.Thread)
    public static class Figures {
        /** Tokens, of all rows together. */
        public double tokens;

        /** Tokens that the rate of the drive allows; 0 where nothing is read. */
        public double theoreticalTokens;

        /** GB of weights that were read. */
        public double gigabytesRead;

        /** GB of weights that were used, read or not. */
        public double gigabytesUsed;

        /** GB that the best raw reader would have read, or the limit allows. */
        public double gigabytesRaw;

        /** Seconds in which the computation waited for the disk: a share of the time. */
        public double waiting;
    }

    /** Opens the model and fills its memory. */
    @Setup(Level.Trial)
    public void open() throws IOException, InterruptedException {
        var directory = SyntheticCheckpoint.write(SyntheticCheckpoint.workFolder(work), ModelOptions.parseSize(size));
        if (split) {
            directory = SyntheticCheckpoint.split(directory);
        }
        var slower = Limit.parse(limit);
        var options = ModelOptions.builder().prefetch(prefetch).panel(ModelOptions.parseSize(panel))
                .io(ModelOptions.Io.valueOf(io.toUpperCase(Locale.ROOT))).threads(threads)
                .ioLimit(slower.bytesPerSecond()).build();
        long budget = memory.equals("by share")
                ? Budgets.forShare(directory, options, resident, rows * (SWEEPS + 1))
                : ModelOptions.parseSize(memory);
        model = LanguageModel.open(directory.toString(), options.toBuilder().memory(budget).build());
        prompts = Collections.nCopies(rows, Prompt.ids(1));
        rate = slower.orDrive(rawRate(directory));
        long kept = model.generate(prompts, steps()).getFirst().stats().residentBytes();
        System.out.printf(Locale.ROOT, "%n%s, %s; %.2f GB of weights, %.1f %% resident, budget %d MiB%n%s: %.2f GB/s%n",
                model.info().device(), model.info().reading(), model.info().weightBytes() / 1e9,
                100.0 * kept / model.info().weightBytes(), budget >> 20, slower.note(), rate / 1e9);
    }

    private double rawRate(Path directory) throws IOException, InterruptedException {
        try (var device = Device.openCpu(1)) {
            return RawRate.measure(SyntheticCheckpoint.weightFiles(directory),
                    model.info().reading().startsWith("direct"), device);
        }
    }

    private static GenerationOptions steps() {
        return GenerationOptions.builder().maxTokens(SWEEPS).greedy().ignoreEos(true).build();
    }

    /** Closes the model. The checkpoint stays for the next run. */
    @TearDown(Level.Trial)
    public void close() {
        model.close();
    }

    /**
     * Generates a few tokens: as many sweeps, since a prompt of one token needs none of its own. Reading goes on
     * between the calls as it does between tokens.
     */
    @Benchmark
    @OperationsPerInvocation(SWEEPS)
    public void decode(Figures figures) {
        long start = System.nanoTime();
        var stats = model.generate(prompts, steps()).getFirst().stats();
        double seconds = (System.nanoTime() - start) / 1e9;
        long weights = model.info().weightBytes();
        long read = weights - stats.residentBytes();
        figures.tokens += SWEEPS * rows;
        figures.theoreticalTokens += read == 0 ? 0 : rows * rate / read * seconds;
        figures.gigabytesRead += stats.diskBytes() / 1e9;
        figures.gigabytesUsed += weights / 1e9 * SWEEPS;
        figures.gigabytesRaw += rate / 1e9 * seconds;
        figures.waiting += stats.diskWaitSeconds();
    }
}
