package dev.lamina.internal.stream;

import java.util.BitSet;
import java.util.List;

/**
 * What of a budget goes where: the staging ring first, and what is left holds panels for good. A {@link Planner} makes
 * it.
 *
 * @param options the options with prefetch chosen, and readers and row cache lowered where memory is short
 * @param slots slots of the ring, 0 when all panels are resident in host memory
 * @param slotBytes memory of one slot
 * @param resident indexes of the panels to hold for good in host memory
 * @param residentBytes memory of these
 * @param hostBytes all memory that {@link Streamer} and {@link ResidentPanels} allocate under this placement
 * @param slabs for each device with memory of its own: the panels that it holds for good, by allocation and in order
 */
public record Placement(StreamOptions options, int slots, long slotBytes, BitSet resident, long residentBytes,
        long hostBytes, List<List<Slab>> slabs) {
    /** Panels that share an allocation of a device, one after the other. */
    public record Slab(List<Integer> panels) {
        /** Copies the list. */
        public Slab {
            panels = List.copyOf(panels);
        }
    }

    /** Copies the sets, which their owner might change. */
    public Placement {
        resident = (BitSet) resident.clone();
        slabs = slabs.stream().map(List::copyOf).toList();
    }

    /** A copy of the set of panels that are resident in host memory. */
    @Override
    public BitSet resident() {
        return (BitSet) resident.clone();
    }

    /** The panels that are resident on a device. */
    public BitSet onDevice() {
        var all = new BitSet();
        slabs.forEach(device -> device.forEach(slab -> slab.panels.forEach(all::set)));
        return all;
    }

    /** The panels that are not read from disk. */
    public BitSet kept() {
        var all = onDevice();
        all.or(resident);
        return all;
    }
}
