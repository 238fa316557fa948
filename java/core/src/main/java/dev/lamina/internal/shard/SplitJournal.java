package dev.lamina.internal.shard;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.DurableFiles;
import dev.lamina.internal.checkpoint.ShardManifest;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Objects;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * The partial manifest: the plan, then one line for each piece that is safe on disk. Each line ends with its own
 * checksum, so that one that was cut off by a crash is seen and dropped. It is locked while it is open.
 */
final class SplitJournal implements AutoCloseable {
    private static final long MAX_BYTES = 256L << 20;

    /** Far behind the content, because locks of some systems forbid reading. */
    private static final long LOCK_POSITION = Long.MAX_VALUE - 1;

    private final Path file;
    private final FileChannel channel;
    private final Map<SplitPlan.Piece, int[]> finished = new HashMap<>();
    private @Nullable SplitPlan plan;
    private int folder;
    private long end;

    private SplitJournal(Path file, FileChannel channel) {
        this.file = file;
        this.channel = channel;
    }

    /**
     * Opens the journal, which is created if there is none.
     *
     * @param model folder of the source
     * @throws LaminaException if another split has it open, or it is damaged
     */
    static SplitJournal open(Path file, Path model) throws IOException {
        FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.READ,
                StandardOpenOption.WRITE);
        SplitJournal journal = new SplitJournal(file, channel);
        try {
            journal.lock();
            journal.load(model);
            return journal;
        } catch (IOException | RuntimeException e) {
            channel.close();
            throw e;
        }
    }

    private void lock() throws IOException {
        try {
            if (channel.tryLock(LOCK_POSITION, 1, false) != null) {
                return;
            }
        } catch (OverlappingFileLockException e) {
            throw new LaminaException(inUse(), e);
        }
        throw new LaminaException(inUse());
    }

    private String inUse() {
        return "another split is writing to " + file.toAbsolutePath().getParent() + "; wait until it has ended";
    }

    private void load(Path model) throws IOException {
        if (channel.size() > MAX_BYTES) {
            throw damaged(null);
        }
        ByteBuffer content = ByteBuffer.allocate((int) channel.size());
        while (content.hasRemaining() && channel.read(content, content.position()) >= 0) {
            continue;
        }
        String text = new String(content.array(), 0, content.position(), StandardCharsets.UTF_8);
        int start = 0;
        for (int next; (next = text.indexOf('\n', start)) >= 0; start = next + 1) {
            JsonObject json = parse(text.substring(start, next));
            if (json == null) {
                if (plan == null) {
                    throw damaged(null);
                }
                break;
            }
            add(json, model);
            end += text.substring(start, next + 1).getBytes(StandardCharsets.UTF_8).length;
        }
        channel.truncate(end);
    }

    private void add(JsonObject json, Path model) {
        try {
            if (plan == null) {
                plan = SplitPlan.decode(json, model);
                folder = Objects.checkIndex(SplitPlan.decodeFolder(json), plan.folders());
                return;
            }
            finished.put(new SplitPlan.Piece(json.get("shard").getAsInt(), json.get("file").getAsInt()),
                    ShardManifest.decodeChecksums(json.get("crc32c").getAsString()));
        } catch (IllegalStateException | IllegalArgumentException | ClassCastException | NullPointerException
                | IndexOutOfBoundsException | UnsupportedOperationException | ArithmeticException
                | NoSuchElementException e) {
            throw damaged(e);
        }
    }

    private static @Nullable JsonObject parse(String line) {
        int tab = line.lastIndexOf('\t');
        if (tab < 0 || !line.substring(tab + 1).equals(checksum(line.substring(0, tab)))) {
            return null;
        }
        try {
            return JsonParser.parseString(line.substring(0, tab)).getAsJsonObject();
        } catch (JsonParseException | IllegalStateException e) {
            return null;
        }
    }

    private static String checksum(String json) {
        CRC32C checksum = new CRC32C();
        checksum.update(json.getBytes(StandardCharsets.UTF_8));
        return ShardManifest.encodeChecksums((int) checksum.getValue());
    }

    /** Returns the line that stores a plan, for its size. */
    static byte[] line(JsonObject json) {
        String text = json.toString();
        return (text + '\t' + checksum(text) + '\n').getBytes(StandardCharsets.UTF_8);
    }

    private void append(byte[] line) throws IOException {
        DurableFiles.writeFully(channel, ByteBuffer.wrap(line), end);
        channel.force(true);
        end += line.length;
    }

    /** Stores the plan of a new split, of which this folder gets the shards of a number. */
    void begin(SplitPlan newPlan, int newFolder) throws IOException {
        append(line(newPlan.encode(newFolder)));
        DurableFiles.syncDirectory(file.toAbsolutePath().getParent());
        plan = newPlan;
        folder = newFolder;
    }

    /** Notes that a piece is on disk, with the checksums of its tensors. */
    void finish(SplitPlan.Piece piece, int[] checksums) throws IOException {
        JsonObject json = new JsonObject();
        json.addProperty("shard", piece.shard());
        json.addProperty("file", piece.file());
        json.addProperty("crc32c", ShardManifest.encodeChecksums(checksums));
        append(line(json));
        finished.put(piece, checksums);
    }

    /** Returns the plan, or null if none was stored. */
    @Nullable SplitPlan plan() {
        return plan;
    }

    /** Returns the number of this folder in the plan; 0 if none was stored. */
    int folder() {
        return folder;
    }

    /** Returns the file. */
    Path file() {
        return file;
    }

    /** Returns the checksums of the finished pieces: of each tensor, cut at multiples of the manifest's chunk size. */
    Map<SplitPlan.Piece, int[]> finished() {
        return finished;
    }

    private LaminaException damaged(@Nullable Exception cause) {
        String line = file + " is damaged; if the original model is whole, delete this folder and split again";
        return cause == null ? new LaminaException(line) : new LaminaException(line, cause);
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }
}
