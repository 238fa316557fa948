package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.OpArray;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.runtime.Step;
import dev.lamina.internal.runtime.View;
import java.lang.foreign.MemorySegment;

/**
 * What a device with memory of its own, and its bus, give in the best case: the yardsticks of a sweep. The bus copies
 * large pieces of page-locked memory, one after the other, and the device multiplies panels that are in its memory with
 * one row; each does nothing else meanwhile. For one caller at a time.
 */
final class DeviceRates implements AutoCloseable {
    private static final int WIDTH = 8192; // elements of a row of the weight
    private static final long ROW_BYTES = (long) WIDTH * Short.BYTES;
    private static final int REPEATS = 2;
    private static final byte FILL = 0x3c; // two of them are a small bf16 number

    private final Device device;
    private final Queue queue;
    private final MemorySegment host; // as large as weights
    private final MemorySegment weights; // (panels, panel bytes), on the device
    private final MemorySegment activations; // WIDTH floats, then one for each row of a panel
    private final OpArray ops = new OpArray(1);
    private final Step step;
    private final long panelBytes;

    /**
     * Opens the device.
     *
     * @param name as {@link Device#open} takes it
     * @param fast the mode
     * @param bytes of memory of the device, and as many of the host: much larger than its caches
     * @param panel most bytes of a panel
     */
    DeviceRates(String name, boolean fast, long bytes, long panel) {
        long rows = Math.max(1, panel / ROW_BYTES);
        panelBytes = rows * ROW_BYTES;
        long whole = Math.max(1, bytes / panelBytes) * panelBytes;
        device = Device.open(name, 1, fast);
        queue = device.openQueue();
        host = device.allocate(whole).fill(FILL);
        weights = device.allocateOnDevice(whole);
        activations = device.allocateOnDevice((WIDTH + rows) * Float.BYTES);
        step = new Step(1, 1, 1, activations, host.asSlice(0, ROW_BYTES));
        step.clear();
        step.addRow(0, 0, false);
        int width = Math.toIntExact(rows);
        ops.linear(0, OpArray.Rows.ALL, new View(WIDTH, width, width), new View(0, WIDTH, WIDTH),
                new OpArray.Weight(OpArray.WeightType.BF16, width, WIDTH, 0, ROW_BYTES), null);
        bus();
        compute();
    }

    /** What the device is. */
    Device.Info info() {
        return device.info();
    }

    /** Bytes of the device's memory that a model may have: what was free, less what this holds itself. */
    long freeBytes() {
        return device.info().freeBytes() - weights.byteSize() - activations.byteSize();
    }

    /** Bytes that are copied to the device in a second. */
    double bus() {
        long start = System.nanoTime();
        long ticket = 0;
        for (int i = 0; i < REPEATS; i++) {
            ticket = queue.copyToDevice(weights, host);
        }
        queue.await(ticket);
        return rate(start);
    }

    /** Bytes of bf16 weights that are multiplied with one row in a second. */
    double compute() {
        long start = System.nanoTime();
        long ticket = 0;
        for (int i = 0; i < REPEATS; i++) {
            for (long at = 0; at < weights.byteSize(); at += panelBytes) {
                step.panel(weights.asSlice(at, panelBytes));
                ticket = queue.submit(ops, 0, 1, step);
            }
        }
        queue.await(ticket);
        return rate(start);
    }

    private double rate(long start) {
        return REPEATS * weights.byteSize() / ((System.nanoTime() - start) / 1e9);
    }

    @Override
    public void close() {
        queue.close();
        step.close();
        ops.close();
        device.freeOnDevice(activations);
        device.freeOnDevice(weights);
        device.free(host);
        device.close();
    }
}
