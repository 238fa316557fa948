package dev.lamina.internal.stream;

import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.DeviceFile;
import dev.lamina.internal.runtime.Queue;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * Brings pieces of files to their places, in memory of the host or of a device: straight where it can, through one of
 * two page-locked slots otherwise, so that a piece is read while the one before is copied. Used by one thread.
 */
final class PieceReader implements AutoCloseable {
    /**
     * A range of a file and its place.
     *
     * @param file what is read
     * @param straight reads into device memory; null: it is reached through a slot
     * @param from the first byte in the file
     * @param to memory for the bytes, of their number
     * @param onDevice whether that is memory that the processor cannot write
     * @param ended hears when the piece is there, or why it is not
     */
    record Piece(DataFile file, @Nullable DeviceFile straight, long from, MemorySegment to, boolean onDevice,
            Consumer<@Nullable Throwable> ended) {
        long end() {
            return from + to.byteSize();
        }
    }

    private static final class Slot {
        @Nullable HostBlock block;
        @Nullable Piece copying; // out of the slot
        long ticket; // of that copy
    }

    private final Device device;
    private final int slotBytes;
    private final Slot[] slots = {new Slot(), new Slot()};
    private final DataFile.Tally tally = new DataFile.Tally();
    private @Nullable Queue queue;
    private int next; // slot

    /**
     * Makes a reader.
     *
     * @param slotBytes most bytes of a piece, which lies between two multiples of them in its file
     */
    PieceReader(Device device, int slotBytes) {
        this.device = device;
        this.slotBytes = slotBytes;
    }

    /** Reads a piece; it may end as late as in {@link #finish}. */
    void read(Piece piece) {
        try {
            if (piece.straight != null) {
                readStraight(piece.straight, piece);
            } else if (!piece.onDevice && fits(piece)) {
                piece.file.read(piece.from, piece.end(), piece.to, 0, MemorySegment.NULL, tally);
            } else {
                Slot slot = slots[next];
                finish(slot);
                next = 1 - next;
                if (begin(slot, piece)) {
                    slot.copying = piece;
                    return;
                }
            }
        } catch (Throwable e) {
            piece.ended.accept(e);
            return;
        }
        piece.ended.accept(null);
    }

    private static void readStraight(DeviceFile file, Piece piece) throws IOException {
        long bytes = piece.to.byteSize();
        long done = 0;
        while (done < bytes) {
            int n = file.read(piece.to.asSlice(done), piece.from + done);
            if (n <= 0) {
                throw new IOException(piece.file.path() + ": the file ends at offset " + (piece.from + done)
                        + ", it had " + piece.file.size() + " bytes when it was opened: something truncated it");
            }
            done += n;
        }
    }

    /** Whether a piece may be read to its place as it is. */
    private static boolean fits(Piece piece) {
        int alignment = piece.file.alignment();
        return piece.from % alignment == 0 && piece.end() % alignment == 0 && piece.to.address() % alignment == 0;
    }

    /** Reads a piece into a slot, and brings it to its place, or begins to: then it returns true. */
    private boolean begin(Slot slot, Piece piece) throws IOException {
        int alignment = piece.file.alignment();
        long start = piece.from - piece.from % alignment;
        long end = HostBlock.roundUp(piece.end(), alignment);
        MemorySegment memory = memory(slot, alignment);
        piece.file.read(start, end, memory, 0, MemorySegment.NULL, tally);
        MemorySegment there = memory.asSlice(piece.from - start, piece.to.byteSize());
        if (!piece.onDevice) {
            piece.to.copyFrom(there);
            return false;
        }
        if (queue == null) {
            queue = device.openQueue();
        }
        slot.ticket = queue.copyToDevice(piece.to, there);
        return true;
    }

    private MemorySegment memory(Slot slot, int alignment) {
        if (slot.block != null && slot.block.memory().address() % alignment != 0) {
            HostBlock old = slot.block;
            slot.block = null;
            old.close();
        }
        if (slot.block == null) {
            slot.block = HostBlock.allocate(device, slotBytes, alignment);
        }
        return slot.block.memory();
    }

    /** Waits for what is being copied. */
    void finish() {
        finish(slots[next]);
        finish(slots[1 - next]);
    }

    /** Whether anything is being copied. */
    boolean copying() {
        return slots[0].copying != null || slots[1].copying != null;
    }

    private void finish(Slot slot) {
        Piece piece = slot.copying;
        if (piece == null || queue == null) {
            return;
        }
        slot.copying = null;
        Throwable failure = null;
        try {
            queue.await(slot.ticket);
        } catch (Throwable e) {
            failure = e;
        }
        piece.ended.accept(failure);
    }

    /** Frees the slots; nothing is being copied. */
    @Override
    public void close() {
        try (HostBlock _ = slots[0].block; HostBlock _ = slots[1].block; Queue _ = queue) {
            queue = null;
        }
    }
}
