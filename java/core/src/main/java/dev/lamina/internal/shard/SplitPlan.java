package dev.lamina.internal.shard;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.SafetensorsLayout;
import dev.lamina.internal.checkpoint.ShardManifest;
import dev.lamina.internal.checkpoint.Tensor;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/**
 * Which tensor of the source goes where. It is stored before the first shard is written, in each folder, so that an
 * interrupted split can go on even if files of the source are already gone, and with the same cut.
 */
final class SplitPlan {
    private static final int VERSION = 2;
    private static final int SINGLE_FOLDER_VERSION = 1;
    private static final String UNUSED = "unused";
    private static final String EXTENSION = ".safetensors";

    private final ShardManifest.Source source;
    private final List<Tensor> tensors;
    private final int folders;
    private final List<Shard> shards;
    private final Map<String, Integer> fileIndexes = new HashMap<>();

    /**
     * A file to be written.
     *
     * @param folder number of the folder it goes to
     * @param file its name
     * @param tensors the tensors of the source that it will hold, or rows of them, in order
     * @param layout where they will lie
     */
    record Shard(int folder, String file, List<Tensor> tensors, SafetensorsLayout layout) {
        static Shard of(int folder, String file, List<Tensor> tensors) {
            List<SafetensorsLayout.Entry> entries = tensors.stream()
                    .map(tensor -> new SafetensorsLayout.Entry(tensor.name(), tensor.dtype(), tensor.shape()))
                    .toList();
            return new Shard(folder, file, List.copyOf(tensors),
                    SafetensorsLayout.aligned(entries, UncachedFile.ALIGNMENT));
        }
    }

    /**
     * The tensors that go from one file of the source to one shard: the unit of copying.
     *
     * @param shard index of the shard
     * @param file index of the file in the source
     */
    record Piece(int shard, int file) {}

    private SplitPlan(ShardManifest.Source source, List<Tensor> tensors, int folders, List<Shard> shards) {
        this.source = source;
        this.tensors = List.copyOf(tensors);
        this.folders = folders;
        this.shards = List.copyOf(shards);
        source.files().forEach(file -> fileIndexes.put(file.name(), fileIndexes.size()));
    }

    /**
     * Makes a plan.
     *
     * @param rates one number a folder, in proportion to which matrices are shared out
     */
    static SplitPlan of(Checkpoint checkpoint, ShardManifest.Source source, List<StageTensors> stages,
            List<Long> rates) {
        Set<String> placed = new HashSet<>();
        Set<String> names = new HashSet<>(Set.of(UNUSED));
        List<Shard> shards = new ArrayList<>();
        for (StageTensors stage : stages) {
            if (!stage.stage().matches("[a-z0-9][a-z0-9._-]*") || !names.add(stage.stage())) {
                throw new IllegalArgumentException("stage name used twice or not usable: " + stage.stage());
            }
            // a tied weight belongs to the stage that uses it first
            List<Tensor> tensors = stage.tensors().stream().filter(placed::add).map(checkpoint::tensor).toList();
            shards.addAll(cut(stage.stage() + EXTENSION, tensors, rates));
        }
        List<Tensor> unused = checkpoint.tensors().stream().filter(tensor -> placed.add(tensor.name())).toList();
        shards.addAll(cut(UNUSED + EXTENSION, unused, rates));
        return new SplitPlan(source, List.copyOf(checkpoint.tensors()), rates.size(), shards);
    }

    /** Shares tensors out over the folders. */
    private static List<Shard> cut(String file, List<Tensor> tensors, List<Long> rates) {
        List<List<Tensor>> contents = new ArrayList<>();
        rates.forEach(rate -> contents.add(new ArrayList<>()));
        for (Tensor tensor : tensors) {
            long[] ends = ends(tensor, rates);
            for (int folder = 0; folder < ends.length; folder++) {
                long first = folder == 0 ? 0 : ends[folder - 1];
                contents.get(folder).add(ends.length == 1 ? tensor : tensor.rows(first, ends[folder] - first));
            }
        }
        List<Shard> shards = new ArrayList<>();
        for (int folder = 0; folder < contents.size(); folder++) {
            if (!contents.get(folder).isEmpty()) {
                shards.add(Shard.of(folder, file, contents.get(folder)));
            }
        }
        return shards;
    }

