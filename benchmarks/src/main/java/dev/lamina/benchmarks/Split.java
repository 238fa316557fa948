package dev.lamina.benchmarks;

import dev.lamina.ModelOptions;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
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

/**
 * Splitting a synthetic checkpoint, and a plain copy of the same files to the same drive. Both end with what they wrote
 * on the drive, and begin with a source that is not in memory.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 1, time = 1, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 1, timeUnit = TimeUnit.MILLISECONDS)
public class Split {
    /** The folder for checkpoint and result; empty: the one for temporary files. */
    @Param("")
    public String work = "";

    /** Size of the checkpoint. */
    @Param("1GB")
    public String size = "";

    private Path model;
    private Path out;

    /** What was done, for each second. */
    @AuxCounters(AuxCounters.Type.OPERATIONS)
    @State(Scope.Thread)
    public static class Figures {
        /** GB of the source. */
        public double gigabytes;
    }

    /** Writes the checkpoint. */
    @Setup(Level.Trial)
    public void write() throws IOException {
        var folder = SyntheticCheckpoint.workFolder(work);
        model = SyntheticCheckpoint.write(folder, ModelOptions.parseSize(size));
        out = model.resolveSibling(model.getFileName() + ".split");
    }

    /** Removes what the last operation wrote, and the source from memory. */
    @Setup(Level.Invocation)
    public void forget() throws IOException {
        SyntheticCheckpoint.delete(out);
        for (var file : SyntheticCheckpoint.weightFiles(model)) {
            PageCache.drop(file);
        }
    }

    /** Removes what the last operation wrote. */
    @TearDown(Level.Trial)
    public void delete() throws IOException {
        SyntheticCheckpoint.delete(out);
    }

    /** Splits. */
    @Benchmark
    public void split(Figures figures) throws IOException {
        SyntheticCheckpoint.split(model, out);
        count(figures);
    }

    /** Copies. */
    @Benchmark
    public void copy(Figures figures) throws IOException {
        Files.createDirectory(out);
        for (var file : SyntheticCheckpoint.weightFiles(model)) {
            try (var source = FileChannel.open(file, StandardOpenOption.READ);
                    var target = FileChannel.open(out.resolve(file.getFileName()), StandardOpenOption.CREATE_NEW,
                            StandardOpenOption.WRITE)) {
                long position = 0;
                while (position < source.size()) {
                    position += source.transferTo(position, source.size() - position, target);
                }
                target.force(true);
            }
        }
        count(figures);
    }

    private void count(Figures figures) throws IOException {
        figures.gigabytes += SyntheticCheckpoint.bytes(SyntheticCheckpoint.weightFiles(model)) / 1e9;
    }
}
