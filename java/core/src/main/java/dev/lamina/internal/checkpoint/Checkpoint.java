package dev.lamina.internal.checkpoint;

import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;
import dev.lamina.LaminaException;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * The tensors of a folder by name: one safetensors file, several with an index, the same as files of PyTorch, or a
 * shard set, which may lie in several folders. What describes the tensors is checked when it is opened; they themselves
 * are not read.
 *
 * <p>Immutable; any thread may use it. It holds no open file.
 */
public final class Checkpoint {
    /** Name of the index of a checkpoint of several safetensors files. */
    public static final String INDEX_FILE_NAME = "model.safetensors.index.json";

    private static final String SINGLE_FILE_NAME = "model.safetensors";
    private static final String TORCH_FILE_NAME = "pytorch_model.bin";
    private static final String TORCH_INDEX_FILE_NAME = "pytorch_model.bin.index.json";
    private static final long MAX_INDEX_BYTES = 100_000_000;

    private final List<Path> folders;
    private final List<ShardManifest> manifests;
    private final Map<String, Tensor> tensors = new LinkedHashMap<>();
    private final Map<Path, Integer> folderOfFile = new LinkedHashMap<>();

    private Checkpoint(List<Path> folders, List<ShardManifest> manifests) {
        this.folders = List.copyOf(folders);
        this.manifests = List.copyOf(manifests);
    }

    /**
     * Opens the checkpoint in a folder.
     *
     * @param directory a model's folder, or a shard set
     * @throws LaminaException if there is none, it cannot be read, or it is not sound
     */
    public static Checkpoint open(Path directory) {
        return open(List.of(directory));
    }

    /**
     * Opens a checkpoint that may lie in several folders.
     *
     * @param folders a model's folder, or all folders of one shard set in any order
     * @throws LaminaException if there is none, it cannot be read, or it is not sound
     */
    public static Checkpoint open(List<Path> folders) {
        String shown = folders.stream().map(Path::toString).collect(Collectors.joining(", "));
        try {
            return folders.size() == 1
                    ? load(folders.getFirst().toAbsolutePath())
                    : loadStripes(folders.stream().map(Path::toAbsolutePath).toList());
        } catch (IOException e) {
            throw FileErrors.explain("cannot open the model in " + shown, e);
        } catch (DirectoryIteratorException e) {
            throw FileErrors.explain("cannot open the model in " + shown, e.getCause());
        }
    }

    private static void checkFolder(Path directory) {
        if (!Files.isDirectory(directory)) {
            throw new LaminaException(directory + (Files.exists(directory)
                    ? " is a file; give the folder of the model"
                    : " does not exist; give the folder of a model"));
        }
    }

    private static Checkpoint load(Path directory) throws IOException {
        checkFolder(directory);
        TreeSet<String> names = new TreeSet<>();
        try (DirectoryStream<Path> entries = Files.newDirectoryStream(directory)) {
            entries.forEach(entry -> names.add(entry.getFileName().toString()));
        }
        if (names.contains(ShardManifest.FILE_NAME)) {
            ShardManifest manifest = ShardManifest.read(directory.resolve(ShardManifest.FILE_NAME));
            if (manifest.stripe() != null) {
                throw new LaminaException(directory + " is " + manifest.stripe().name()
                        + " of a shard set; name all its folders: --shards A,B,...");
            }
            return loadShardSet(List.of(directory), List.of(manifest));
        }
        if (names.contains(ShardManifest.FILE_NAME + DurableFiles.PARTIAL)) {
            throw unfinished(directory);
        }
        // the order in which other readers look
        for (String name : List.of(SINGLE_FILE_NAME, INDEX_FILE_NAME, TORCH_FILE_NAME, TORCH_INDEX_FILE_NAME)) {
            if (names.contains(name)) {
                return name.endsWith(".json") ? loadIndexed(directory, name) : loadSingle(directory, name);
            }
        }
        List<String> candidates = names.stream().filter(name -> name.endsWith(".safetensors")).toList();
        if (candidates.size() == 1) {
            return loadSingle(directory, candidates.getFirst());
        }
        throw new LaminaException(directory + " " + nothingToOpen(names, candidates.size()));
    }

