package dev.lamina.internal.stream;

import java.util.BitSet;

/**
 * Panels in host memory that the host's processor computes where they are, and what a plan knows of that.
 *
 * @param panels their indexes
 * @param inputs for each panel of the cycle, a number of what its first product reads; the same for those that read the
 *     same; -1: none begins with a product
 * @param bytesPerSecond weights that the processor computes
 * @param tripSeconds what it takes to bring a few rows from the device to the host and back, and to wait for both
 */
public record HostWork(BitSet panels, int[] inputs, double bytesPerSecond, double tripSeconds) {
    /** Copies the set, which its owner might change. */
    public HostWork {
        panels = (BitSet) panels.clone();
    }
}
