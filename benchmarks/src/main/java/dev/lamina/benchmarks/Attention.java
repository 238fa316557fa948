package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.KvCache;
import dev.lamina.internal.runtime.KvLayout;
import dev.lamina.internal.runtime.OpArray;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.runtime.Step;
import dev.lamina.internal.runtime.View;
import java.lang.foreign.MemorySegment;
import java.util.List;
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
 * Attention of the last rows of a sequence in one layer, beside a plain read of as many bytes as its keys and values
 * take. {@code gigabytes}, by the second, counts keys and values once, however many rows and heads look at them.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 1, time = 1)
@Measurement(iterations = 5, time = 1)
public class Attention {
    private static final int HEAD_DIM = 128;

    /** Element type of the cache. */
    @Param({"F32", "F16"})
    public String kv = "";

    /** Positions in the cache. */
    @Param({"1024", "16384"})
    public int positions;

    /** Query heads and heads of keys and values. */
    @Param({"32/8", "32/32"})
    public String heads = "";

    /** Rows that attend, at the last positions. */
    @Param({"1", "64"})
    public int rows;

    /** Threads that compute. */
    @Param("1")
    public int threads;

    private int queryHeads;
    private double gigabytes;
    private double gigaflops;
    private Device device;
    private Queue queue;
    private MemorySegment activations;
    private MemorySegment plain;
    private OpArray ops;
    private Step step;
    private KvCache cache;

    /** What an operation did, by the second. */
    @AuxCounters(AuxCounters.Type.OPERATIONS)
    @State(Scope.Thread)
    public static class Work {
        /** Keys and values read. */
        public double gigabytes;
        /** Multiplications and additions. */
        public double gigaflops;
    }

    /** Fills a cache. */
    @Setup(Level.Trial)
    public void open() {
        queryHeads = Integer.parseInt(heads.substring(0, heads.indexOf('/')));
        int kvHeads = Integer.parseInt(heads.substring(heads.indexOf('/') + 1));
        var layout = new KvLayout(List.of(new KvLayout.Layer(kvHeads, HEAD_DIM, HEAD_DIM)), kv.equals("F16"));
        device = Device.openCpu(threads);
        queue = device.openQueue();
        cache = device.createKv(layout, positions, 0);
        plain = device.allocate(layout.bytes(positions));
        plain.fill((byte) 1);
        gigabytes = layout.bytes(positions) / 1e9;
        gigaflops = 4e-9 * queryHeads * HEAD_DIM * positions * rows;

        int queries = queryHeads * HEAD_DIM;
        int keys = kvHeads * HEAD_DIM;
        activations = device.allocateOnDevice((long) rows * 2 * (queries + keys) * Float.BYTES);
        long end = (long) rows * queries;
        ops = new OpArray(2);
        ops.attention(0, new View(end, queries, queries), new View(0, queries, queries), 0, queryHeads, HEAD_DIM,
                new OpArray.Attending(0.08f, 0, 0, 0, OpArray.AttentionKind.PLAIN, null));
        ops.kvStore(1, new View(2 * end, keys, keys), new View(2 * end + (long) rows * keys, keys, keys), 0);
        step = new Step(rows, 0, 1, activations, plain);
        for (int first = 0; first < positions; first += rows) {
            step.clear();
            step.addSequence(cache);
            for (int i = 0; i < rows; i++) {
                step.addRow(0, first + i, false);
            }
            queue.await(queue.submit(ops, 1, 1, step));
        }
    }

    /** Frees it. */
    @TearDown(Level.Trial)
    public void close() {
        step.close();
        ops.close();
        device.freeOnDevice(activations);
        device.free(plain);
        cache.close();
        queue.close();
        device.close();
    }

    /** The attention. */
    @Benchmark
    public void attention(Work work) {
        queue.await(queue.submit(ops, 0, 1, step));
        work.gigabytes += gigabytes;
        work.gigaflops += gigaflops;
    }

    /** The yardstick for one row: reads as many bytes, on this thread. */
    @Benchmark
    public long read(Work work) {
        work.gigabytes += gigabytes;
        return MemoryPass.read(plain);
    }
}
