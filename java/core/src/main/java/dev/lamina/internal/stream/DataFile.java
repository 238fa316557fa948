package dev.lamina.internal.stream;

import com.sun.nio.file.ExtendedOpenOption;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * One file of a checkpoint, opened for reading. It may be shared by threads, but an interrupt of a thread that reads
 * closes it for all: only the threads of a {@link Streamer} read, and nobody interrupts those.
 *
 * <p>A file with checksums is verified in units of one MiB, each at its first read and before its bytes are handed
 * out.
 */
public final class DataFile implements AutoCloseable {
    /** Bytes that one checksum covers: file bytes [i * UNIT, (i + 1) * UNIT), the last one short. */
    public static final int UNIT = 1 << 20;

    private static final int MIN_ALIGNMENT = 4096;

    private final Path path;
    private final FileChannel channel;
    private final long size;
    private final int alignment;
    private final int @Nullable [] checksums;
    private final AtomicLongArray verified; // one bit a unit

    private DataFile(Path path, FileChannel channel, long size, int alignment, int @Nullable [] checksums) {
        this.path = path;
        this.channel = channel;
        this.size = size;
        this.alignment = alignment;
        this.checksums = checksums == null ? null : checksums.clone();
        this.verified = new AtomicLongArray(checksums == null ? 0 : Math.ceilDiv(checksums.length, Long.SIZE));
    }

    /**
     * Opens a file and finds out, with one small read, whether direct reads work.
     *
     * @param path a regular file
     * @param mode how to read; AUTO falls back to buffered reads where the file system refuses direct ones
     * @param checksums CRC32C of each {@link #UNIT} of the file, or null when there are none
     * @return the open file
     * @throws IOException the file cannot be opened or read, its size does not fit the checksums, or mode is DIRECT and
     *     the file system refuses
     */
    public static DataFile open(Path path, IoMode mode, int @Nullable [] checksums) throws IOException {
        BasicFileAttributes attributes = Files.readAttributes(path, BasicFileAttributes.class);
        if (!attributes.isRegularFile()) {
            throw new IOException(path + " is not a regular file");
        }
        long size = attributes.size();
        if (checksums != null && checksums.length != Math.ceilDiv(size, (long) UNIT)) {
            throw new IOException(path + " has " + size + " bytes, but checksums for " + checksums.length
                    + " MiB: it was truncated or replaced. Split the model again");
        }
        if (mode != IoMode.BUFFERED) {
            try {
                long block = Math.max(MIN_ALIGNMENT, Files.getFileStore(path).getBlockSize());
                if (block > UNIT || UNIT % block != 0) {
                    throw new IOException("its block size is " + block);
                }
                return open(path, size, (int) block, checksums);
            } catch (IOException | UnsupportedOperationException e) {
                if (mode == IoMode.DIRECT && Files.isReadable(path)) {
                    throw new IOException(path + ": the file system refuses direct reads (" + e.getMessage()
                            + "). Use --io auto or --io buffered", e);
                }
            }
        }
        return open(path, size, 1, checksums);
    }

    private static DataFile open(Path path, long size, int alignment, int @Nullable [] checksums) throws IOException {
        FileChannel channel = alignment > 1
                ? FileChannel.open(path, StandardOpenOption.READ, ExtendedOpenOption.DIRECT)
                : FileChannel.open(path, StandardOpenOption.READ);
        try (Arena arena = Arena.ofConfined()) {
            var file = new DataFile(path, channel, size, alignment, checksums);
            if (size > 0) {
                file.readPlain(0, alignment, arena.allocate(alignment, alignment), 0, new Tally());
            }
            return file;
        } catch (Throwable e) {
            channel.close();
            throw e;
        }
    }

    /** The path it was opened with. */
    public Path path() {
        return path;
    }

    /** Size in bytes when it was opened. */
    public long size() {
        return size;
    }

    /** Whether reads go past the page cache. */
    public boolean direct() {
        return alignment > 1;
    }

    /** What offsets, addresses and lengths of reads must be multiples of: 1 when reads are buffered. */
    public int alignment() {
        return alignment;
    }

    /** Whether there are checksums to verify it with. */
    public boolean hasChecksums() {
        return checksums != null;
    }

