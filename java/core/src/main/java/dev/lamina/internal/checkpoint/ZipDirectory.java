package dev.lamina.internal.checkpoint;

import dev.lamina.LaminaException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Where the entries of a zip file lie (format: PKWARE's APPNOTE.TXT, zip64 included). Java's own reader does not tell.
 * Only entries that are stored as they are can be read in place: others are refused, as is all that PyTorch does not
 * write, such as comments and several disks.
 */
final class ZipDirectory {
    /** More entries than any known file has; a hostile directory could otherwise fill the memory with them. */
    static final int MAX_ENTRIES = 1 << 18;

    private static final long MAX_DIRECTORY_BYTES = 64L << 20;
    private static final int MAX_NAME_BYTES = 1024;

    private static final int END = 0x06054b50;
    private static final int END_BYTES = 22;
    private static final int LOCATOR = 0x07064b50;
    private static final int LOCATOR_BYTES = 20;
    private static final int END64 = 0x06064b50;
    private static final int END64_BYTES = 56;
    private static final int CENTRAL = 0x02014b50;
    private static final int CENTRAL_BYTES = 46;
    private static final int LOCAL = 0x04034b50;
    private static final int LOCAL_BYTES = 30;

    /** The sizes of an entry follow its content, instead of being in its local header. */
    private static final int FLAG_DESCRIPTOR = 1 << 3;
    private static final int FLAG_UTF8 = 1 << 11;
    private static final int FLAGS_ENCRYPTED = 1 | 1 << 6 | 1 << 13;
    private static final int EXTRA_ZIP64 = 1;
    private static final long NONE16 = 0xffffL;
    /** In place of a number that is in the zip64 field of the entry. */
    private static final long NONE32 = 0xffffffffL;

    private final Path file;
    private final FileChannel channel;
    private final long fileBytes;
    private final Map<String, StoredEntry> entries = new LinkedHashMap<>();

    /** What the directory says of an entry; {@code start} is that of its local header. */
    private record Central(String name, byte[] rawName, int flags, int method, int crc32, long bytes, long start) {}

    /** The bytes of the file that an entry takes, its local header included. */
    private record Span(String name, long start, long end) {}

    private ZipDirectory(Path file, FileChannel channel) throws IOException {
        this.file = file;
        this.channel = channel;
        this.fileBytes = channel.size();
    }

    /**
     * Reads and checks a directory and the local headers of its entries. Entries do not overlap.
     *
     * @return the entries by name, in the order of the directory
     * @throws LaminaException if it is not sound, or an entry is compressed or encrypted
     * @throws IOException if it cannot be read
     */
    static Map<String, StoredEntry> read(Path file, FileChannel channel) throws IOException {
        ZipDirectory directory = new ZipDirectory(file, channel);
        directory.readEntries();
        return directory.entries;
    }

    private void readEntries() throws IOException {
        if (fileBytes < END_BYTES) {
            throw problem("has only " + fileBytes + " bytes, too few for a zip file");
        }
        long end = fileBytes - END_BYTES;
        ByteBuffer record = read(end, END_BYTES);
        if (record.getInt() != END) {
            throw problem("does not end with a zip directory: it is truncated or no zip file");
        }
        boolean disks = record.getShort() != 0 | record.getShort() != 0;
        long countHere = record.getShort() & NONE16;
        long count = record.getShort() & NONE16;
        long bytes = record.getInt() & NONE32;
        long offset = record.getInt() & NONE32;
        if (disks || countHere != count || record.getShort() != 0) {
            throw problem("has several disks or a comment, which PyTorch does not write");
        }
        if (end >= LOCATOR_BYTES) {
            ByteBuffer locator = read(end - LOCATOR_BYTES, LOCATOR_BYTES);
            if (locator.getInt() == LOCATOR) {
                ByteBuffer wide = readEnd64(locator, end - LOCATOR_BYTES);
                end -= LOCATOR_BYTES + END64_BYTES;
                count = widen(count, NONE16, wide.getLong());
                bytes = widen(bytes, NONE32, wide.getLong());
                offset = widen(offset, NONE32, wide.getLong());
            }
        }
        if (offset < 0 || bytes < 0 || offset > end || bytes != end - offset) {
            throw problem("has a zip directory that is not where it says");
        }
        if (bytes > MAX_DIRECTORY_BYTES || count < 0 || count > MAX_ENTRIES) {
            throw problem("has a zip directory of " + Long.toUnsignedString(count) + " entries and " + bytes
                    + " bytes (the limits are " + MAX_ENTRIES + " and " + MAX_DIRECTORY_BYTES + ")");
        }
        ByteBuffer directory = read(offset, (int) bytes);
        List<Span> spans = new ArrayList<>();
        for (long i = 0; i < count; i++) {
            spans.add(locate(readCentral(directory)));
        }
        if (directory.hasRemaining()) {
            throw problem("has more in its zip directory than the " + count + " entries that it counts");
        }
        checkSpans(spans, offset);
    }

    /** Returns the zip64 record from its number of entries on. */
    private ByteBuffer readEnd64(ByteBuffer locator, long position) throws IOException {
        int disk = locator.getInt();
        long at = locator.getLong();
        // the format lets the record be longer, but no version of it is
        if (disk != 0 || locator.getInt() != 1 || at < 0 || at != position - END64_BYTES) {
            throw problem("has a zip64 directory that is not where it says");
        }
        ByteBuffer record = read(at, END64_BYTES);
        boolean known = record.getInt() == END64 & record.getLong() == END64_BYTES - 12;
        record.getInt(); // versions
        boolean oneDisk = record.getInt() == 0 & record.getInt() == 0;
        if (!known || !oneDisk || record.getLong() != record.getLong(record.position())) {
            throw problem("has a zip64 directory that is damaged");
        }
        return record;
    }

    private long widen(long narrow, long none, long wide) {
        if (narrow != none && narrow != wide) {
            throw problem("has two zip directories that contradict each other");
        }
        return wide;
    }

    private Central readCentral(ByteBuffer directory) {
        if (directory.remaining() < CENTRAL_BYTES || directory.getInt() != CENTRAL) {
            throw problem("has a zip directory that is damaged");
        }
        directory.getInt(); // versions
        int flags = directory.getShort() & 0xffff;
        int method = directory.getShort() & 0xffff;
        directory.getInt(); // time and date
        int crc32 = directory.getInt();
        long storedBytes = directory.getInt() & NONE32;
        long bytes = directory.getInt() & NONE32;
        int nameBytes = directory.getShort() & 0xffff;
        int extraBytes = directory.getShort() & 0xffff;
        int commentBytes = directory.getShort() & 0xffff;
        int disk = directory.getShort() & 0xffff;
        directory.getShort(); // attributes
        directory.getInt();
        long start = directory.getInt() & NONE32;
        if (nameBytes + extraBytes + commentBytes > directory.remaining() || disk != 0) {
            throw problem("has a zip directory that is damaged");
        }
        if (nameBytes > MAX_NAME_BYTES) {
            throw problem("has an entry with a name of " + nameBytes + " bytes (the limit is " + MAX_NAME_BYTES + ")");
        }
        byte[] rawName = new byte[nameBytes];
        directory.get(rawName);
        String name = decode(rawName);
        ByteBuffer extra = zip64(directory.slice(directory.position(), extraBytes), name);
        directory.position(directory.position() + extraBytes + commentBytes);
        bytes = wide(bytes, extra, name);
        storedBytes = wide(storedBytes, extra, name);
        start = wide(start, extra, name);
        checkStored(name, flags, method);
        if (bytes != storedBytes) {
            throw problem(name, "has " + bytes + " bytes in " + storedBytes);
        }
        return new Central(name, rawName, flags, method, crc32, bytes, start);
    }

    /** Finds the content of an entry behind its local header, which must agree with the directory. */
    private Span locate(Central central) throws IOException {
        String name = central.name();
        int nameBytes = central.rawName().length;
        if (central.start() > fileBytes - LOCAL_BYTES - nameBytes) {
            throw problem(name, "begins at byte " + central.start() + ", behind the end of the file");
        }
        ByteBuffer local = read(central.start(), LOCAL_BYTES + nameBytes);
        if (local.getInt() != LOCAL) {
            throw problem(name, "has no local header");
        }
        local.getShort(); // version
        boolean same = (local.getShort() & 0xffff) == central.flags() & (local.getShort() & 0xffff) == central.method();
        local.getInt(); // time and date
        int crc32 = local.getInt();
        long storedBytes = local.getInt() & NONE32;
        long bytes = local.getInt() & NONE32;
        same &= (local.getShort() & 0xffff) == nameBytes;
        int extraBytes = local.getShort() & 0xffff;
        same &= local.equals(ByteBuffer.wrap(central.rawName()));
        long offset = central.start() + LOCAL_BYTES + nameBytes + extraBytes;
        if (offset > fileBytes || central.bytes() > fileBytes - offset) {
            throw problem(name, "ends behind the end of the file");
        }
        if (same && (central.flags() & FLAG_DESCRIPTOR) == 0) {
            ByteBuffer extra = zip64(read(offset - extraBytes, extraBytes), name);
            same = crc32 == central.crc32() && wide(bytes, extra, name) == central.bytes()
                    && wide(storedBytes, extra, name) == central.bytes();
        }
        if (!same) {
            throw problem(name, "has a local header that contradicts the directory");
        }
        if (entries.put(name, new StoredEntry(name, offset, central.bytes(), central.crc32())) != null) {
            throw problem("lists the entry " + FileErrors.quote(name) + " twice");
        }
        return new Span(name, central.start(), offset + central.bytes());
    }

    private void checkStored(String name, int flags, int method) {
        if ((flags & FLAGS_ENCRYPTED) != 0) {
            throw new LaminaException(file + " has the entry " + FileErrors.quote(name)
                    + ", which is encrypted; decrypt the file first");
        }
        if (method != 0) {
            throw new LaminaException(file + " has the entry " + FileErrors.quote(name)
                    + ", which is compressed and cannot be read in place; save the checkpoint again with torch.save");
        }
        if ((flags & ~(FLAG_DESCRIPTOR | FLAG_UTF8)) != 0) {
            throw problem(name, "has the unknown flags 0x" + Integer.toHexString(flags));
        }
    }

    private String decode(byte[] name) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(name)).toString();
        } catch (CharacterCodingException e) {
            throw problem("has an entry with a name that is not valid UTF-8: "
                    + FileErrors.quote(new String(name, StandardCharsets.ISO_8859_1)));
        }
    }

    /** Returns the numbers that had no room in a header, in its order; nothing if there are none. */
    private ByteBuffer zip64(ByteBuffer extra, String name) {
        extra.order(ByteOrder.LITTLE_ENDIAN);
        while (extra.remaining() >= 4) {
            int id = extra.getShort() & 0xffff;
            int bytes = extra.getShort() & 0xffff;
            if (bytes > extra.remaining()) {
                throw problem(name, "has an extra field that is cut off");
            }
            if (id == EXTRA_ZIP64) {
                return extra.slice(extra.position(), bytes).order(ByteOrder.LITTLE_ENDIAN);
            }
            extra.position(extra.position() + bytes);
        }
        return ByteBuffer.allocate(0);
    }

    private long wide(long narrow, ByteBuffer zip64, String name) {
        if (narrow != NONE32) {
            return narrow;
        }
        if (zip64.remaining() < Long.BYTES) {
            throw problem(name, "lacks its zip64 field");
        }
        long wide = zip64.getLong();
        if (wide < 0) {
            throw problem(name, "has " + Long.toUnsignedString(wide) + " bytes or begins there");
        }
        return wide;
    }

    private void checkSpans(List<Span> spans, long directory) {
        spans.sort(Comparator.comparingLong(Span::start));
        long end = 0;
        for (Span span : spans) {
            if (span.start() < end) {
                throw problem(span.name(), "overlaps the entry before it");
            }
            end = span.end();
        }
        if (end > directory) {
            throw problem(spans.getLast().name(), "overlaps the directory");
        }
    }

    private ByteBuffer read(long position, int bytes) throws IOException {
        return readBytes(file, channel, position, bytes);
    }

    /** Returns bytes of a file, little-endian. */
    static ByteBuffer readBytes(Path file, FileChannel channel, long position, int bytes) throws IOException {
        ByteBuffer buffer = ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
        while (buffer.hasRemaining()) {
            if (channel.read(buffer, position + buffer.position()) < 0) {
                throw new IOException(file + " became shorter while it was read");
            }
        }
        return buffer.flip();
    }

    private LaminaException problem(String entry, String what) {
        return problem("is not sound: its entry " + FileErrors.quote(entry) + " " + what);
    }

    private LaminaException problem(String what) {
        return new LaminaException(file + " " + what + "; download the file again");
    }
}
