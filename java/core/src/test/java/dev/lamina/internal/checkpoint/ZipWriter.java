package dev.lamina.internal.checkpoint;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.zip.CRC32;

/** Writes zip files of stored entries: as PyTorch does, or with the choices that the format leaves. */
final class ZipWriter {
    private static final int ALIGNMENT = 64;

    private final boolean descriptors;
    private final boolean zip64;
    private final ByteArrayOutputStream out = new ByteArrayOutputStream();
    private final ByteArrayOutputStream directory = new ByteArrayOutputStream();
    private final List<Integer> starts = new ArrayList<>();

    /**
     * Begins a file.
     *
     * @param descriptors whether sizes follow each content, or are before it
     * @param zip64 whether the directory has the wide form too; without descriptors, entries have wide sizes then
     */
    ZipWriter(boolean descriptors, boolean zip64) {
        this.descriptors = descriptors;
        this.zip64 = zip64;
    }

    static ZipWriter likeTorch() {
        return new ZipWriter(true, true);
    }

    private static ByteBuffer buffer(int bytes) {
        return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    ZipWriter add(String name, byte[] content) {
        byte[] text = name.getBytes(StandardCharsets.UTF_8);
        boolean wide = zip64 && !descriptors;
        int start = out.size();
        starts.add(start);
        CRC32 crc32 = new CRC32();
        crc32.update(content);
        int sum = (int) crc32.getValue();
        int flags = descriptors ? 0x808 : 0x800;
        int wideBytes = wide ? 20 : 0;
        int padding = -(start + 30 + text.length + wideBytes + 4) & (ALIGNMENT - 1);
        ByteBuffer local = buffer(30 + text.length + wideBytes + 4 + padding)
                .putInt(0x04034b50).putShort((short) 0).putShort((short) flags).putShort((short) 0).putInt(0)
                .putInt(descriptors ? 0 : sum)
                .putInt(descriptors ? 0 : wide ? -1 : content.length)
                .putInt(descriptors ? 0 : wide ? -1 : content.length)
                .putShort((short) text.length).putShort((short) (wideBytes + 4 + padding)).put(text);
        if (wide) {
            local.putShort((short) 1).putShort((short) 16).putLong(content.length).putLong(content.length);
        }
        local.put((byte) 'F').put((byte) 'B').putShort((short) padding);
        byte[] header = local.array();
        Arrays.fill(header, local.position(), header.length, (byte) 'Z');
        out.writeBytes(header);
        out.writeBytes(content);
        if (descriptors) {
            out.writeBytes(buffer(16).putInt(0x08074b50).putInt(sum).putInt(content.length).putInt(content.length)
                    .array());
        }
        ByteBuffer central = buffer(46 + text.length + (wide ? 28 : 0))
                .putInt(0x02014b50).putInt(0).putShort((short) flags).putShort((short) 0).putInt(0).putInt(sum)
                .putInt(wide ? -1 : content.length).putInt(wide ? -1 : content.length)
                .putShort((short) text.length).putShort((short) (wide ? 28 : 0)).putShort((short) 0)
                .putShort((short) 0).putShort((short) 0).putInt(0).putInt(wide ? -1 : start).put(text);
        if (wide) {
            central.putShort((short) 1).putShort((short) 24).putLong(content.length).putLong(content.length)
                    .putLong(start);
        }
        directory.writeBytes(central.array());
        return this;
    }

    /** Returns where the local header of an entry begins. */
    int start(int entry) {
        return starts.get(entry);
    }

    byte[] bytes() {
        int entries = starts.size();
        ByteArrayOutputStream file = new ByteArrayOutputStream();
        file.writeBytes(out.toByteArray());
        file.writeBytes(directory.toByteArray());
        if (zip64) {
            file.writeBytes(buffer(76)
                    .putInt(0x06064b50).putLong(44).putShort((short) 0x31e).putShort((short) 45).putInt(0).putInt(0)
                    .putLong(entries).putLong(entries).putLong(directory.size()).putLong(out.size())
                    .putInt(0x07064b50).putInt(0).putLong(out.size() + directory.size()).putInt(1).array());
        }
        file.writeBytes(buffer(22).putInt(0x06054b50).putInt(0)
                .putShort((short) entries).putShort((short) entries).putInt(directory.size()).putInt(out.size())
                .putShort((short) 0).array());
        return file.toByteArray();
    }
}