    /** Whether the bytes of this unit may be used without looking at their checksum. */
    boolean isVerified(long unit) {
        return checksums == null || (verified.get((int) (unit / Long.SIZE)) & 1L << unit) != 0;
    }

    /**
     * Reads file bytes [from, to), verified, to a place in memory; from, to and the place are aligned, and to may lie
     * past the end of the file by less than the alignment.
     *
     * @param scratch one {@link #UNIT}, or the whole file when that is less: for units of which only a part is wanted
     */
    void read(long from, long to, MemorySegment target, long at, MemorySegment scratch, Tally tally)
            throws IOException {
        long start = from;
        long end = to;
        long head = from / UNIT;
        if (!isVerified(head) && !covers(from, to, head)) {
            readUnit(head, scratch, tally);
            MemorySegment.copy(scratch, from - head * UNIT, target, at, Math.min(to, unitEnd(head)) - from);
            start = (head + 1) * UNIT;
        }
        long tail = (Math.min(to, size) - 1) / UNIT;
        if (start < end && !isVerified(tail) && !covers(start, end, tail)) {
            end = tail * UNIT;
            readUnit(tail, scratch, tally);
            MemorySegment.copy(scratch, 0, target, at + end - from, Math.min(to, size) - end);
        }
        if (start < end) {
            readPlain(start, end, target, at + start - from, tally);
            for (long unit = start / UNIT; unit <= (Math.min(end, size) - 1) / UNIT; unit++) {
                if (!isVerified(unit)) {
                    verify(unit, target, at + unit * UNIT - from, tally);
                }
            }
        }
    }

    /**
     * Reads file bytes [from, to), which lie in one unit, verified, somewhere into the scratch.
     *
     * @return the offset in the file of the first byte of the scratch
     */
    long readInto(MemorySegment scratch, long from, long to, Tally tally) throws IOException {
        long unit = from / UNIT;
        if (!isVerified(unit)) {
            readUnit(unit, scratch, tally);
            return unit * UNIT;
        }
        long start = from - from % alignment;
        readPlain(start, HostBlock.roundUp(to, alignment), scratch, 0, tally);
        return start;
    }

    private void readUnit(long unit, MemorySegment scratch, Tally tally) throws IOException {
        readPlain(unit * UNIT, HostBlock.roundUp(unitEnd(unit), alignment), scratch, 0, tally);
        verify(unit, scratch, 0, tally);
    }

    private void verify(long unit, MemorySegment memory, long at, Tally tally) throws IOException {
        long bytes = unitEnd(unit) - unit * UNIT;
        var crc = new CRC32C();
        crc.update(memory.asSlice(at, bytes).asByteBuffer());
        if (checksums != null && (int) crc.getValue() != checksums[(int) unit]) {
            throw new IOException(path + ": the MiB at offset " + unit * UNIT + " is damaged (its checksum differs)."
                    + " Run lamina inspect --verify to see the whole damage, or split the model again");
        }
        verified.accumulateAndGet((int) (unit / Long.SIZE), 1L << unit, (a, b) -> a | b);
        tally.verified += bytes;
    }

    private void readPlain(long from, long to, MemorySegment target, long at, Tally tally) throws IOException {
        long end = Math.min(to, size);
        long position = from;
        while (position < end) {
            int n;
            try {
                // The length stays aligned at the end of the file too; what is missing there comes back short.
                n = channel.read(target.asSlice(at + position - from, to - position).asByteBuffer(), position);
            } catch (IOException e) {
                throw new IOException(path + ": reading " + (to - position) + " bytes at offset " + position
                        + " failed: " + (e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage()), e);
            }
            long next = position + Math.max(n, 0);
            if (next < end) {
                next -= next % alignment;
                if (next <= position) {
                    throw new IOException(path + ": the file ends at offset " + (position + Math.max(n, 0))
                            + ", it had " + size + " bytes when it was opened: something truncated it");
                }
            }
            position = next;
        }
        tally.read += end - from;
    }

    private long unitEnd(long unit) {
        return Math.min((unit + 1) * UNIT, size);
    }

    private boolean covers(long from, long to, long unit) {
        return from <= unit * UNIT && to >= unitEnd(unit);
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }

    /** What the reads of one thread came to. */
    static final class Tally {
        long read; // bytes
        long verified; // bytes
    }
}
