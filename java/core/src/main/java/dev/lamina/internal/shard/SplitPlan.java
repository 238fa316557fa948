package dev.lamina.internal.shard;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.SafetensorsLayout;
import dev.lamina.internal.checkpoint.ShardManifest;
import dev.lamina.internal.checkpoint.Tensor;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;

/**
 * Which tensor of the source goes where. It is stored before the first shard is written, so that an interrupted split
 * can go on even if files of the source are already gone.
 */
final class SplitPlan {
    private static final int VERSION = 1;
    private static final String UNUSED = "unused";
    private static final String EXTENSION = ".safetensors";

    private final ShardManifest.Source source;
    private final List<Tensor> tensors;
    private final List<Shard> shards;
    private final Map<String, Integer> fileIndexes = new HashMap<>();

    /**
     * A file to be written.
     *
     * @param file its name
     * @param tensors the tensors of the source that it will hold, in order
     * @param layout where they will lie
     */
    record Shard(String file, List<Tensor> tensors, SafetensorsLayout layout) {
        static Shard of(String file, List<Tensor> tensors) {
            List<SafetensorsLayout.Entry> entries = tensors.stream()
                    .map(tensor -> new SafetensorsLayout.Entry(tensor.name(), tensor.dtype(), tensor.shape()))
                    .toList();
            return new Shard(file, List.copyOf(tensors), SafetensorsLayout.aligned(entries, UncachedFile.ALIGNMENT));
        }
    }

    /**
     * The tensors that go from one file of the source to one shard: the unit of copying.
     *
     * @param shard index of the shard
     * @param file index of the file in the source
     */
    record Piece(int shard, int file) {}

    private SplitPlan(ShardManifest.Source source, List<Tensor> tensors, List<Shard> shards) {
        this.source = source;
        this.tensors = List.copyOf(tensors);
        this.shards = List.copyOf(shards);
        source.files().forEach(file -> fileIndexes.put(file.name(), fileIndexes.size()));
    }

    static SplitPlan of(Checkpoint checkpoint, ShardManifest.Source source, List<StageTensors> stages) {
        Set<String> placed = new HashSet<>();
        Set<String> names = new HashSet<>(Set.of(UNUSED));
        List<Shard> shards = new ArrayList<>();
        for (StageTensors stage : stages) {
            if (!stage.stage().matches("[a-z0-9][a-z0-9._-]*") || !names.add(stage.stage())) {
                throw new IllegalArgumentException("stage name used twice or not usable: " + stage.stage());
            }
            // a tied weight belongs to the stage that uses it first
            List<Tensor> tensors = stage.tensors().stream().filter(placed::add).map(checkpoint::tensor).toList();
            if (!tensors.isEmpty()) {
                shards.add(Shard.of(stage.stage() + EXTENSION, tensors));
            }
        }
        List<Tensor> unused = checkpoint.tensors().stream().filter(tensor -> placed.add(tensor.name())).toList();
        if (!unused.isEmpty()) {
            shards.add(Shard.of(UNUSED + EXTENSION, unused));
        }
        return new SplitPlan(source, List.copyOf(checkpoint.tensors()), shards);
    }

    /** Returns the source. */
    ShardManifest.Source source() {
        return source;
    }

    /** Returns all tensors of the source. */
    List<Tensor> tensors() {
        return tensors;
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

    JsonObject encode() {
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
            shard.tensors().forEach(tensor -> contents.add(indexes.get(tensor.name())));
            JsonObject entry = new JsonObject();
            entry.addProperty("file", shard.file());
            entry.add("tensors", contents);
            shardList.add(entry);
        }
        JsonObject json = new JsonObject();
        json.addProperty("format", "lamina split");
        json.addProperty("version", VERSION);
        json.add("source", ShardManifest.encode(source));
        json.add("tensors", tensorList);
        json.add("shards", shardList);
        return json;
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
        List<Shard> shards = new ArrayList<>();
        for (JsonElement element : json.getAsJsonArray("shards")) {
            JsonObject entry = element.getAsJsonObject();
            List<Tensor> contents = new ArrayList<>();
            entry.getAsJsonArray("tensors").forEach(index -> contents.add(tensors.get(index.getAsInt())));
            shards.add(Shard.of(ShardManifest.plainName(entry.get("file").getAsString()), contents));
        }
        return new SplitPlan(source, tensors, shards);
    }
}
