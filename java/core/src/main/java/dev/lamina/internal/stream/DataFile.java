package dev.lamina.internal.stream;

import com.sun.nio.file.ExtendedOpenOption;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.DeviceFile;
import dev.lamina.internal.runtime.NativeFile;
import dev.lamina.internal.runtime.ReadRing;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.function.UnaryOperator;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * One file of a checkpoint, opened for reading. It may be shared by threads, but an interrupt of a thread that reads
 * with {@link IoMode#CHANNEL} closes it for all: only the threads of a {@link Streamer} read, and nobody interrupts
 * those.
 *
 * <p>A file with checksums is verified in units of one MiB, each at its first read and before its bytes are handed
 * out. A file without is read as it is.
 */
public final class DataFile implements AutoCloseable {
    /** Bytes that one checksum covers: file bytes [i * UNIT, (i + 1) * UNIT), the last one short. */
    public static final int UNIT = 1 << 20;

    private static final int MIN_ALIGNMENT = 4096;

    /** After so many bytes {@link #didRead} looks at the file again; to do so at every panel would cost much. */
    private static final long UNCHECKED_BYTES = 64L << 20;

    /** What the system says where a file system has no direct reads. */
    private static final String INVALID_ARGUMENT = "Invalid argument";

    /** More than the header of any file of a model that is known, and what is read ahead behind it. */
    private static final long MOST_HEADER_BYTES = 8L << 20;

    /** What reads the bytes. */
    interface Source {
        /** Reads bytes from a position on into a segment, some of them; 0 or less at the end of the file. */
        int read(MemorySegment to, long position) throws IOException;

        void close() throws IOException;
    }

    private record Channel(FileChannel channel) implements Source {
        @Override
        public int read(MemorySegment to, long position) throws IOException {
            return channel.read(to.asByteBuffer(), position);
        }

        @Override
        public void close() throws IOException {
            channel.close();
        }
    }

    private record Native(NativeFile file, boolean direct) implements Source {
        @Override
        public int read(MemorySegment to, long position) throws IOException {
            int bytes = file.read(to, position);
            if (!direct) { // whole pages, or the ones at the borders would stay
                long start = position - position % MIN_ALIGNMENT;
                file.forget(start, HostBlock.roundUp(position + Math.max(1, bytes), MIN_ALIGNMENT) - start);
            }
            return bytes;
        }

        @Override
        public void close() throws IOException {
            try {
                if (!direct) { // what the system read ahead
                    file.forget(0, 0);
                }
            } finally {
                file.close();
            }
        }
    }

    /** What tells a file from another one that took its place, or from itself after it was written to. */
    private record Identity(@Nullable Object key, long size, FileTime modified) {
        static Identity of(BasicFileAttributes attributes) {
            return new Identity(attributes.fileKey(), attributes.size(), attributes.lastModifiedTime());
        }
    }

    private final Path path;
    private final Source source;
    private final IoMode mode;
    private final int drive;
    private final Identity identity;
    private final long size;
    private final int alignment;
    private final int @Nullable [] checksums;
    private final AtomicLongArray verified; // one bit a unit
    private final AtomicLong unchecked = new AtomicLong(); // bytes read since the file was looked at
    private volatile long lastRead; // offset
    private @Nullable IOException changed; // guarded by this: what was found, for ever
    private volatile @Nullable DeviceFile onDevice;

    private DataFile(Path path, Source source, IoMode mode, int drive, Identity identity, int alignment,
            int @Nullable [] checksums) {
        this.path = path;
        this.source = source;
        this.mode = mode;
        this.drive = drive;
        this.identity = identity;
        this.size = identity.size;
        this.alignment = alignment;
        this.checksums = checksums == null ? null : checksums.clone();
        this.verified = new AtomicLongArray(checksums == null ? 0 : Math.ceilDiv(checksums.length, Long.SIZE));
    }

    /**
     * Opens a file and makes sure, with one small read, that it can be read in this way.
     *
     * @param path a regular file
     * @param mode how to read
     * @param drive number of its drive, from 0: a {@link Streamer} reads each drive with threads of its own
     * @param checksums CRC32C of each {@link #UNIT} of the file, or null when there are none
     * @return the open file
     * @throws NoDirectReadsException the file system refuses direct reads
     * @throws IOException the file cannot be opened or read, or its size does not fit the checksums
     */
    public static DataFile open(Path path, IoMode mode, int drive, int @Nullable [] checksums) throws IOException {
        return open(path, mode, drive, checksums, source -> source);
    }

    /** {@link #open} with something between the file and its reader, for tests of faults. */
    static DataFile open(Path path, IoMode mode, int drive, int @Nullable [] checksums, UnaryOperator<Source> wrapper)
            throws IOException {
        BasicFileAttributes attributes = Files.readAttributes(path, BasicFileAttributes.class);
        if (!attributes.isRegularFile()) {
            throw new IOException(path + " is not a regular file");
        }
        long size = attributes.size();
        if (checksums != null && checksums.length != Math.ceilDiv(size, (long) UNIT)) {
            throw new IOException(path + " has " + size + " bytes, but checksums for " + checksums.length
                    + " MiB: it was truncated or replaced. Split the model again");
        }
        Source source = null;
        String doing = "opening it";
        try (Arena arena = Arena.ofConfined()) {
            int alignment = mode.direct() ? alignment(path) : 1;
            source = wrapper.apply(source(path, mode));
            doing = "reading " + alignment + " bytes at offset 0";
            if (size > 0) {
                source.read(arena.allocate(alignment, alignment), 0);
            }
            doing = "dropping its header from the page cache";
            forgetHeader(path);
            return new DataFile(path, source, mode, drive, Identity.of(attributes), alignment, checksums);
        } catch (IOException | UnsupportedOperationException e) {
            close(source, e);
            throw explain(path, mode, doing, e);
        } catch (Throwable e) {
            close(source, e);
            throw e;
        }
    }

    private static void close(@Nullable Source source, Throwable failure) {
        try {
            if (source != null) {
                source.close();
            }
        } catch (IOException | RuntimeException e) {
            failure.addSuppressed(e);
        }
    }

    /** Only what the file system says of direct reads as such is told from all else that may go wrong. */
    private static IOException explain(Path path, IoMode mode, String doing, Exception e) {
        String reason = e instanceof FileSystemException named && named.getReason() != null ? named.getReason()
                : e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
        if (mode.direct() && (e instanceof UnsupportedOperationException || reason.contains(INVALID_ARGUMENT))) {
            return new NoDirectReadsException(path, reason, e);
        }
        return e instanceof FileSystemException named ? named
                : new IOException(path + ": " + doing + " failed: " + reason, e);
    }

    /** Its header was read through the page cache: nothing of it has to stay there, nor what the system read ahead. */
    private static void forgetHeader(Path path) throws IOException {
        try (NativeFile file = NativeFile.open(path, false)) {
            file.forget(0, MOST_HEADER_BYTES);
        }
    }

    private static int alignment(Path path) throws IOException {
        long block = Math.max(MIN_ALIGNMENT, Files.getFileStore(path).getBlockSize());
        if (block > UNIT || UNIT % block != 0) {
            throw new UnsupportedOperationException("its block size is " + block);
        }
        return (int) block;
    }

    private static Source source(Path path, IoMode mode) throws IOException {
        return mode == IoMode.CHANNEL
                ? new Channel(FileChannel.open(path, StandardOpenOption.READ, ExtendedOpenOption.DIRECT))
                : new Native(NativeFile.open(path, mode.direct()), mode.direct());
    }

    /** The path it was opened with. */
    public Path path() {
        return path;
    }

    /** Size in bytes when it was opened. */
    public long size() {
        return size;
    }

    /** How it is read. */
    public IoMode mode() {
        return mode;
    }

    /** Number of its drive. */
    public int drive() {
        return drive;
    }

    /** Whether reads go past the page cache. */
    public boolean direct() {
        return mode.direct();
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
            verifyUnits(start, end, target, at + start - from, tally);
        }
    }

    /**
     * Lets {@link #readOnDevice} read into memory of a device, which is closed later than this.
     *
     * @throws UnsupportedOperationException there is no cuFile here, or it cannot read this file; the message says why
     */
    public void openOn(Device device) throws IOException {
        onDevice = device.openFile(path);
    }

    /**
     * Reads file bytes [from, to) to a place in the memory of the device, of which nothing else makes use. Nobody can
     * look at them there: what is to be verified is read into the scratch first, and so twice.
     */
    void readOnDevice(long from, long to, MemorySegment target, long at, MemorySegment scratch, Tally tally)
            throws IOException {
        DeviceFile file = onDevice;
        if (file == null) {
            throw new IllegalStateException(path + " is not open on a device");
        }
        long end = Math.min(to, size);
        for (long unit = from / UNIT; unit <= (end - 1) / UNIT; unit++) {
            if (!isVerified(unit)) {
                readUnit(unit, scratch, tally);
            }
        }
        for (long position = from; position < end;) {
            int n = file.read(target.asSlice(at + position - from, end - position), position);
            if (n <= 0) {
                throw new IOException(path + ": the file ends at offset " + position + ", it had " + size
                        + " bytes when it was opened: something truncated it");
            }
            position += n;
        }
        tally.read += end - from;
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

    /**
     * Whether {@link #submit} and {@link #complete} can do what {@link #read} of these bytes does: it is one read of
     * the file, for no unit that is to be verified lies in it by a part only.
     */
    boolean canSubmit(long from, long to) {
        if (mode != IoMode.URING || !(source instanceof Native)) {
            return false;
        }
        long head = from / UNIT;
        long tail = (Math.min(to, size) - 1) / UNIT;
        return (isVerified(head) || covers(from, to, head)) && (isVerified(tail) || covers(from, to, tail));
    }

    /** Begins to read file bytes [from, to) to a place in memory, as {@link #read} has them. */
    void submit(ReadRing ring, long from, long to, MemorySegment target, long at, long tag) throws IOException {
        if (!(source instanceof Native(NativeFile file, boolean direct))) {
            throw new IllegalStateException(path + " is not read with " + IoMode.URING);
        }
        ring.submit(file, target.asSlice(at, to - from), from, tag);
    }

    /**
     * Ends what {@link #submit} began: reads what is missing, and verifies.
     *
     * @param bytes what the ring has read; -1: it failed
     */
    void complete(long from, long to, MemorySegment target, long at, int bytes, Tally tally) throws IOException {
        long end = Math.min(to, size);
        long there = from + Math.max(0, bytes);
        there = there >= end ? end : there - there % alignment;
        tally.read += there - from;
        if (there < end) { // reading again tells why, or brings the rest
            readPlain(there, to, target, at + there - from, tally);
        }
        verifyUnits(from, to, target, at, tally);
    }

    private void verifyUnits(long from, long to, MemorySegment target, long at, Tally tally) throws IOException {
        for (long unit = from / UNIT; unit <= (Math.min(to, size) - 1) / UNIT; unit++) {
            if (!isVerified(unit)) {
                verify(unit, target, at + unit * UNIT - from, tally);
            }
        }
    }

    /**
     * Notes that bytes were read, and every so many of them makes sure that the file is what it was.
     *
     * @param offset where they were read
     * @throws IOException the file was written to, replaced or removed
     */
    void didRead(long offset, long bytes) throws IOException {
        lastRead = offset;
        if (unchecked.addAndGet(bytes) >= UNCHECKED_BYTES) {
            checkUnchanged();
        }
    }

    /**
     * Makes sure that the file still is the one that was opened, if anything was read since that was last done.
     *
     * @throws IOException it was written to, replaced or removed, now or when this was called before: what was read
     *     then stays wrong, whatever became of the file
     */
    synchronized void checkUnchanged() throws IOException {
        if (changed != null) {
            throw changed;
        }
        long bytes = unchecked.get();
        if (bytes == 0) {
            return;
        }
        String what;
        try {
            Identity now = Identity.of(Files.readAttributes(path, BasicFileAttributes.class));
            if (now.equals(identity)) {
                unchecked.addAndGet(-bytes); // only now: who comes meanwhile waits for the answer
                return;
            }
            what = now.size != identity.size
                    ? "its size changed from " + identity.size + " to " + now.size + " bytes"
                    : "it was written to or replaced";
        } catch (NoSuchFileException e) {
            what = "it, or its folder, is gone";
        } catch (IOException e) {
            what = "it cannot be looked at any more (" + e.getMessage() + ")";
        }
        changed = new IOException(path + ": " + what + ", noticed after reading at offset " + lastRead
                + ". Put the file back, and open it again");
        throw changed;
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
                n = source.read(target.asSlice(at + position - from, to - position), position);
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
        DeviceFile file = onDevice;
        try {
            if (file != null) {
                file.close();
            }
        } finally {
            source.close();
        }
    }

    /** What the reads of one thread came to. */
    static final class Tally {
        long read; // bytes
        long verified; // bytes
    }
}
