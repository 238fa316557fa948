package dev.lamina.internal.stream;

import java.util.BitSet;

/**
 * What of a budget goes where: the staging ring first, and what is left holds panels for good. A {@link Planner} makes
 * it.
 *
 * @param options the options with prefetch chosen, and readers and row cache lowered where memory is short
 * @param slots slots of the ring, 0 when all panels are resident
 * @param slotBytes memory of one slot
 * @param resident indexes of the panels to hold for good
 * @param residentBytes memory of these
 * @param hostBytes all memory that {@link Streamer} and {@link ResidentPanels} allocate under this placement
 */
public record Placement(StreamOptions options, int slots, long slotBytes, BitSet resident, long residentBytes,
        long hostBytes) {
    /** Copies the set, which its owner might change. */
    public Placement {
        resident = (BitSet) resident.clone();
    }

    /** A copy of the set of resident panels. */
    @Override
    public BitSet resident() {
        return (BitSet) resident.clone();
    }
}
