package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.OpArray;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.runtime.Step;
import dev.lamina.internal.runtime.View;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
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
 * A matrix product, beside plain copies and reads of the same weights in the same run. One operation takes the next
 * panel of a weight that is larger than the caches. {@code gigabytes} and {@code gigaflops} are by the second.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 1, time = 1)
@Measurement(iterations = 5, time = 1)
public class Linear {
    private static final long WEIGHT_BYTES = 512L << 20;

    /** Element type of the weight. */
    @Param({"F32", "F16", "BF16"})
    public OpArray.WeightType dtype = OpArray.WeightType.BF16;

    /** Rows of activations: 1 in a decode step of one sequence, 512 in the sweeps of a long prompt. */
    @Param({"1", "4", "16", "512"})
    public int rows;

    /** Rows of a panel and its columns. */
    @Param({"1024x4096", "512x14336"})
    public String shape = "";

    /** Threads that compute. */
    @Param("1")
    public int threads;

    private int n;
    private int k;
    private long panelBytes;
    private long at;
    private Device device;
    private Queue queue;
    private MemorySegment weights;
    private MemorySegment copy;
    private MemorySegment activations;
    private OpArray ops;
    private Step step;

    /** What an operation did, by the second. */
    @AuxCounters(AuxCounters.Type.OPERATIONS)
    @State(Scope.Thread)
    public static class Work {
        /** Weights read. */
        public double gigabytes;
        /** Multiplications and additions. */
        public double gigaflops;
    }

    /** Makes a weight and activations. */
    @Setup(Level.Trial)
    public void open() {
        n = Integer.parseInt(shape.substring(0, shape.indexOf('x')));
        k = Integer.parseInt(shape.substring(shape.indexOf('x') + 1));
        int element = dtype == OpArray.WeightType.F32 ? Float.BYTES : Short.BYTES;
        panelBytes = (long) n * k * element;
        device = Device.openCpu(threads);
        queue = device.openQueue();
        weights = device.allocate(WEIGHT_BYTES);
        copy = device.allocate(panelBytes);
        for (long i = 0; i < WEIGHT_BYTES; i += Integer.BYTES) {
            weights.set(ValueLayout.JAVA_INT, i, 0x3c003c00); // harmless in each type
        }
        copy.fill((byte) 0);
        activations = device.allocateOnDevice((long) rows * (k + n) * Float.BYTES);
        ops = new OpArray(1);
        ops.linear(0, OpArray.Rows.ALL, new View((long) rows * k, n, n), new View(0, k, k),
                new OpArray.Weight(dtype, n, k, 0, (long) k * element), null);
        step = new Step(rows, 0, 1, activations, copy);
        step.clear();
        for (int i = 0; i < rows; i++) {
            step.addRow(0, i, false);
        }
    }

    /** Frees them. */
    @TearDown(Level.Trial)
    public void close() {
        step.close();
        ops.close();
        device.freeOnDevice(activations);
        device.free(copy);
        device.free(weights);
        queue.close();
        device.close();
    }

    private MemorySegment nextPanel() {
        at = at + 2 * panelBytes <= WEIGHT_BYTES ? at + panelBytes : 0;
        return weights.asSlice(at, panelBytes);
    }

    /** The product. */
    @Benchmark
    public void product(Work work) {
        step.panel(nextPanel());
        queue.await(queue.submit(ops, 0, 1, step));
        work.gigabytes += panelBytes / 1e9;
        work.gigaflops += 2e-9 * n * k * rows;
    }

    /** The yardstick for few rows: reads the panel, on this thread. */
    @Benchmark
    public long read(Work work) {
        long sum = MemoryPass.read(nextPanel());
        work.gigabytes += panelBytes / 1e9;
        return sum;
    }

    /** Copies the panel, on this thread. */
    @Benchmark
    public void copy(Work work) {
        copy.copyFrom(nextPanel());
        work.gigabytes += panelBytes / 1e9;
    }
}