    private static LaminaException unfinished(Path directory) {
        return new LaminaException(directory + " holds a split that was not finished; run the same split again");
    }

    /** Loads a shard set over several folders once it is certain that they belong together. */
    private static Checkpoint loadStripes(List<Path> given) throws IOException {
        Map<Integer, Path> folders = new TreeMap<>();
        Map<Integer, ShardManifest> manifests = new TreeMap<>();
        ShardManifest.@Nullable Stripe first = null;
        for (Path folder : given) {
            checkFolder(folder);
            Path file = folder.resolve(ShardManifest.FILE_NAME);
            if (!Files.exists(file)) {
                throw Files.exists(DurableFiles.partial(file)) ? unfinished(folder) : new LaminaException(folder
                        + " holds no shard set; name the folders that one split has written, and no others");
            }
            ShardManifest manifest = ShardManifest.read(file);
            ShardManifest.Stripe stripe = manifest.stripe();
            if (stripe == null) {
                throw new LaminaException(folder + " holds all of a shard set (of " + manifest.source().name()
                        + "); name it alone");
            }
            if (manifest.shards().isEmpty()) {
                throw new LaminaException(file + " lists no shards; split the model again");
            }
            first = first == null ? stripe : first;
            if (!stripe.set().equals(first.set()) || stripe.count() != first.count()) {
                throw new LaminaException(folder + " (from " + manifest.source().name() + ") and " + given.getFirst()
                        + " are parts of different shard sets; name the folders of one split");
            }
            Path other = folders.put(stripe.index(), folder);
            if (other != null) {
                throw new LaminaException(other.equals(folder)
                        ? folder + " is named twice; name each folder once"
                        : other + " and " + folder + " are both " + stripe.name()
                                + " of a shard set; name each part once");
            }
            manifests.put(stripe.index(), manifest);
        }
        if (first == null) {
            throw new LaminaException("no folder of a shard set was named; name all its folders");
        }
        for (int i = 0; i < first.count(); i++) {
            if (!folders.containsKey(i)) {
                throw new LaminaException("part " + (i + 1) + " of the shard set in " + given.getFirst()
                        + " is missing; name all its " + first.count() + " folders: --shards A,B,...");
            }
        }
        return loadShardSet(List.copyOf(folders.values()), List.copyOf(manifests.values()));
    }

    private static String nothingToOpen(Collection<String> names, int candidates) {
        if (candidates > 1) {
            return "holds " + candidates + " safetensors files but no " + INDEX_FILE_NAME + "; download that file too";
        }
        if (names.stream().anyMatch(name -> WeightFile.isTorch(Path.of(name)))) {
            return "holds files of PyTorch, but neither " + TORCH_FILE_NAME + " nor " + TORCH_INDEX_FILE_NAME
                    + "; give one the name " + TORCH_FILE_NAME + " if it is the model, or download the index too";
        }
        if (names.stream().anyMatch(name -> name.endsWith(".gguf"))) {
            return "holds GGUF weights, which are not supported; use the safetensors version of the model";
        }
        return "holds no weights; it needs " + SINGLE_FILE_NAME + " or " + INDEX_FILE_NAME + " and its files, or "
                + TORCH_FILE_NAME + " or " + TORCH_INDEX_FILE_NAME + " and its files";
    }

    private static Checkpoint loadSingle(Path directory, String name) throws IOException {
        Checkpoint checkpoint = new Checkpoint(List.of(directory), List.of());
        checkpoint.add(WeightFile.read(directory.resolve(name)), 0);
        return checkpoint;
    }

    private static Checkpoint loadIndexed(Path directory, String indexName) throws IOException {
        Path index = directory.resolve(indexName);
        Map<String, String> fileOf = readIndex(index);
        Checkpoint checkpoint = new Checkpoint(List.of(directory), List.of());
        for (String name : new TreeSet<>(fileOf.values())) {
            checkpoint.add(WeightFile.read(directory.resolve(name)), 0);
        }
        fileOf.forEach((name, file) -> {
            Tensor tensor = checkpoint.tensors.get(name);
            if (tensor == null || !tensor.file().getFileName().toString().equals(file)) {
                throw new LaminaException(index + " lists tensor " + FileErrors.quote(name) + " in "
                        + FileErrors.quote(file) + ", which does not hold it; download the model again");
            }
        });
        return checkpoint;
    }

