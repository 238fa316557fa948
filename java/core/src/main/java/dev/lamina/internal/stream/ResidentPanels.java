package dev.lamina.internal.stream;

import dev.lamina.internal.runtime.HostMemory;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Comparator;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Memory for good for chosen panels of a cycle. The readers of a {@link Streamer} fill it on their first pass, after
 * that these panels are not read again; a later streamer over the same files and cycle goes on with what is there.
 * Others are kept elsewhere, by whoever consumes panels: these are read once too, through the ring, and are not here.
 * Memory is the host's, or a device's where panels are read straight into that; the ring of the streamer is of the same.
 *
 * <p>While a streamer has it, it belongs to that streamer: {@link #bytes} may be called at any time, everything else
 * only before and after, by one thread at a time.
 */
public final class ResidentPanels implements AutoCloseable {
    private enum State { EMPTY, FILLING, FILLED }

    private static final class Entry {
        final @Nullable HostBlock block; // null: kept elsewhere
        State state = State.EMPTY;
        long unreportedBytes; // read from disk, and not yet counted as weights of a consumed panel

        Entry(@Nullable HostBlock block) {
            this.block = block;
        }
    }

    private final List<DataFile> files;
    private final List<Extent> cycle;
    private final HostMemory memory;
    private final boolean onDevice;
    private final @Nullable Entry[] entries; // by panel index
    private final int[] byOffset; // panel indexes, sorted by file and offset
    private volatile long bytes;
    private volatile boolean attached;
    private boolean closed;

    /**
     * Allocates memory for the chosen panels.
     *
     * @param files the files that the cycle names
     * @param cycle the panels in schedule order
     * @param chosen indexes into the cycle; none is kept elsewhere
     * @param memory where to allocate
     */
    public ResidentPanels(List<DataFile> files, List<Extent> cycle, BitSet chosen, HostMemory memory) {
        this(files, cycle, chosen, memory, false);
    }

    /** The same, in the memory of the device on which the files are open, see {@link DataFile#openOn}. */
    public static ResidentPanels onDevice(List<DataFile> files, List<Extent> cycle, BitSet chosen,
            HostMemory ofDevice) {
        return new ResidentPanels(files, cycle, chosen, ofDevice, true);
    }

    private ResidentPanels(List<DataFile> files, List<Extent> cycle, BitSet chosen, HostMemory memory,
            boolean onDevice) {
        this.onDevice = onDevice;
        this.files = List.copyOf(files);
        this.cycle = List.copyOf(cycle);
        this.memory = memory;
        this.entries = new Entry[cycle.size()];
        var order = new ArrayList<Integer>();
        for (int i = 0; i < cycle.size(); i++) {
            order.add(i);
        }
        order.sort(Comparator.<Integer>comparingInt(i -> cycle.get(i).file())
                .thenComparingLong(i -> cycle.get(i).offset()));
        this.byOffset = order.stream().mapToInt(i -> i).toArray();
        choose(chosen, new BitSet());
    }

    /** Bytes allocated. */
    public long bytes() {
        return bytes;
    }

    /**
     * Changes the choice: evicts what is not in it, allocates what is new in it, and keeps the rest as it is.
     *
     * @param chosen panels to hold here
     * @param elsewhere other panels, which are kept elsewhere
     * @throws IllegalStateException a streamer has it, or it is closed
     */
    public void choose(BitSet chosen, BitSet elsewhere) {
        checkFree();
        if (Math.max(chosen.length(), elsewhere.length()) > entries.length || chosen.intersects(elsewhere)) {
            throw new IllegalArgumentException("panels " + chosen + " and " + elsewhere + " of " + entries.length);
        }
        for (int i = 0; i < entries.length; i++) {
            Entry entry = entries[i];
            if (entry != null && !(entry.block == null ? elsewhere : chosen).get(i)) {
                evict(i);
            }
        }
        elsewhere.stream().filter(i -> entries[i] == null).forEach(i -> entries[i] = new Entry(null));
        var added = new BitSet();
        try {
            for (int i = chosen.nextSetBit(0); i >= 0; i = chosen.nextSetBit(i + 1)) {
                if (entries[i] == null) {
                    added.set(i);
                    int alignment = files.get(cycle.get(i).file()).alignment();
                    HostBlock block = HostBlock.allocate(memory, windowBytes(i), alignment);
                    entries[i] = new Entry(block);
                    bytes += HostBlock.footprint(windowBytes(i), alignment);
                }
            }
        } catch (Throwable e) {
            added.stream().forEach(this::evict);
            throw e;
        }
    }

    /**
     * Forgets the panels that are kept elsewhere, but for some.
     *
     * @throws IllegalStateException a streamer has it, or it is closed
     */
    public void forgetElsewhere(BitSet butFor) {
        for (int i = 0; i < entries.length; i++) {
            if (isElsewhere(i) && !butFor.get(i)) {
                evict(i);
            }
        }
    }

    /**
     * Frees or forgets one panel, which is streamed from then on; does nothing where it is not held.
     *
     * @throws IllegalStateException a streamer has it, or it is closed
     */
    public void evict(int index) {
        checkFree();
        Entry entry = entries[index];
        if (entry != null) {
            entries[index] = null;
            if (entry.block == null) {
                return;
            }
            bytes -= HostBlock.footprint(windowBytes(index), files.get(cycle.get(index).file()).alignment());
            entry.block.close();
        }
    }

    /**
     * Frees all of it.
     *
     * @throws IllegalStateException a streamer has it
     */
    @Override
    public void close() {
        if (!closed) {
            for (int i = 0; i < entries.length; i++) {
                evict(i);
            }
            closed = true;
        }
    }

    private void checkFree() {
        if (attached || closed) {
            throw new IllegalStateException(closed ? "the resident panels are closed" : "a streamer uses these panels");
        }
    }

    private long windowBytes(int index) {
        Extent extent = cycle.get(index);
        int alignment = files.get(extent.file()).alignment();
        return extent.windowEnd(alignment) - extent.windowStart(alignment);
    }

    /** Where panels are. */
    HostMemory memory() {
        return memory;
    }

    /** Whether that is memory of a device, which only the device can read. */
    boolean isOnDevice() {
        return onDevice;
    }

    // For the streamer, under its lock.

    void attach(List<DataFile> files, List<Extent> cycle) {
        checkFree();
        if (!this.files.equals(files) || !this.cycle.equals(cycle)) {
            throw new IllegalArgumentException("these resident panels belong to other files or another cycle");
        }
        attached = true;
    }

    /** Ends the use by a streamer; returns the bytes that it read for panels which it never handed out. */
    long detach() {
        attached = false;
        long unreported = 0;
        for (int i = 0; i < entries.length; i++) {
            Entry entry = entries[i];
            if (entry != null) {
                unreported += reportBytes(i);
                entry.state = entry.state == State.FILLED ? State.FILLED : State.EMPTY;
            }
        }
        return unreported;
    }

    /** The window of a panel that is held here, or null. */
    @Nullable MemorySegment window(int index) {
        Entry entry = entries[index];
        return entry == null || entry.block == null ? null : entry.block.memory();
    }

    /** Whether a panel is read once only: it is held here, or kept elsewhere. */
    boolean isChosen(int index) {
        return entries[index] != null;
    }

    /** Whether a panel is kept elsewhere, or is going to be. */
    boolean isElsewhere(int index) {
        Entry entry = entries[index];
        return entry != null && entry.block == null;
    }

    /** Whether no panel needs a slot. */
    boolean holdsAll() {
        return Arrays.stream(entries).allMatch(entry -> entry != null && entry.block != null);
    }

    boolean isFilled(int index) {
        Entry entry = entries[index];
        return entry != null && entry.state == State.FILLED;
    }

    /** Whether nobody has begun to read this chosen panel. */
    boolean isEmpty(int index) {
        Entry entry = entries[index];
        return entry != null && entry.state == State.EMPTY;
    }

    void beginFill(int index) {
        entry(index).state = State.FILLING;
    }

    void endFill(int index, long bytesRead) {
        Entry entry = entry(index);
        entry.state = State.FILLED;
        entry.unreportedBytes = bytesRead;
    }

    void dropFill(int index) {
        entry(index).state = State.EMPTY;
    }

    /** The bytes that filling this panel took, once. */
    long reportBytes(int index) {
        Entry entry = entry(index);
        long read = entry.unreportedBytes;
        entry.unreportedBytes = 0;
        return read;
    }

    /** Where these bytes of a file are in memory, or null when they are not in one filled panel. */
    @Nullable MemorySegment find(int file, long offset, long length) {
        int low = 0;
        int high = byOffset.length; // the first panel that starts after the offset
        while (low < high) {
            int middle = (low + high) >>> 1;
            Extent extent = cycle.get(byOffset[middle]);
            if (extent.file() < file || extent.file() == file && extent.offset() <= offset) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (low == 0) {
            return null;
        }
        int index = byOffset[low - 1];
        Extent extent = cycle.get(index);
        MemorySegment window = window(index);
        if (onDevice || window == null || !isFilled(index) || extent.file() != file || offset + length > extent.end()) {
            return null;
        }
        return window.asSlice(offset - extent.windowStart(files.get(file).alignment()), length);
    }

    private Entry entry(int index) {
        Entry entry = entries[index];
        if (entry == null) {
            throw new IllegalStateException("panel " + index + " is not resident");
        }
        return entry;
    }
}
