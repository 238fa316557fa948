package dev.lamina.internal.stream;

import java.lang.foreign.MemorySegment;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * A panel that was read: valid from {@link Streamer#next} until {@link #release} or the end of the streamer. Any thread
 * may use and release it. One that is kept elsewhere has no memory.
 */
public final class Panel {
    private final Streamer streamer;
    private final int index;
    private final @Nullable MemorySegment memory;

    // The rest is guarded by the lock of the streamer.
    final long position; // in the endless schedule
    final Extent extent;
    final DataFile file;
    final long windowStart;
    final long windowEnd;
    private final @Nullable MemorySegment window; // file bytes [windowStart, windowEnd): a slot, or memory for good
    final boolean resident;
    long claimed; // file offset up to which it was asked of readers
    int reading; // requests under way
    long wantedBytes; // of the extent, that came from disk
    long diskBytes; // of the extent, that came from disk since it was handed out the last time
    final ExpertCache.@Nullable Slot slot; // of an expert; null for panels of the cycle
    final @Nullable Extent tail; // what follows in memory, and lies elsewhere; read when all before it is there
    final @Nullable DataFile tailFile;
    long tailClaimed; // file offset up to which the tail was asked of readers
    boolean dropped; // a part of it will not be read any more
    boolean predicted; // of an expert, and begun before anybody asked for it
    boolean unwanted; // predicted, and nobody asks for it
    boolean released;

    /** A panel to be read into a window. */
    Panel(Streamer streamer, int index, long position, Extent extent, DataFile file,
            @Nullable MemorySegment window, boolean resident) {
        this.streamer = streamer;
        this.index = index;
        this.position = position;
        this.extent = extent;
        this.file = file;
        this.windowStart = extent.windowStart(file.alignment());
        this.windowEnd = extent.windowEnd(file.alignment());
        this.window = window;
        this.resident = resident;
        this.memory = window == null ? null : window.asSlice(extent.offset() - windowStart, extent.bytes());
        this.claimed = windowStart;
        this.slot = null;
        this.tail = null;
        this.tailFile = null;
    }

    /**
     * A panel of an expert, to be read into a slot unless it is there.
     *
     * @param index its number, after those of the cycle
     */
    Panel(Streamer streamer, int index, List<Extent> extents, List<DataFile> files, MemorySegment window,
            ExpertCache.Slot slot) {
        this.streamer = streamer;
        this.index = index;
        this.position = -1;
        this.extent = extents.getFirst();
        this.file = files.get(extent.file());
        this.windowStart = extent.windowStart(file.alignment());
        this.windowEnd = extent.windowEnd(file.alignment());
        this.window = window;
        this.resident = false;
        this.memory = window.asSlice(extent.offset() - windowStart, ExpertCache.memoryBytes(extents));
        this.slot = slot;
        this.tail = extents.size() > 1 ? extents.getLast() : null;
        this.tailFile = tail == null ? null : files.get(tail.file());
        this.claimed = slot.filled ? windowEnd : windowStart;
        this.tailClaimed = tail == null ? 0 : slot.filled ? tail.end() : tail.offset();
    }

    /** What it is read into. */
    MemorySegment window() {
        return requireMemory(window);
    }

    private MemorySegment requireMemory(@Nullable MemorySegment segment) {
        if (segment == null) {
            throw new IllegalStateException("panel " + index + " is kept elsewhere");
        }
        return segment;
    }

    /** Whether all of it but the tail was asked of the readers. */
    boolean isClaimed() {
        return claimed == windowEnd;
    }

    /** Whether the tail can be read, and was not wholly asked of the readers. */
    boolean tailIsDue() {
        return tail != null && isClaimed() && (reading == 0 || tailClaimed > tail.offset()) && !dropped
                && tailClaimed < tail.end();
    }

    /** Whether all of it is in memory. */
    boolean isComplete() {
        return isClaimed() && reading == 0 && !dropped && (tail == null || tailClaimed == tail.end());
    }

    /** Where bytes of the tail go, from this file offset on. */
    MemorySegment tailMemory(long from) {
        var target = requireMemory(memory);
        return target.asSlice(target.byteSize() - (tail.end() - from));
    }

    /** How many bytes of [from, to) are the panel's own. */
    long wanted(long from, long to) {
        return Math.max(0, Math.min(to, extent.end()) - Math.max(from, extent.offset()));
    }

    /** How many of its bytes were read for this sweep; none where it was in memory. */
    public long diskBytes() {
        return diskBytes;
    }

    /** Its place in the cycle; for panels of experts their number, counted on from there. */
    public int index() {
        return index;
    }

    /**
     * Its bytes, exactly.
     *
     * @throws IllegalStateException it was released, or it is kept elsewhere, or the streamer is closed
     */
    public MemorySegment memory() {
        streamer.checkHeld(this);
        return requireMemory(memory);
    }

    /** Whether its bytes are here, and not kept elsewhere. */
    public boolean isHere() {
        return memory != null;
    }

    /**
     * Notes that a copy of it is kept elsewhere from now on: it is not read again.
     *
     * @throws IllegalStateException it is not one of those that are to be kept elsewhere, or is already, or was released
     */
    public void keptElsewhere() {
        streamer.keptElsewhere(this);
    }

    /**
     * Gives its memory back for the next read. If it was to be kept elsewhere and was not, {@link Streamer#restart} comes
     * next: reading may be past it.
     *
     * @throws IllegalStateException it was released before
     */
    public void release() {
        streamer.release(this);
    }
}