    private static Map<String, String> readIndex(Path index) throws IOException {
        if (!Files.isRegularFile(index) || Files.size(index) > MAX_INDEX_BYTES) {
            throw new LaminaException(index + " is not a file of at most " + MAX_INDEX_BYTES
                    + " bytes; download it again");
        }
        // a decoder, and not a charset, reports what is not UTF-8
        try (JsonReader json = new JsonReader(new BoundedStrings(
                new InputStreamReader(Files.newInputStream(index), StandardCharsets.UTF_8.newDecoder())))) {
            json.setStrictness(Strictness.STRICT);
            Map<String, String> fileOf = null;
            json.beginObject();
            while (json.hasNext()) {
                if (!json.nextName().equals("weight_map")) {
                    json.skipValue();
                } else if (fileOf == null) {
                    fileOf = readWeightMap(json, index);
                } else {
                    throw new LaminaException(index + " has two weight_maps; download it again");
                }
            }
            json.endObject();
            json.peek(); // accepts nothing but white space up to the end
            if (fileOf == null || fileOf.isEmpty()) {
                throw new LaminaException(index + " has no weight_map; download it again");
            }
            return fileOf;
        } catch (MalformedJsonException | EOFException | CharacterCodingException | IllegalStateException
                | BoundedStrings.TooLongException e) {
            throw new LaminaException(index + " is not valid JSON; download it again", e);
        }
    }

    private static Map<String, String> readWeightMap(JsonReader json, Path index) throws IOException {
        Map<String, String> fileOf = new LinkedHashMap<>();
        Map<String, String> files = new LinkedHashMap<>();
        json.beginObject();
        while (json.hasNext()) {
            String tensor = json.nextName();
            if (json.peek() != JsonToken.STRING) {
                throw new LaminaException(index + " names no file for tensor " + FileErrors.quote(tensor)
                        + "; download it again");
            }
            String file = json.nextString();
            if (!files.containsKey(file)) {
                checkPlain(index, file);
                files.put(file, file);
            }
            if (fileOf.put(tensor, files.get(file)) != null) {
                throw new LaminaException(index + " lists tensor " + FileErrors.quote(tensor)
                        + " twice; download it again");
            }
            if (fileOf.size() > SafetensorsHeader.MAX_TENSORS) {
                throw new LaminaException(index + " lists more than " + SafetensorsHeader.MAX_TENSORS
                        + " tensors; download it again");
            }
        }
        json.endObject();
        return fileOf;
    }

    private static void checkPlain(Path index, String file) {
        try {
            index.resolveSibling(ShardManifest.plainName(file));
        } catch (IllegalArgumentException e) {
            throw new LaminaException(index + " names the file " + FileErrors.quote(file)
                    + ", which is not in the model's folder; download it again", e);
        }
    }

    private static Checkpoint loadShardSet(List<Path> folders, List<ShardManifest> manifests) throws IOException {
        Checkpoint checkpoint = new Checkpoint(folders, manifests);
        for (int folder = 0; folder < folders.size(); folder++) {
            for (ShardManifest.Shard shard : manifests.get(folder).shards()) {
                checkpoint.add(readShard(folders.get(folder).resolve(shard.file()), shard), folder);
            }
        }
        return checkpoint;
    }

    private static SafetensorsHeader readShard(Path file, ShardManifest.Shard shard) throws IOException {
        if (Files.isRegularFile(file) && Files.size(file) != shard.bytes()) {
            throw new LaminaException(file + " has " + Files.size(file) + " bytes instead of " + shard.bytes()
                    + ": it is truncated or was changed; split the model again");
        }
        SafetensorsHeader header = SafetensorsHeader.read(file);
        if (header.headerBytes() != shard.headerBytes() || header.checksum() != shard.headerChecksum()) {
            throw new LaminaException(file + " has a header that differs from what was written: it is damaged; "
                    + "split the model again");
        }
        return header;
    }