    /**
     * Returns where the rows of a tensor end in each folder, so that all are read in the same time. The first folder
     * gets all of what is no matrix, and of what is so small that a folder would get less than a block.
     */
    private static long[] ends(Tensor tensor, List<Long> rates) {
        double sum = rates.stream().mapToDouble(rate -> rate).sum();
        long rows = tensor.shape().size() < 2 ? 0 : tensor.shape().getFirst();
        long[] ends = new long[rates.size()];
        double before = 0;
        boolean worth = rows > 0;
        for (int folder = 0; folder < ends.length; folder++) {
            before += rates.get(folder);
            ends[folder] = folder == ends.length - 1 ? rows : Math.round(rows * (before / sum));
            long count = ends[folder] - (folder == 0 ? 0 : ends[folder - 1]);
            worth = worth && count > 0 && tensor.bytes() / rows * count >= UncachedFile.ALIGNMENT;
        }
        return worth ? ends : new long[] {rows};
    }

    /** Whether rates, one a folder, give this cut. */
    boolean isCutBy(List<Long> rates) {
        Map<String, long[]> bytes = new HashMap<>();
        for (Shard shard : shards) {
            for (Tensor part : shard.tensors()) {
                bytes.computeIfAbsent(part.name(), name -> new long[folders])[shard.folder()] += part.bytes();
            }
        }
        return tensors.stream().allMatch(tensor -> {
            long[] expected = new long[folders];
            long[] ends = ends(tensor, rates);
            if (ends.length == 1) {
                expected[0] = tensor.bytes();
            } else {
                long rowBytes = tensor.bytes() / tensor.shape().getFirst();
                for (int folder = 0; folder < folders; folder++) {
                    expected[folder] = rowBytes * (ends[folder] - (folder == 0 ? 0 : ends[folder - 1]));
                }
            }
            return Arrays.equals(expected, bytes.get(tensor.name()));
        });
    }

    /** Returns the source. */
    ShardManifest.Source source() {
        return source;
    }

    /** Returns all tensors of the source. */
    List<Tensor> tensors() {
        return tensors;
    }

    /** Returns the number of folders. */
    int folders() {
        return folders;
    }

    /** Returns the place of a folder; null if it is the only one. */
    ShardManifest.@Nullable Stripe stripe(int folder) {
        return folders == 1 ? null : new ShardManifest.Stripe(folder, folders, Original.hash(encode().toString()));
    }

    /** Returns the files to be written. */
    List<Shard> shards() {
        return shards;
    }

    /** Returns the index of the file of the source that holds a tensor. */
    int fileOf(Tensor tensor) {
        return Objects.requireNonNull(fileIndexes.get(tensor.file().getFileName().toString()));
    }

    /** Returns the pieces and the bytes of each, by shard and by file within. */
    Map<Piece, Long> pieces() {
        Map<Piece, Long> pieces = new LinkedHashMap<>();
        for (int shard = 0; shard < shards.size(); shard++) {
            Map<Integer, Long> bytes = new TreeMap<>();
            for (Tensor tensor : shards.get(shard).tensors()) {
                bytes.merge(fileOf(tensor), tensor.bytes(), Long::sum);
            }
            for (var entry : bytes.entrySet()) {
                pieces.put(new Piece(shard, entry.getKey()), entry.getValue());
            }
        }
        return pieces;
    }

    /** Returns the plan as it is stored in a folder. */
    JsonObject encode(int folder) {
        JsonObject json = encode();
        if (folders > 1) {
            json.addProperty("folder", folder);
        }
        return json;
    }

