package dev.lamina.internal.runtime;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;

/** What the machine, or the container that this process runs in, has free. */
public final class FreeMemory {
    private FreeMemory() {}

    /** Bytes that could be taken now without swapping; caches that the kernel would give back count as free. */
    public static long bytes() {
        var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return Math.min(available(system.getFreeMemorySize()), system.getTotalMemorySize());
    }

    /** {@code MemAvailable} of Linux; elsewhere what the Java runtime counts. */
    private static long available(long fallback) {
        try {
            for (var line : Files.readAllLines(Path.of("/proc/meminfo"))) {
                if (line.startsWith("MemAvailable:")) {
                    return Long.parseLong(line.replaceAll("\\D", "")) << 10;
                }
            }
        } catch (IOException | NumberFormatException e) {
            // No such file on this system, or a line of another form: the fallback is what there is.
        }
        return fallback;
    }
}
