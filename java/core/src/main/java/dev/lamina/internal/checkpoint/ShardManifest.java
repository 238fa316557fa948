package dev.lamina.internal.checkpoint;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import dev.lamina.LaminaException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * What a folder of a shard set consists of: the file {@value #FILE_NAME}, JSON in two lines. The second line holds the
 * CRC32C of the first; that rule is the same in every version of the format.
 *
 * @param tool program and version that wrote the set
 * @param source the checkpoint it was made from
 * @param stripe which part of a set over several folders this is; null if this folder is all of the set
 * @param shards the files in the folder
 */
public record ShardManifest(String tool, Source source, @Nullable Stripe stripe, List<Shard> shards) {
    /** Name of the manifest in its folder. */
    public static final String FILE_NAME = "lamina.manifest.json";

    /** The newest version of the format that this code reads; the one it writes for a folder of several. */
    static final int VERSION = 2;

    /** A set in one folder is written so that the first version of Lamina reads it. */
    private static final int SINGLE_FOLDER_VERSION = 1;

    /** More folders than anybody has drives. */
    public static final int MAX_STRIPES = 256;

    /** Bytes of a shard that one checksum covers. */
    public static final int CHUNK_BYTES = 1 << 20;

    private static final long MAX_BYTES = 64L << 20;
    private static final String CHECKSUM_LINE = "\n\"manifest_crc32c\":\"%08x\"}\n";
    private static final int CHECKSUM_LINE_BYTES = CHECKSUM_LINE.formatted(0).length();

    /**
     * The checkpoint that a set was made from.
     *
     * @param name its name, for people
     * @param identity SHA-256 in hex over what tells it from other models: config, tensor list, samples of its files
     * @param config SHA-256 of its config.json in hex
     * @param files its weight files
     */
    public record Source(String name, String identity, String config, List<SourceFile> files) {}

    /**
     * A weight file of the source.
     *
     * @param name file name in the folder
     * @param bytes size
     * @param sample SHA-256 in hex over samples of its tensors
     */
    public record SourceFile(String name, long bytes, String sample) {}

    /**
     * A place among the folders of a set: each matrix is the rows of the first folder, then those of the second, ...
     *
     * @param index number of the folder, from 0
     * @param count how many folders there are, at least 2
     * @param set SHA-256 in hex over source and cut, the same in all folders of the set and no others
     */
    public record Stripe(int index, int count, String set) {
        /** Returns what people call it. */
        public String name() {
            return "part " + (index + 1) + " of " + count;
        }
    }

    /**
     * A file of the folder.
     *
     * @param file file name in the folder
     * @param bytes size
     * @param headerBytes bytes before the first tensor
     * @param headerChecksum CRC32C of those bytes
     * @param checksums CRC32C of each {@link #CHUNK_BYTES} of the file, the last one of what is left; not to be changed
     */
    public record Shard(String file, long bytes, long headerBytes, int headerChecksum, int[] checksums) {}

    /** Returns the manifest as it is stored. */
    public byte[] encode() {
        JsonObject json = new JsonObject();
        json.addProperty("format", "lamina shard set");
        json.addProperty("version", stripe == null ? SINGLE_FOLDER_VERSION : VERSION);
        json.addProperty("tool", tool);
        json.add("source", encode(source));
        if (stripe != null) {
            JsonObject place = new JsonObject();
            place.addProperty("index", stripe.index());
            place.addProperty("count", stripe.count());
            place.addProperty("set", stripe.set());
            json.add("stripe", place);
        }
        json.addProperty("chunk_bytes", CHUNK_BYTES);
        JsonArray files = new JsonArray();
        for (Shard shard : shards) {
            JsonObject file = new JsonObject();
            file.addProperty("file", shard.file());
            file.addProperty("bytes", shard.bytes());
            file.addProperty("header_bytes", shard.headerBytes());
            file.addProperty("header_crc32c", encodeChecksums(shard.headerChecksum()));
            file.addProperty("crc32c", encodeChecksums(shard.checksums()));
            files.add(file);
        }
        json.add("shards", files);
        String text = json.toString();
        // the object goes on in the second line
        byte[] first = (text.substring(0, text.length() - 1) + ",").getBytes(StandardCharsets.UTF_8);
        byte[] second = CHECKSUM_LINE.formatted(crc32c(first)).getBytes(StandardCharsets.UTF_8);
        return ByteBuffer.allocate(first.length + second.length).put(first).put(second).array();
    }

    /** Returns a source as JSON. */
    public static JsonObject encode(Source source) {
        JsonObject json = new JsonObject();
        json.addProperty("name", source.name());
        json.addProperty("identity", source.identity());
        json.addProperty("config", source.config());
        JsonArray files = new JsonArray();
        for (SourceFile file : source.files()) {
            JsonObject entry = new JsonObject();
            entry.addProperty("name", file.name());
            entry.addProperty("bytes", file.bytes());
            entry.addProperty("sample", file.sample());
            files.add(entry);
        }
        json.add("files", files);
        return json;
    }

    /**
     * Returns the source that {@link #encode(Source)} made the JSON of.
     *
     * @throws RuntimeException if the JSON is not of that form
     */
    public static Source decodeSource(JsonObject json) {
        List<SourceFile> files = new ArrayList<>();
        for (JsonElement element : json.getAsJsonArray("files")) {
            JsonObject file = element.getAsJsonObject();
            files.add(new SourceFile(plainName(text(file, "name")), number(file, "bytes"), text(file, "sample")));
        }
        return new Source(text(json, "name"), text(json, "identity"), text(json, "config"), List.copyOf(files));
    }

    /**
     * Reads and checks a manifest.
     *
     * @throws LaminaException if it is damaged, or newer than this code
     * @throws IOException if it cannot be read
     */
    public static ShardManifest read(Path file) throws IOException {
        if (!Files.isRegularFile(file) || Files.size(file) > MAX_BYTES) {
            throw new LaminaException(file + " is not a file of at most " + MAX_BYTES
                    + " bytes; split the model again");
        }
        byte[] content = Files.readAllBytes(file);
        int length = content.length - CHECKSUM_LINE_BYTES;
        if (length <= 0 || !new String(content, length, CHECKSUM_LINE_BYTES, StandardCharsets.ISO_8859_1)
                .equals(CHECKSUM_LINE.formatted(crc32c(content, length)))) {
            throw damaged(file, null);
        }
        try {
            JsonObject json = JsonParser.parseString(new String(content, StandardCharsets.UTF_8)).getAsJsonObject();
            if (!text(json, "format").equals("lamina shard set")) {
                throw damaged(file, null);
            }
            if (number(json, "version") > VERSION) {
                throw new LaminaException(file + " has format version " + number(json, "version")
                        + ", and this Lamina reads up to " + VERSION + "; use a newer Lamina or split the model again");
            }
            return new ShardManifest(text(json, "tool"), decodeSource(json.getAsJsonObject("source")), stripe(json),
                    shards(json));
        } catch (JsonParseException | IllegalStateException | IllegalArgumentException | ClassCastException
                | NullPointerException | UnsupportedOperationException | ArithmeticException e) {
            throw damaged(file, e);
        }
    }

    private static @Nullable Stripe stripe(JsonObject json) {
        if (number(json, "version") == SINGLE_FOLDER_VERSION) {
            return null;
        }
        JsonObject place = json.getAsJsonObject("stripe");
        long index = number(place, "index");
        long count = number(place, "count");
        if (number(json, "version") != VERSION || count < 2 || count > MAX_STRIPES || index >= count) {
            throw new IllegalArgumentException("stripe " + index + " of " + count);
        }
        return new Stripe((int) index, (int) count, text(place, "set"));
    }

    private static List<Shard> shards(JsonObject json) {
        if (number(json, "chunk_bytes") != CHUNK_BYTES) {
            throw new IllegalArgumentException("chunk_bytes");
        }
        List<Shard> shards = new ArrayList<>();
        Set<String> names = new HashSet<>();
        for (JsonElement element : json.getAsJsonArray("shards")) {
            JsonObject file = element.getAsJsonObject();
            Shard shard = new Shard(plainName(text(file, "file")), number(file, "bytes"), number(file, "header_bytes"),
                    decodeChecksums(text(file, "header_crc32c"))[0], decodeChecksums(text(file, "crc32c")));
            if (!names.add(shard.file()) || shard.checksums().length != chunks(shard.bytes())) {
                throw new IllegalArgumentException(shard.file());
            }
            shards.add(shard);
        }
        return List.copyOf(shards);
    }

    private static String text(JsonObject json, String key) {
        return json.getAsJsonPrimitive(key).getAsString();
    }

    private static long number(JsonObject json, String key) {
        long number = json.getAsJsonPrimitive(key).getAsLong();
        if (number < 0) {
            throw new IllegalArgumentException(key);
        }
        return number;
    }

    /**
     * Returns a file name from an untrusted file if it names a file of the same folder and nothing else.
     *
     * @throws IllegalArgumentException if it does not
     */
    public static String plainName(String name) {
        boolean plain = !name.isEmpty() && !name.equals(".") && !name.equals("..")
                && name.chars().noneMatch(c -> c == '/' || c == '\\' || c == ':' || Character.isISOControl(c));
        if (!plain) {
            throw new IllegalArgumentException("not a plain file name: " + FileErrors.quote(name));
        }
        return name;
    }

    /** Returns the number of checksums that a file of that size has. */
    public static int chunks(long bytes) {
        return Math.toIntExact(Math.ceilDiv(bytes, (long) CHUNK_BYTES));
    }

    /** Returns checksums as 8 hex digits each. */
    public static String encodeChecksums(int... checksums) {
        ByteBuffer bytes = ByteBuffer.allocate(Math.multiplyExact(checksums.length, Integer.BYTES));
        bytes.asIntBuffer().put(checksums);
        return HexFormat.of().formatHex(bytes.array());
    }

    /**
     * Returns the checksums in a text of 8 hex digits each.
     *
     * @throws IllegalArgumentException if the text is something else
     */
    public static int[] decodeChecksums(String text) {
        byte[] bytes = HexFormat.of().parseHex(text);
        if (bytes.length % Integer.BYTES != 0) {
            throw new IllegalArgumentException("cut checksum");
        }
        int[] checksums = new int[bytes.length / Integer.BYTES];
        ByteBuffer.wrap(bytes).asIntBuffer().get(checksums);
        return checksums;
    }

    private static int crc32c(byte[] bytes) {
        return crc32c(bytes, bytes.length);
    }

    private static int crc32c(byte[] bytes, int length) {
        CRC32C checksum = new CRC32C();
        checksum.update(bytes, 0, length);
        return (int) checksum.getValue();
    }

    private static LaminaException damaged(Path file, @Nullable Exception cause) {
        String line = file + " is damaged; split the model again";
        return cause == null ? new LaminaException(line) : new LaminaException(line, cause);
    }
}
