package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.Queue;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * A device that computes, and the queue of its computation.
 *
 * @param device closed with this
 * @param queue of that device
 */
record Processor(Device device, Queue queue) implements AutoCloseable {
    private static final System.Logger LOG = System.getLogger(Processor.class.getName());
    private static final String GPU = "cuda";

    /**
     * Opens devices by their names.
     *
     * @param names one or several with commas between them, or {@code auto}: all GPUs that can be used, or
     *     the CPU where there is none
     * @param threads of the CPU that compute
     * @param fast whether a GPU may round
     * @throws LaminaException one of them cannot be used, or they cannot work together
     */
    static List<Processor> open(String names, int threads, boolean fast) {
        var opened = new ArrayList<Processor>();
        try {
            for (var name : (names.equals("auto") ? best() : names).split(",", -1)) {
                opened.add(open(name.strip(), threads, fast, opened));
            }
            return List.copyOf(opened);
        } catch (Throwable e) {
            try {
                closeAll(opened);
            } catch (Throwable closing) {
                e.addSuppressed(closing);
            }
            throw e;
        }
    }

    private static Processor open(String name, int threads, boolean fast, List<Processor> others) {
        var device = Device.open(name, threads, fast);
        try {
            for (var other : others) {
                if (device.info().unified() || !other.device.info().backend().equals(device.info().backend())) {
                    throw new LaminaException("The devices " + other.device.name() + " and " + name
                            + " cannot compute one model together: name GPUs alone, such as cuda:0,cuda:1.");
                }
                if (other.device.name().equals(device.name())) {
                    throw new LaminaException("The device " + name + " is named twice: name each GPU once.");
                }
            }
            return new Processor(device, device.openQueue());
        } catch (Throwable e) {
            device.close();
            throw e;
        }
    }

    private static String best() {
        try {
            int count = Device.count(GPU);
            var usable = IntStream.range(0, count).mapToObj(i -> GPU + ":" + i).filter(Processor::isUsable)
                    .collect(Collectors.joining(","));
            return usable.isEmpty() ? "cpu" : usable;
        } catch (LaminaException e) {
            LOG.log(System.Logger.Level.DEBUG, "the CPU computes: {0}", e.getMessage());
            return "cpu";
        }
    }

    private static boolean isUsable(String gpu) {
        try {
            Device.open(gpu, 0, false).close();
            return true;
        } catch (LaminaException e) {
            LOG.log(System.Logger.Level.DEBUG, "{0} is left out: {1}", gpu, e.getMessage());
            return false;
        }
    }

    /** Closes all of them, whatever fails. */
    static void closeAll(List<Processor> processors) {
        var all = new Closing();
        processors.forEach(all::close);
        all.end();
    }

    @Override
    public void close() {
        var all = new Closing();
        all.close(queue);
        all.close(device);
        all.end();
    }
}
