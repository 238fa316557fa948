package dev.lamina.internal.runtime;

import java.lang.foreign.MemorySegment;

/**
 * How fast a device computes weights with one row: what a sweep that decodes is made of, and memory its limit.
 *
 * @param computeBytesPerSecond bytes of weights that it computes, where they are in its memory
 * @param busBytesPerSecond bytes that are copied from host memory to the device's; 0: it reads host memory in place
 */
public record ComputeRate(double computeBytesPerSecond, double busBytesPerSecond) {
    private static final int WIDTH = 4096; // elements of a row of the weight
    private static final int ROW_BYTES = WIDTH * Short.BYTES;
    private static final int PANEL_BYTES = 8 << 20;
    private static final int PANELS = 8; // together larger than most caches
    private static final int LEAST_PASSES = 3;
    private static final double SECONDS = 0.1;
    private static final double NANOS = 1e9;

    /** Two bytes of this are a small bf16 number; memory that nobody wrote to would not be read at all. */
    private static final byte FILL = 0x3c;

    /**
     * Measures matrix products with bf16 weights, and copies where there is something to copy: the best of several
     * passes within a tenth of a second each. Takes 64 MiB of the host's memory and of the device's for that time.
     */
    public static ComputeRate measure(Device device, Queue queue) {
        return measure(device, queue, (long) PANELS * PANEL_BYTES);
    }

    /**
     * The same with less memory: weights that fit the caches of a processor are computed faster than others.
     *
     * @param mostBytes of weights
     */
    static ComputeRate measure(Device device, Queue queue, long mostBytes) {
        int panelBytes = panelBytes(mostBytes);
        long weightBytes = Math.clamp(mostBytes / panelBytes, 1, PANELS) * panelBytes;
        boolean unified = device.info().unified();
        MemorySegment weights = device.allocate(weightBytes);
        MemorySegment onDevice = null; // the activations, and weights where they cannot be read in place
        try {
            weights.fill(FILL);
            int rows = panelBytes / ROW_BYTES;
            long activationBytes = (long) Float.BYTES * (WIDTH + rows);
            onDevice = device.allocateOnDevice(activationBytes + (unified ? 0 : weightBytes));
            var target = unified ? weights : onDevice.asSlice(activationBytes);
            double copies = unified ? 0 : best(weights, target, panelBytes, queue::copyToDevice, queue);
            try (var ops = new OpArray(1);
                    var step = new Step(1, 1, 1, onDevice.asSlice(0, activationBytes),
                            weights.asSlice(0, ROW_BYTES))) {
                ops.linear(0, OpArray.Rows.ALL, new View(WIDTH, rows, rows), new View(0, WIDTH, WIDTH),
                        new OpArray.Weight(OpArray.WeightType.BF16, rows, WIDTH, 0, ROW_BYTES), null);
                step.clear();
                step.addRow(0, 0, false);
                return new ComputeRate(best(weights, target, panelBytes, (panel, host) -> {
                    step.panel(panel);
                    return queue.submit(ops, 0, 1, step);
                }, queue), copies);
            }
        } finally {
            if (onDevice != null) {
                device.freeOnDevice(onDevice);
            }
            device.free(weights);
        }
    }

    /** What is done with one panel; returns its ticket. */
    @FunctionalInterface
    private interface Work {
        long submit(MemorySegment onDevice, MemorySegment onHost);
    }

    private static int panelBytes(long mostBytes) {
        return (int) Math.clamp(mostBytes / ROW_BYTES * ROW_BYTES, ROW_BYTES, PANEL_BYTES);
    }

    /**
     * Bytes a second that are copied from page-locked memory into memory of a device.
     *
     * @param mostBytes of the host's memory that is taken for it; of the device's it is a panel
     */
    static double bus(Device device, Queue queue, long mostBytes) {
        int panelBytes = panelBytes(mostBytes);
        MemorySegment host = device.allocate(Math.clamp(mostBytes / panelBytes, 1, PANELS) * panelBytes);
        MemorySegment onDevice = null;
        try {
            onDevice = device.allocateOnDevice(panelBytes);
            host.fill(FILL);
            return best(host, onDevice, panelBytes, queue::copyToDevice, queue);
        } finally {
            if (onDevice != null) {
                device.freeOnDevice(onDevice);
            }
            device.free(host);
        }
    }

    private static double best(MemorySegment weights, MemorySegment target, int panelBytes, Work work, Queue queue) {
        long begin = System.nanoTime();
        double best = Double.POSITIVE_INFINITY;
        for (int pass = 0; pass < LEAST_PASSES || System.nanoTime() - begin < SECONDS * NANOS; pass++) {
            long start = System.nanoTime();
            long ticket = 0;
            for (long at = 0; at < weights.byteSize(); at += panelBytes) {
                ticket = work.submit(target.asSlice(at % target.byteSize(), panelBytes),
                        weights.asSlice(at, panelBytes));
            }
            queue.await(ticket);
            best = Math.min(best, (System.nanoTime() - start) / NANOS);
        }
        return weights.byteSize() / Math.max(best, 1 / NANOS);
    }
}
