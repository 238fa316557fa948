package dev.lamina.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
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

/** The rate at which a drive can be read, by size of a read and number of threads. One operation reads 1 GiB. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(1)
@Warmup(iterations = 1, time = 1)
@Measurement(iterations = 5, time = 1)
public class DirectRead {
    private static final long BYTES = 1L << 30;

    /** Folder of a model, whose *.safetensors files are read. */
    @Param("")
    public String dir = "";

    /** Bytes of one read. */
    @Param({"1048576", "4194304", "8388608"})
    public int chunk;

    /** Reading threads. */
    @Param({"1", "2", "4"})
    public int threads;

    /** Whether to read past the page cache. */
    @Param("true")
    public boolean direct;

    private RawReader reader;

    /** Opens the files. */
    @Setup(Level.Trial)
    public void open() throws IOException {
        reader = new RawReader(modelFiles(Path.of(dir)), threads, chunk, direct);
    }

    /** Closes the files. */
    @TearDown(Level.Trial)
    public void close() throws IOException {
        reader.close();
    }

    /** Reads 1 GiB. */
    @Benchmark
    public long read() throws IOException, InterruptedException {
        return reader.read(BYTES);
    }

    static List<Path> modelFiles(Path directory) throws IOException {
        try (var files = Files.list(directory)) {
            var result = files.filter(file -> file.toString().endsWith(".safetensors")).sorted().toList();
            if (result.isEmpty()) {
                throw new IOException("no *.safetensors in " + directory + ": give a model folder with -p dir=...");
            }
            return result;
        }
    }
}