    /** Returns what is the same in all folders. */
    private JsonObject encode() {
        JsonArray tensorList = new JsonArray();
        Map<String, Integer> indexes = new HashMap<>();
        for (Tensor tensor : tensors) {
            indexes.put(tensor.name(), indexes.size());
            JsonArray shape = new JsonArray();
            tensor.shape().forEach(shape::add);
            JsonArray entry = new JsonArray();
            entry.add(tensor.name());
            entry.add(tensor.dtype().name());
            entry.add(shape);
            entry.add(fileOf(tensor));
            entry.add(tensor.offset());
            tensorList.add(entry);
        }
        JsonArray shardList = new JsonArray();
        for (Shard shard : shards) {
            JsonArray contents = new JsonArray();
            shard.tensors().forEach(tensor -> contents.add(encode(tensor, indexes.get(tensor.name()))));
            JsonObject entry = new JsonObject();
            if (folders > 1) {
                entry.addProperty("folder", shard.folder());
            }
            entry.addProperty("file", shard.file());
            entry.add("tensors", contents);
            shardList.add(entry);
        }
        JsonObject json = new JsonObject();
        json.addProperty("format", "lamina split");
        json.addProperty("version", folders == 1 ? SINGLE_FOLDER_VERSION : VERSION);
        json.add("source", ShardManifest.encode(source));
        json.add("tensors", tensorList);
        json.add("shards", shardList);
        if (folders > 1) {
            json.addProperty("folders", folders);
        }
        return json;
    }

    /** Returns the index of a whole tensor, or index, first row and number of rows. */
    private JsonElement encode(Tensor part, int index) {
        Tensor whole = tensors.get(index);
        if (part.equals(whole)) {
            return new JsonPrimitive(index);
        }
        JsonArray rows = new JsonArray();
        rows.add(index);
        rows.add((part.offset() - whole.offset()) / (whole.bytes() / whole.shape().getFirst()));
        rows.add(part.shape().getFirst());
        return rows;
    }

    /**
     * Returns the plan that {@link #encode} made the JSON of.
     *
     * @param model folder of the source
     * @throws RuntimeException if the JSON is not of that form
     */
    static SplitPlan decode(JsonObject json, Path model) {
        int version = json.get("version").getAsInt();
        if (version > VERSION) {
            throw new LaminaException("the unfinished split was begun by a newer Lamina (format " + version
                    + ", this one knows " + VERSION + "); use that one to finish it");
        }
        ShardManifest.Source source = ShardManifest.decodeSource(json.getAsJsonObject("source"));
        List<Tensor> tensors = new ArrayList<>();
        for (JsonElement element : json.getAsJsonArray("tensors")) {
            JsonArray entry = element.getAsJsonArray();
            List<Long> shape = new ArrayList<>();
            entry.get(2).getAsJsonArray().forEach(dimension -> shape.add(dimension.getAsLong()));
            var size = new SafetensorsLayout.Entry(
                    entry.get(0).getAsString(), DType.valueOf(entry.get(1).getAsString()), List.copyOf(shape));
            Path file = model.resolve(source.files().get(entry.get(3).getAsInt()).name());
            tensors.add(new Tensor(size.name(), size.dtype(), size.shape(), file, entry.get(4).getAsLong(),
                    size.bytes()));
        }
        int folders = version == SINGLE_FOLDER_VERSION ? 1 : json.get("folders").getAsInt();
        List<Shard> shards = new ArrayList<>();
        for (JsonElement element : json.getAsJsonArray("shards")) {
            JsonObject entry = element.getAsJsonObject();
            List<Tensor> contents = new ArrayList<>();
            entry.getAsJsonArray("tensors").forEach(part -> contents.add(decode(part, tensors)));
            int folder = folders == 1 ? 0 : Objects.checkIndex(entry.get("folder").getAsInt(), folders);
            shards.add(Shard.of(folder, ShardManifest.plainName(entry.get("file").getAsString()), contents));
        }
        return new SplitPlan(source, tensors, folders, shards);
    }

    private static Tensor decode(JsonElement part, List<Tensor> tensors) {
        if (!part.isJsonArray()) {
            return tensors.get(part.getAsInt());
        }
        JsonArray rows = part.getAsJsonArray();
        Tensor whole = tensors.get(rows.get(0).getAsInt());
        long first = rows.get(1).getAsLong();
        long count = rows.get(2).getAsLong();
        Objects.checkFromIndexSize(first, count, whole.shape().getFirst());
        return whole.rows(first, count);
    }

    /** Returns the number of the folder that {@link #encode(int)} made the JSON for. */
    static int decodeFolder(JsonObject json) {
        return json.has("folder") ? json.get("folder").getAsInt() : 0;
    }
}
