package dev.lamina.internal.generate;

import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.HostRates;
import dev.lamina.internal.runtime.Queue;
import org.jspecify.annotations.Nullable;

/**
 * The processor that reads host memory, beside devices that have memory of their own.
 *
 * @param processor closed with this
 * @param rates how fast it is, and the way to the slowest of those devices
 */
record HostProcessor(Processor processor, HostRates rates) implements AutoCloseable {
    /** What is measured takes this share of the budgets, which nothing else has yet. */
    private static final int MEASURING_IN_MEMORY = 4;

    /**
     * Opens it and measures, which takes less than half a second.
     *
     * @param threads that compute; 0: one a core
     * @return null where no panel is in host memory that a device does not read itself
     */
    static @Nullable HostProcessor open(Weights weights, MemoryUse memory, int threads) {
        if (weights.ranks().getFirst().unified() || weights.onDevice()) {
            return null;
        }
        long most = memory.devices().stream().reduce(memory.host(), Math::min) / MEASURING_IN_MEMORY;
        var device = Device.openCpu(threads);
        Queue queue = null;
        try {
            queue = device.openQueue();
            HostRates slowest = null;
            for (var rank : weights.ranks()) {
                var to = rank.processor();
                var rates = HostRates.measure(to.device(), to.queue(), device, queue, most);
                slowest = slowest == null || rates.busBytesPerSecond() < slowest.busBytesPerSecond() ? rates : slowest;
            }
            return new HostProcessor(new Processor(device, queue), slowest);
        } catch (Throwable e) {
            var all = new Closing();
            all.close(queue);
            all.close(device);
            all.endAfter(e);
            throw e;
        }
    }

    @Override
    public void close() {
        processor.close();
    }
}