    private void add(WeightFile file, int folder) {
        folderOfFile.put(file.file(), folder);
        for (Tensor tensor : file.tensors()) {
            if (tensor.name().startsWith(SafetensorsLayout.PADDING_PREFIX)) {
                continue;
            }
            tensors.merge(tensor.name(), tensor, (before, next) -> join(before, next, folder));
            if (tensors.size() > SafetensorsHeader.MAX_TENSORS) {
                throw new LaminaException(directory() + " holds more than " + SafetensorsHeader.MAX_TENSORS
                        + " tensors; that is no language model");
            }
        }
    }

    /** Joins the rows of a tensor in the folders so far with those in the next. */
    private Tensor join(Tensor before, Tensor next, int folder) {
        Path last = before.parts().getLast().file();
        if (folder(last) == folder) {
            throw new LaminaException("tensor " + FileErrors.quote(next.name()) + " is in " + last
                    + " and in " + next.file() + "; " + (manifests.isEmpty() ? "download" : "split")
                    + " the model again");
        }
        try {
            return before.append(next);
        } catch (IllegalArgumentException e) {
            throw new LaminaException("tensor " + FileErrors.quote(next.name()) + " in " + next.file()
                    + " does not go on with that in " + last + ": " + e.getMessage() + "; split the model again", e);
        }
    }

    /** Returns the absolute path of the folder, of several that of the first part: configuration and tokenizer. */
    public Path directory() {
        return folders.getFirst();
    }

    /** Returns the absolute paths of all folders, in the order of their parts. */
    public List<Path> folders() {
        return folders;
    }

    /** Returns the number of the folder in {@link #folders} that a file of this checkpoint is in. */
    public int folder(Path file) {
        Integer folder = folderOfFile.get(file);
        if (folder == null) {
            throw new IllegalArgumentException(file + " is not a file of " + folders);
        }
        return folder;
    }

    /**
     * Returns a tensor that must be there.
     *
     * @throws LaminaException if it is not
     */
    public Tensor tensor(String name) {
        Tensor tensor = tensors.get(name);
        if (tensor == null) {
            throw new LaminaException(directory() + " has no tensor " + FileErrors.quote(name)
                    + "; its weights do not fit its config.json or are incomplete: download the model again");
        }
        return tensor;
    }

    /** Returns a tensor, or null if there is none of that name. */
    public @Nullable Tensor find(String name) {
        return tensors.get(name);
    }

    /** Returns all tensors, file by file in the order of their (first) offsets, fillers left out. */
    public Collection<Tensor> tensors() {
        return Collections.unmodifiableCollection(tensors.values());
    }

    /** Returns all weight files, folder by folder. */
    public List<Path> files() {
        return List.copyOf(folderOfFile.keySet());
    }

    /** Returns the weight files in one of {@link #folders}. */
    public List<Path> files(int folder) {
        return folderOfFile.keySet().stream().filter(file -> folder(file) == folder).toList();
    }

    /**
     * Returns the manifest of a shard set, of several folders that of the first: source and tool are those of all.
     * Null if the checkpoint is unsplit: then there are no checksums.
     */
    public @Nullable ShardManifest manifest() {
        return manifests.isEmpty() ? null : manifests.getFirst();
    }

    /** Returns the manifest of each of {@link #folders}; none if the checkpoint is unsplit. */
    public List<ShardManifest> manifests() {
        return manifests;
    }

    /**
     * Returns the checksums of a file of this checkpoint: CRC32C of each MiB [i MiB, (i + 1) MiB) of the whole file,
     * header included, the last of what is left. Null if the checkpoint is unsplit. The array must not be changed.
     */
    public int @Nullable [] checksums(Path file) {
        int folder = folder(file);
        if (manifests.isEmpty()) {
            return null;
        }
        String name = file.getFileName().toString();
        return manifests.get(folder).shards().stream()
                .filter(shard -> shard.file().equals(name))
                .findFirst().orElseThrow().checksums();
    }
}
