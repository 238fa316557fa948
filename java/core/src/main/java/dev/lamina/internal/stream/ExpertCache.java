package dev.lamina.internal.stream;

import dev.lamina.internal.runtime.HostMemory;
import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Memory for the panels of experts: slots of one size. A few are for what is read and used once; all others keep panels,
 * those of the experts that are used the most. How often that is counts over the last few hundred sweeps, so that one
 * long prompt, whose rows choose almost all experts, does not drive out what the others need.
 *
 * <p>While a streamer has it, it belongs to that streamer: {@link #bytes} may be called at any time, everything else
 * only before and after, by one thread at a time.
 */
public final class ExpertCache implements AutoCloseable {
    /** Slots that keep nothing: panels on their way from the drive to the device. */
    private static final int PASSING = 4;

    /** Most slots for what is read before anybody asks for it, where experts are predicted. */
    private static final int MOST_AHEAD = 8;

    /** So many slots there are for each of those, unless there are very few. */
    private static final int SLOTS_FOR_AHEAD = 8;

    private static final double HALF_LIFE = 256; // sweeps after which a use counts half as much
    private static final double LARGEST_WEIGHT = 1e100;

    /** Two panels of one expert begin at multiples of this many bytes in memory. */
    static final int ALIGNMENT = 64;

    /** A slot, and the panel in it. */
    static final class Slot {
        final HostBlock block;
        int panel = -1;
        boolean kept; // whether it stays when it was used
        boolean filled;
        int pins; // what keeps it from being taken for another panel: a user, or a place in the order of demand

        Slot(HostBlock block) {
            this.block = block;
        }
    }

    private final List<DataFile> files;
    private final List<List<Extent>> panels;
    private final int[] expertOf;
    private final HostMemory memory;
    private final long slotBytes;
    private final int alignment;
    private final boolean predicted;
    private final double[] uses; // by expert
    private final @Nullable Slot[] kept; // by panel
    private final List<Slot> slots = new ArrayList<>();
    private final ArrayDeque<Slot> free = new ArrayDeque<>();
    private int ahead; // slots with what nobody has asked for
    private double weight = 1; // of a use in the sweep of the moment
    private volatile long bytes;
    private volatile boolean attached;

    /**
     * Makes a cache without slots.
     *
     * @param files the files that the panels name
     * @param panels where each panel lies: one extent, or two that are used together
     * @param expertOf the number of the expert that each panel belongs to, over all mixtures
     * @param predicted whether panels are read before they are asked for
     * @param memory where to allocate
     */
    public ExpertCache(List<DataFile> files, List<List<Extent>> panels, int[] expertOf, boolean predicted,
            HostMemory memory) {
        this.files = List.copyOf(files);
        this.panels = panels.stream().map(List::copyOf).toList();
        this.expertOf = expertOf.clone();
        this.predicted = predicted;
        this.memory = memory;
        this.alignment = alignment(files);
        this.slotBytes = slotBytes(files, panels);
        this.uses = new double[Arrays.stream(expertOf).max().orElse(-1) + 1];
        this.kept = new Slot[panels.size()];
    }

    /**
     * How many of some slots keep nothing.
     *
     * @param slots how many there are; 0: what is the least
     * @param predicted whether panels are read before they are asked for
     */
    public static int passing(int slots, boolean predicted) {
        return PASSING + (predicted ? Math.clamp((slots - PASSING) / SLOTS_FOR_AHEAD, 1, MOST_AHEAD) : 0);
    }

    private int passing() {
        return passing(slots.size(), predicted);
    }

    private static int alignment(List<DataFile> files) {
        return files.stream().mapToInt(DataFile::alignment).max().orElse(1);
    }

    private static long slotBytes(List<DataFile> files, List<List<Extent>> panels) {
        long most = 1;
        for (var extents : panels) {
            var first = extents.getFirst();
            int alignment = files.get(first.file()).alignment();
            long start = first.offset() - first.windowStart(alignment);
            most = Math.max(most, first.windowEnd(alignment) - first.windowStart(alignment));
            most = Math.max(most, start + memoryBytes(extents));
        }
        return most;
    }

    /** Bytes of a panel in memory. */
    static long memoryBytes(List<Extent> extents) {
        long bytes = extents.getFirst().bytes();
        return extents.size() == 1 ? bytes : HostBlock.roundUp(bytes, ALIGNMENT) + extents.getLast().bytes();
    }

    /** Memory that a slot takes, where it is for panels like these. */
    public static long slotFootprint(List<DataFile> files, List<List<Extent>> panels) {
        return HostBlock.footprint(slotBytes(files, panels), alignment(files));
    }

    /** Bytes allocated. */
    public long bytes() {
        return bytes;
    }

    /** Slots that there are. */
    public int slots() {
        return slots.size();
    }

    /** Panels that are in memory and stay. */
    public int keptPanels() {
        return (int) Arrays.stream(kept).filter(slot -> slot != null && slot.filled).count();
    }

    /**
     * Changes the number of slots; of the panels that are kept, those of experts with the fewest uses go first.
     *
     * @throws IllegalStateException a streamer has it
     */
    public void resize(int count) {
        if (attached) {
            throw new IllegalStateException("a streamer uses these slots");
        }
        while (slots.size() > count) { // all are free or kept
            // what experts pass through stays, or nothing that is not kept could ever be read
            var last = free.size() > passing() ? null : leastUsed(Double.POSITIVE_INFINITY);
            if (last == null) {
                last = free.pop();
            }
            forget(last);
            slots.remove(last);
            bytes -= HostBlock.footprint(slotBytes, alignment);
            last.block.close();
        }
        while (slots.size() < count) {
            var slot = new Slot(HostBlock.allocate(memory, slotBytes, alignment));
            slots.add(slot);
            free.push(slot);
            bytes += HostBlock.footprint(slotBytes, alignment);
        }
    }

    private void forget(Slot slot) {
        if (slot.panel >= 0 && kept[slot.panel] == slot) {
            kept[slot.panel] = null;
        }
        slot.panel = -1;
        slot.kept = false;
        slot.filled = false;
    }

    /** The slot whose expert is used the least, and less than {@code below}; null if there is none to be taken. */
    private @Nullable Slot leastUsed(double below) {
        Slot least = null;
        double leastUses = below;
        for (var slot : kept) {
            if (slot != null && slot.filled && slot.pins == 0 && uses[expertOf[slot.panel]] < leastUses) {
                least = slot;
                leastUses = uses[expertOf[slot.panel]];
            }
        }
        return least;
    }

    @Override
    public void close() {
        resize(0);
    }

    // For the streamer, under its lock.

    List<Extent> extents(int panel) {
        return panels.get(panel);
    }

    void attach(List<DataFile> files) {
        if (attached || !this.files.equals(files)) {
            throw new IllegalArgumentException("these slots belong to another streamer, or to other files");
        }
        attached = true;
    }

    /** Ends the use by a streamer; nothing is read any more. */
    void detach() {
        attached = false;
        for (var slot : slots) {
            slot.pins = 0;
            if (!slot.kept || !slot.filled) {
                forget(slot);
            }
        }
        ahead = 0;
        free.clear();
        slots.stream().filter(slot -> slot.panel < 0).forEach(free::push);
    }

    /** The number of the expert that a panel belongs to. */
    int expert(int panel) {
        return expertOf[panel];
    }

    /** Counts a use of an expert. */
    void used(int expert) {
        uses[expert] += weight;
    }

    /** A sweep is done: what comes counts a little more than what was. */
    void swept() {
        weight *= Math.pow(2, 1 / HALF_LIFE);
        if (weight > LARGEST_WEIGHT) {
            for (int i = 0; i < uses.length; i++) {
                uses[i] /= weight;
            }
            weight = 1;
        }
    }

    /** The slot that a panel is in, all of it; null if it must be read. */
    @Nullable Slot find(int panel) {
        var slot = kept[panel];
        return slot != null && slot.filled ? slot : null;
    }

    /** A slot to read a panel into, pinned; null where there is none until another is released. */
    @Nullable Slot take(int panel) {
        Slot slot;
        boolean keeps = true;
        if (free.size() + ahead > passing() && !free.isEmpty()) {
            slot = free.pop();
        } else {
            slot = leastUsed(uses[expertOf[panel]]);
            if (slot == null) {
                slot = free.poll();
                keeps = false;
            }
        }
        if (slot == null) {
            return null;
        }
        forget(slot);
        slot.panel = panel;
        slot.kept = keeps;
        slot.pins = 1;
        if (keeps) {
            kept[panel] = slot;
        }
        return slot;
    }

    /**
     * A slot to read a panel into that nobody has asked for yet, pinned; null where there is none. It takes no memory
     * from anything else.
     */
    @Nullable Slot takeAhead(int panel) {
        if (ahead == passing() - PASSING || free.size() <= PASSING) {
            return null;
        }
        var slot = free.pop();
        slot.panel = panel;
        slot.pins = 1;
        ahead++;
        return slot;
    }

    /** The panel in a slot of {@link #takeAhead} was asked for. */
    void adopt(Slot slot) {
        ahead--;
        boolean keeps = free.size() + ahead >= passing();
        if (!keeps) {
            var least = leastUsed(uses[expertOf[slot.panel]]);
            if (least != null) {
                forget(least);
                free.push(least);
                keeps = true;
            }
        }
        slot.kept = keeps;
        if (keeps) {
            kept[slot.panel] = slot;
        }
    }

    /** Nobody wants the panel in a slot of {@link #takeAhead}, and nobody reads it any more. */
    void dropAhead(Slot slot) {
        ahead--;
        slot.pins = 0;
        forget(slot);
        free.push(slot);
    }

    /** A user of the slot is done with it, or reading it was given up. */
    void release(Slot slot) {
        if (!attached) {
            return; // it was taken back from a user that had not given it up
        }
        slot.pins--;
        if (slot.pins == 0 && (!slot.kept || !slot.filled)) {
            forget(slot);
            free.push(slot);
        }
    }

    MemorySegment window(Slot slot) {
        return slot.block.memory();
    }
}
