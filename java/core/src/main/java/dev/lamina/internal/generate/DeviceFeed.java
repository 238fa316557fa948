package dev.lamina.internal.generate;

import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.Placement.Slab;
import dev.lamina.internal.stream.Planner;
import java.lang.foreign.MemorySegment;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * The panels in the memory of one device: some stay there for good, others pass through a ring. A queue of its own
 * copies them, while the device computes with those before. Used by one thread at a time.
 */
final class DeviceFeed implements AutoCloseable {
    private final Processor processor;
    private final Schedule schedule;
    private final Queue copies;
    private final MemorySegment ring; // (DEVICE_PLACES, place bytes)
    private final long[] usedBy = new long[Planner.DEVICE_PLACES]; // ticket of the computation that last read a place
    private final Map<Slab, MemorySegment> slabs = new HashMap<>();
    private final Map<Integer, MemorySegment> homes = new HashMap<>(); // of the panels in slabs, by number
    private int place;
    private boolean inRing; // the panel that came last
    private long lastCopy; // its ticket

    /** Makes the ring for the panels of a schedule. */
    DeviceFeed(Processor processor, Schedule schedule) {
        this.processor = processor;
        this.schedule = schedule;
        ring = processor.device().allocateOnDevice(bytes(schedule));
        try {
            copies = processor.device().openQueue();
        } catch (Throwable e) {
            processor.device().freeOnDevice(ring);
            throw e;
        }
    }

    /** Device memory of the ring. */
    static long bytes(Schedule schedule) {
        return Planner.DEVICE_PLACES * Planner.onDevice(schedule.largestPanel());
    }

    /**
     * Changes which panels stay: frees slabs that are not named, and makes those that are new. Nothing is under way.
     *
     * @return the panels that are there still, with their bytes
     */
    BitSet choose(List<Slab> chosen) {
        for (var slab : List.copyOf(slabs.keySet())) {
            if (!chosen.contains(slab)) {
                slab.panels().forEach(homes::remove);
                processor.device().freeOnDevice(slabs.remove(slab));
            }
        }
        var kept = new BitSet();
        homes.keySet().forEach(kept::set);
        for (var slab : chosen) {
            if (!slabs.containsKey(slab)) {
                allocate(slab);
            }
        }
        return kept;
    }

    private void allocate(Slab slab) {
        var panels = schedule.panels();
        long bytes = slab.panels().stream().mapToLong(i -> Planner.onDevice(panels.get(i).extent().bytes())).sum();
        var memory = processor.device().allocateOnDevice(bytes);
        slabs.put(slab, memory);
        long offset = 0;
        for (int i : slab.panels()) {
            long size = panels.get(i).extent().bytes();
            homes.put(i, memory.asSlice(offset, size));
            offset += Planner.onDevice(size);
        }
    }

    /** Where a panel stays for good; null where it passes through the ring. */
    @Nullable MemorySegment home(int panel) {
        return homes.get(panel);
    }

    /**
     * Begins to copy a panel to its home, or into the ring.
     *
     * @return where it is going to be
     */
    MemorySegment copy(int panel, MemorySegment host) {
        var target = homes.get(panel);
        inRing = target == null;
        if (target == null) {
            place = (place + 1) % usedBy.length;
            target = ring.asSlice(place * (ring.byteSize() / usedBy.length), host.byteSize());
            copies.after(processor.queue(), usedBy[place]);
        }
        lastCopy = copies.copyToDevice(target, host);
        return target;
    }

    /** The ticket of the copy that was begun last. */
    long lastCopy() {
        return lastCopy;
    }

    /** Lets what is submitted to the device's computation from now on begin after the copy that was begun last. */
    void follow() {
        processor.queue().after(copies, lastCopy);
    }

    /** The queue of copies. */
    Queue copies() {
        return copies;
    }

    /** Takes note that the next computation uses no panel in the ring. */
    void stays() {
        inRing = false;
    }

    /** Takes note of what was submitted with the panel that came last. */
    void submitted(long ticket) {
        if (inRing) {
            usedBy[place] = ticket;
        }
    }

    @Override
    public void close() {
        var all = new Closing();
        all.close(copies);
        slabs.values().forEach(memory -> all.close(() -> processor.device().freeOnDevice(memory)));
        slabs.clear();
        homes.clear();
        all.close(() -> processor.device().freeOnDevice(ring));
        all.end();
    }
}
