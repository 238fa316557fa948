package dev.lamina.internal.checkpoint;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** Where each tensor of a safetensors file that is to be written will lie, and the header that says so. */
public final class SafetensorsLayout {
    /** Names of filler tensors begin with this; readers of checkpoints do not see them. */
    public static final String PADDING_PREFIX = "lamina.padding.";

    /**
     * One tensor to be written.
     *
     * @param name name, different from all others in the file
     * @param dtype element type
     * @param shape dimensions, outermost first
     */
    public record Entry(String name, DType dtype, List<Long> shape) {
        /** Returns the size in bytes. */
        public long bytes() {
            long bytes = dtype.bytes();
            for (long dimension : shape) {
                bytes = Math.multiplyExact(bytes, dimension);
            }
            return bytes;
        }
    }

    private final List<Entry> entries;
    private final byte[] header;
    private final long[] offsets;
    private final long fileBytes;

    private SafetensorsLayout(List<Entry> entries, byte[] header, long[] offsets, long fileBytes) {
        this.entries = entries;
        this.header = header;
        this.offsets = offsets;
        this.fileBytes = fileBytes;
    }

    /** Lays tensors out one right after the other. */
    public static SafetensorsLayout packed(List<Entry> tensors) {
        // 8 bytes is what the format's own writer aligns its header to
        return lay(tensors, 8, 1);
    }

    /**
     * Lays tensors out so that each begins, and the file ends, at a multiple of a power of two. The format allows no
     * holes: the filler is made of U8 tensors.
     */
    public static SafetensorsLayout aligned(List<Entry> tensors, int alignment) {
        return lay(tensors, alignment, alignment);
    }

    private static SafetensorsLayout lay(List<Entry> tensors, int headerAlignment, int alignment) {
        JsonObject json = new JsonObject();
        JsonObject metadata = new JsonObject();
        // other readers refuse files that do not name a framework
        metadata.addProperty("format", "pt");
        json.add("__metadata__", metadata);
        long[] begins = new long[tensors.size()];
        Set<String> names = new HashSet<>();
        long end = 0;
        int fillers = 0;
        for (int i = 0; i < begins.length; i++) {
            Entry tensor = tensors.get(i);
            if (!names.add(tensor.name()) || tensor.name().startsWith(PADDING_PREFIX)
                    || tensor.name().equals("__metadata__")) {
                throw new IllegalArgumentException("tensor name used twice or reserved: " + tensor.name());
            }
            begins[i] = end;
            end = Math.addExact(end, tensor.bytes());
            json.add(tensor.name(), describe(tensor, begins[i], end));
            long filler = -end & (alignment - 1);
            if (filler > 0) {
                Entry padding = new Entry(PADDING_PREFIX + fillers++, DType.U8, List.of(filler));
                json.add(padding.name(), describe(padding, end, end + filler));
                end += filler;
            }
        }
        byte[] header = encode(json, headerAlignment);
        for (int i = 0; i < begins.length; i++) {
            begins[i] += header.length;
        }
        return new SafetensorsLayout(List.copyOf(tensors), header, begins, Math.addExact(end, header.length));
    }

    private static JsonObject describe(Entry tensor, long begin, long end) {
        JsonArray shape = new JsonArray();
        tensor.shape().forEach(shape::add);
        JsonArray range = new JsonArray();
        range.add(begin);
        range.add(end);
        JsonObject description = new JsonObject();
        description.addProperty("dtype", tensor.dtype().name());
        description.add("shape", shape);
        description.add("data_offsets", range);
        return description;
    }

    private static byte[] encode(JsonObject json, int alignment) {
        byte[] text = json.toString().getBytes(StandardCharsets.UTF_8);
        int length = Math.toIntExact(8L + text.length + (-(8L + text.length) & (alignment - 1)));
        if (length - 8 > SafetensorsHeader.MAX_JSON_BYTES) {
            throw new IllegalArgumentException("too many tensors for one safetensors file: the header would take "
                    + length + " bytes");
        }
        byte[] header = new byte[length];
        ByteBuffer.wrap(header).order(ByteOrder.LITTLE_ENDIAN).putLong(length - 8).put(text);
        Arrays.fill(header, 8 + text.length, length, (byte) ' ');
        return header;
    }

    /** Returns the tensors in the order of their offsets, without fillers. */
    public List<Entry> entries() {
        return entries;
    }

    /** Returns a copy of the bytes before the first tensor, the length field included. */
    public byte[] header() {
        return header.clone();
    }

    /** Returns the size of the header in bytes. */
    public int headerBytes() {
        return header.length;
    }

    /** Returns the first byte of a tensor, counted from the start of the file. */
    public long offset(int tensor) {
        return offsets[tensor];
    }

    /** Returns the size of the whole file in bytes. */
    public long fileBytes() {
        return fileBytes;
    }
}
