package dev.lamina.internal.stream;

import dev.lamina.Rates;
import java.util.BitSet;

/** Plays sweeps through on paper. */
final class SweepTime {
    /** Sweeps until the ring is as full at the end of one as it was at its beginning, nearly. */
    private static final int WARM_UP = 4;

    private static final int MEASURED = 8;

    private SweepTime() {}

    /**
     * How long a sweep takes, when one follows the other without a pause. The disk reads one panel after the other into
     * the slots of the ring, as a {@link Streamer} does, and waits when none is free; the processor computes one after
     * the other, and waits for those that are not there. Nothing else takes time.
     *
     * @param bytes weights of each panel, in schedule order
     * @param resident the panels that are not read
     * @param slots of the ring, at least one if a panel is not resident
     * @return seconds
     */
    static double seconds(long[] bytes, BitSet resident, int slots, Rates rates) {
        var free = new double[Math.max(1, slots)]; // from when on each slot can be read into
        double read = 0; // when the disk is done with what it has begun
        double computed = 0; // and the processor
        double begin = 0;
        int slot = 0;
        for (int sweep = 0; sweep < WARM_UP + MEASURED; sweep++) {
            if (sweep == WARM_UP) {
                begin = computed;
            }
            for (int i = 0; i < bytes.length; i++) {
                double computing = bytes[i] / rates.computeBytesPerSecond();
                if (resident.get(i)) {
                    computed += computing;
                } else {
                    read = Math.max(read, free[slot]) + bytes[i] / rates.diskBytesPerSecond();
                    computed = Math.max(computed, read) + computing;
                    free[slot] = computed;
                    slot = (slot + 1) % free.length;
                }
            }
        }
        return (computed - begin) / MEASURED;
    }
}
