package dev.lamina.internal.runtime;

import java.lang.foreign.MemorySegment;

/**
 * What tells whether a panel in page-locked memory is better computed where it is, by the host's processor, or copied
 * to a device.
 *
 * @param busBytesPerSecond bytes that are copied to the device
 * @param hostBytesPerSecond bytes of weights that the processor computes with one row
 * @param tripSeconds what it takes to copy a few KiB to the host, wait, copy them back, and wait
 */
public record HostRates(double busBytesPerSecond, double hostBytesPerSecond, double tripSeconds) {
    private static final int TRIP_BYTES = 4096;
    private static final int TRIPS = 20;
    private static final double NANOS = 1e9;

    /**
     * Measures the rates, the best of several passes within a tenth of a second each.
     *
     * @param mostBytes of the host's memory, and of the device's, that are taken for that time
     */
    public static HostRates measure(Device device, Queue queue, Device cpu, Queue cpuQueue, long mostBytes) {
        return new HostRates(ComputeRate.bus(device, queue, mostBytes),
                ComputeRate.measure(cpu, cpuQueue, mostBytes).computeBytesPerSecond(), trip(device, queue));
    }

    private static double trip(Device device, Queue queue) {
        MemorySegment host = device.allocate(TRIP_BYTES);
        MemorySegment onDevice = null;
        try {
            onDevice = device.allocateOnDevice(TRIP_BYTES);
            double best = Double.POSITIVE_INFINITY;
            for (int i = 0; i < TRIPS; i++) {
                long start = System.nanoTime();
                queue.await(queue.copyToHost(host, onDevice));
                queue.await(queue.copyToDevice(onDevice, host));
                best = Math.min(best, (System.nanoTime() - start) / NANOS);
            }
            return best;
        } finally {
            if (onDevice != null) {
                device.freeOnDevice(onDevice);
            }
            device.free(host);
        }
    }
}
