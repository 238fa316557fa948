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
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/**
 * The tensors of a folder by name: one safetensors file, several with an index, or a shard set. Headers, index and
 * manifest are checked when it is opened; the tensors themselves are not read.
 *
 * <p>Immutable; any thread may use it. It holds no open file.
 */
public final class Checkpoint {
    /** Name of the index of a checkpoint of several files. */
    public static final String INDEX_FILE_NAME = "model.safetensors.index.json";

    private static final String SINGLE_FILE_NAME = "model.safetensors";
    private static final long MAX_INDEX_BYTES = 100_000_000;

    private final Path directory;
    private final Map<String, Tensor> tensors = new LinkedHashMap<>();
    private final List<Path> files = new ArrayList<>();
    private final @Nullable ShardManifest manifest;

    private Checkpoint(Path directory, @Nullable ShardManifest manifest) {
        this.directory = directory;
        this.manifest = manifest;
    }

    /**
     * Opens the checkpoint in a folder.
     *
     * @param directory a model's folder, or a shard set
     * @throws LaminaException if there is none, it cannot be read, or it is not sound
     */
    public static Checkpoint open(Path directory) {
        try {
            return load(directory.toAbsolutePath());
        } catch (IOException e) {
            throw FileErrors.explain("cannot open the model in " + directory, e);
        } catch (DirectoryIteratorException e) {
            throw FileErrors.explain("cannot open the model in " + directory, e.getCause());
        }
    }

    private static Checkpoint load(Path directory) throws IOException {
        if (!Files.isDirectory(directory)) {
            throw new LaminaException(directory + (Files.exists(directory)
                    ? " is a file; give the folder of the model"
                    : " does not exist; give the folder of a model"));
        }
        TreeSet<String> names = new TreeSet<>();
        try (DirectoryStream<Path> entries = Files.newDirectoryStream(directory)) {
            entries.forEach(entry -> names.add(entry.getFileName().toString()));
        }
        if (names.contains(ShardManifest.FILE_NAME)) {
            return loadShardSet(directory);
        }
        if (names.contains(ShardManifest.FILE_NAME + DurableFiles.PARTIAL)) {
            throw new LaminaException(directory + " holds a split that was not finished; run the same split again");
        }
        // the order in which other readers look
        if (names.contains(SINGLE_FILE_NAME)) {
            return loadSingle(directory, SINGLE_FILE_NAME);
        }
        if (names.contains(INDEX_FILE_NAME)) {
            return loadIndexed(directory);
        }
        List<String> candidates = names.stream().filter(name -> name.endsWith(".safetensors")).toList();
        if (candidates.size() == 1) {
            return loadSingle(directory, candidates.getFirst());
        }
        throw new LaminaException(directory + " " + nothingToOpen(names, candidates.size()));
    }

    private static String nothingToOpen(Collection<String> names, int candidates) {
        if (candidates > 1) {
            return "holds " + candidates + " safetensors files but no " + INDEX_FILE_NAME + "; download that file too";
        }
        boolean pickled = names.stream().anyMatch(name -> name.endsWith(".bin") || name.endsWith(".pt")
                || name.endsWith(".pth"));
        if (pickled) {
            return "holds PyTorch weights (.bin), which are not supported yet; convert them to safetensors";
        }
        if (names.stream().anyMatch(name -> name.endsWith(".gguf"))) {
            return "holds GGUF weights, which are not supported; use the safetensors version of the model";
        }
        return "holds no weights; it needs " + SINGLE_FILE_NAME + " or " + INDEX_FILE_NAME + " and its files";
    }

    private static Checkpoint loadSingle(Path directory, String name) throws IOException {
        Checkpoint checkpoint = new Checkpoint(directory, null);
        checkpoint.add(SafetensorsHeader.read(directory.resolve(name)));
        return checkpoint;
    }

    private static Checkpoint loadIndexed(Path directory) throws IOException {
        Path index = directory.resolve(INDEX_FILE_NAME);
        Map<String, String> fileOf = readIndex(index);
        Checkpoint checkpoint = new Checkpoint(directory, null);
        for (String name : new TreeSet<>(fileOf.values())) {
            checkpoint.add(SafetensorsHeader.read(directory.resolve(name)));
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

    private static Checkpoint loadShardSet(Path directory) throws IOException {
        ShardManifest manifest = ShardManifest.read(directory.resolve(ShardManifest.FILE_NAME));
        Checkpoint checkpoint = new Checkpoint(directory, manifest);
        for (ShardManifest.Shard shard : manifest.shards()) {
            Path file = directory.resolve(shard.file());
            if (Files.isRegularFile(file) && Files.size(file) != shard.bytes()) {
                throw new LaminaException(file + " has " + Files.size(file) + " bytes instead of " + shard.bytes()
                        + ": it is truncated or was changed; split the model again");
            }
            SafetensorsHeader header = SafetensorsHeader.read(file);
            if (header.headerBytes() != shard.headerBytes() || header.checksum() != shard.headerChecksum()) {
                throw new LaminaException(file + " has a header that differs from what was written: it is damaged; "
                        + "split the model again");
            }
            checkpoint.add(header);
        }
        return checkpoint;
    }

    private void add(SafetensorsHeader header) {
        files.add(header.file());
        for (Tensor tensor : header.tensors()) {
            if (tensor.name().startsWith(SafetensorsLayout.PADDING_PREFIX)) {
                continue;
            }
            Tensor other = tensors.put(tensor.name(), tensor);
            if (other != null) {
                throw new LaminaException("tensor " + FileErrors.quote(tensor.name()) + " is in " + other.file()
                        + " and in " + tensor.file() + "; download the model again");
            }
            if (tensors.size() > SafetensorsHeader.MAX_TENSORS) {
                throw new LaminaException(directory + " holds more than " + SafetensorsHeader.MAX_TENSORS
                        + " tensors; that is no language model");
            }
        }
    }

    /** Returns the absolute path of the folder. */
    public Path directory() {
        return directory;
    }

    /**
     * Returns a tensor that must be there.
     *
     * @throws LaminaException if it is not
     */
    public Tensor tensor(String name) {
        Tensor tensor = tensors.get(name);
        if (tensor == null) {
            throw new LaminaException(directory + " has no tensor " + FileErrors.quote(name)
                    + "; its weights do not fit its config.json or are incomplete: download the model again");
        }
        return tensor;
    }

    /** Returns a tensor, or null if there is none of that name. */
    public @Nullable Tensor find(String name) {
        return tensors.get(name);
    }

    /** Returns all tensors, file by file in the order of their offsets, fillers left out. */
    public Collection<Tensor> tensors() {
        return Collections.unmodifiableCollection(tensors.values());
    }

    /** Returns all weight files. */
    public List<Path> files() {
        return Collections.unmodifiableList(files);
    }

    /** Returns the manifest of a shard set, or null: an unsplit checkpoint has none, and no checksums. */
    public @Nullable ShardManifest manifest() {
        return manifest;
    }

    /**
     * Returns the checksums of a file of this checkpoint: CRC32C of each MiB [i MiB, (i + 1) MiB) of the whole file,
     * header included, the last of what is left. Null if the checkpoint is unsplit. The array must not be changed.
     */
    public int @Nullable [] checksums(Path file) {
        if (manifest == null) {
            return null;
        }
        String name = file.getFileName().toString();
        for (ShardManifest.Shard shard : manifest.shards()) {
            if (shard.file().equals(name)) {
                return shard.checksums();
            }
        }
        throw new IllegalArgumentException(file + " is not a file of " + directory);
    }
}
