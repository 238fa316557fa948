package dev.lamina.internal.runtime;

import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/** How fast a device computes weights with one row: what a sweep that decodes is made of, and memory its limit. */
public final class ComputeRate {
    private static final int WIDTH = 4096; // elements of a row of the weight
    private static final int ROW_BYTES = WIDTH * Short.BYTES;
    private static final int PANEL_BYTES = 8 << 20;
    private static final int PANELS = 8; // together larger than most caches
    private static final int LEAST_PASSES = 3;
    private static final double SECONDS = 0.1;
    private static final double NANOS = 1e9;

    /** Two bytes of this are a small bf16 number; memory that nobody wrote to would not be read at all. */
    private static final byte FILL = 0x3c;

    private ComputeRate() {}

    /**
     * Measures matrix products with bf16 weights: the best of several passes within a tenth of a second. The weights lie
     * in host memory; a device with memory of its own gets them copied, as it does in a sweep, but one after the other,
     * so it may be up to twice as fast as this says. Takes 64 MiB of host memory for that time.
     *
     * @return bytes of weights per second
     */
    public static double measure(Device device, Queue queue) {
        MemorySegment weights = device.allocate((long) PANELS * PANEL_BYTES);
        MemorySegment onDevice = null; // a panel and the activations
        try {
            weights.fill(FILL);
            int rows = PANEL_BYTES / ROW_BYTES;
            onDevice = device.allocateOnDevice(PANEL_BYTES + (long) Float.BYTES * (WIDTH + rows));
            try (var ops = new OpArray(1);
                    var step = new Step(1, 1, 1, onDevice.asSlice(PANEL_BYTES), weights.asSlice(0, ROW_BYTES))) {
                ops.linear(0, false, new View(WIDTH, rows, rows), new View(0, WIDTH, WIDTH), OpArray.WeightType.BF16, 0,
                        ROW_BYTES, null);
                step.clear();
                step.addRow(0, 0, false);
                var target = device.info().unified() ? null : onDevice.asSlice(0, PANEL_BYTES);
                return measure(queue, ops, step, weights, target);
            }
        } finally {
            if (onDevice != null) {
                device.freeOnDevice(onDevice);
            }
            device.free(weights);
        }
    }

    private static double measure(Queue queue, OpArray ops, Step step, MemorySegment weights,
            @Nullable MemorySegment target) {
        long begin = System.nanoTime();
        double best = Double.POSITIVE_INFINITY;
        for (int pass = 0; pass < LEAST_PASSES || System.nanoTime() - begin < SECONDS * NANOS; pass++) {
            long start = System.nanoTime();
            for (int i = 0; i < PANELS; i++) {
                var panel = weights.asSlice((long) i * PANEL_BYTES, PANEL_BYTES);
                if (target != null) {
                    queue.copyToDevice(target, panel);
                }
                step.panel(target == null ? panel : target);
                queue.await(queue.submit(ops, 0, 1, step));
            }
            best = Math.min(best, (System.nanoTime() - start) / NANOS);
        }
        return weights.byteSize() / Math.max(best, 1 / NANOS);
    }
}
