package dev.lamina.benchmarks;

import dev.lamina.ModelOptions;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.HostMemory;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
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
 * The rate at which a drive can be read, by size of a read, reads in flight and way of reading. One operation reads
 * 10<sup>9</sup> bytes, so operations a second are GB/s.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 1, time = 1)
@Measurement(iterations = 5, time = 1)
public class DirectRead {
    private static final long GIGABYTE = 1_000_000_000;

    /**
     * Folders, one for each drive: of a model, whose files are read, or any other, into which a synthetic checkpoint is
     * written; empty: the one for temporary files.
     */
    @Param("")
    public String dir = "";

    /** Size of the synthetic checkpoint. */
    @Param("4GB")
    public String size = "";

    /** Most bytes of one read. */
    @Param({"1MiB", "4MiB", "8MiB"})
    public String chunk = "";

    /** Reads in flight. */
    @Param({"1", "2", "4"})
    public int depth;

    /** A {@link RawReader.Mode}, in small letters. */
    @Param("channel")
    public String mode = "";

    /** Pages of the memory that is read into: {@code huge}, as Lamina's ring has them, or {@code small}. */
    @Param("huge")
    public String pages = "";

    /** A rate such as 550MB/s that stands in for a slower drive. */
    @Param("none")
    public String limit = "";

    private List<Path> files;
    private Device device;
    private RawReader reader;

    /** Opens the files. */
    @Setup(Level.Trial)
    public void open() throws IOException {
        var folder = SyntheticCheckpoint.workFolder(dir);
        files = SyntheticCheckpoint.weightFiles(folder);
        if (files.isEmpty()) {
            files = SyntheticCheckpoint.weightFiles(
                    SyntheticCheckpoint.write(folder, ModelOptions.parseSize(size)));
        }
        var rate = Limit.parse(limit);
        System.out.printf(Locale.ROOT, "%n%s: %.1f GB in %d files; %s%n", folder,
                SyntheticCheckpoint.bytes(files) / 1e9, files.size(), rate.note());
        device = Device.openCpu(1);
        reader = RawReader.open(RawReader.Mode.valueOf(mode.toUpperCase(Locale.ROOT)), files,
                Math.toIntExact(ModelOptions.parseSize(chunk)), depth, rate, memory());
    }

    private HostMemory memory() {
        return switch (pages) {
            case "huge" -> device;
            case "small" -> new SmallPages();
            default -> throw new IllegalArgumentException("pages are huge or small, not " + pages);
        };
    }

    /** Lets the page cache forget the files, for the ways of reading that go through it. */
    @Setup(Level.Invocation)
    public void forget() throws IOException {
        for (var file : files) {
            PageCache.drop(file);
        }
    }

    /** Closes the files. */
    @TearDown(Level.Trial)
    public void close() throws IOException {
        reader.close();
        device.close();
    }

    /** Reads 10<sup>9</sup> bytes. */
    @Benchmark
    public RawReader.Reading read() throws IOException, InterruptedException {
        return reader.read(GIGABYTE);
    }
}
