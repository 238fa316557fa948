package dev.lamina.internal.generate;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * Bytes of memory, of the host and of each device that has its own.
 *
 * @param host bytes of host memory
 * @param devices bytes of each device's memory; empty where the device reads host memory in place
 */
record MemoryUse(long host, List<Long> devices) {
    private static final long LARGE = 1L << 20;
    private static final long PAGE = 2L << 20;

    MemoryUse {
        devices = List.copyOf(devices);
    }

    /** The same number of bytes of each device. */
    static MemoryUse of(long host, int devices, long ofEach) {
        return new MemoryUse(host, Collections.nCopies(devices, ofEach));
    }

    /** Device memory that an allocation takes: from 1 MiB on, drivers give it in pages of 2 MiB. */
    static long allocation(long bytes) {
        return bytes < LARGE ? bytes : Math.ceilDiv(bytes, PAGE) * PAGE;
    }

    /** The sum of both. */
    MemoryUse plus(MemoryUse other) {
        var sums = new ArrayList<Long>();
        for (int i = 0; i < devices.size(); i++) {
            sums.add(Math.addExact(devices.get(i), other.devices.get(i)));
        }
        return new MemoryUse(Math.addExact(host, other.host), sums);
    }
}
