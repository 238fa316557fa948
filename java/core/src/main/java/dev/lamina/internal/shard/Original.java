package dev.lamina.internal.shard;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.ShardManifest;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.checkpoint.TorchFile;
import dev.lamina.internal.checkpoint.WeightFile;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/** The folder that a split reads: which model it is, and how its files are given back to the disk. */
final class Original {
    private static final int SAMPLES = 1024;
    private static final int SAMPLE_BYTES = 4096;

    private final Path model;

    Original(Path model) {
        this.model = model;
    }

    /**
     * Describes a checkpoint so that it can be told from others. Fine-tuned models have equal configurations and tensor
     * lists, therefore a few KiB from the middle of many tensors count too.
     */
    ShardManifest.Source describe(Checkpoint checkpoint) throws IOException {
        List<ShardManifest.SourceFile> files = new ArrayList<>();
        for (Path file : checkpoint.files()) {
            files.add(describe(file, checkpoint.files().size()));
        }
        String config = configHash();
        MessageDigest identity = sha256();
        update(identity, config);
        tensorLines(checkpoint.tensors()).forEach(line -> update(identity, line));
        files.forEach(file -> update(identity, file.name() + '\t' + file.bytes() + '\t' + file.sample()));
        return new ShardManifest.Source(name(), hex(identity), config, List.copyOf(files));
    }

    private static ShardManifest.SourceFile describe(Path file, int files) throws IOException {
        WeightFile weights = WeightFile.read(file);
        int step = Math.ceilDiv(Math.max(1, weights.tensors().size()), Math.max(16, SAMPLES / files));
        MessageDigest sample = sha256();
        ByteBuffer buffer = ByteBuffer.allocate(SAMPLE_BYTES);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            for (int i = 0; i < weights.tensors().size(); i += step) {
                Tensor tensor = weights.tensors().get(i);
                buffer.clear().limit((int) Math.min(SAMPLE_BYTES, tensor.bytes()));
                long position = tensor.offset() + (tensor.bytes() - buffer.limit()) / 2;
                while (buffer.hasRemaining()) {
                    if (channel.read(buffer, position + buffer.position()) < 0) {
                        throw new IOException(file + " became shorter while it was read");
                    }
                }
                sample.update(buffer.flip());
            }
        }
        return new ShardManifest.SourceFile(file.getFileName().toString(), weights.fileBytes(), hex(sample));
    }

    private static TreeSet<String> tensorLines(Collection<Tensor> tensors) {
        TreeSet<String> lines = new TreeSet<>();
        tensors.forEach(tensor -> lines.add(tensor.name() + '\t' + tensor.dtype() + '\t' + tensor.shape()));
        return lines;
    }

    private String configHash() throws IOException {
        Path config = model.resolve("config.json");
        MessageDigest hash = sha256();
        if (Files.isRegularFile(config)) {
            try (var stream = new DigestInputStream(Files.newInputStream(config), hash)) {
                stream.transferTo(OutputStream.nullOutputStream());
            }
        }
        return hex(hash);
    }

    /** Returns the name of the model: that of the hub, if it lies in the hub's cache, or else of the folder. */
    private String name() {
        Path snapshots = model.getParent();
        if (snapshots != null && snapshots.endsWith("snapshots") && snapshots.getParent() != null) {
            String cached = snapshots.getParent().getFileName().toString();
            if (cached.startsWith("models--")) {
                return cached.substring("models--".length()).replace("--", "/");
            }
        }
        return String.valueOf(model.getFileName());
    }

    /**
     * Makes sure that this is the model that a shard set was made from, even if weight files of it were deleted since.
     * The same model in another format may lie beside them.
     *
     * @param recorded what was noted of the source
     * @param tensors its tensors
     * @param out a folder of the shard set
     * @throws LaminaException if it is another one
     */
    void checkSame(ShardManifest.Source recorded, Collection<Tensor> tensors, Path out) throws IOException {
        boolean complete = recorded.files().stream().allMatch(file -> Files.exists(model.resolve(file.name())));
        Checkpoint checkpoint = openIfWhole(complete);
        if (checkpoint != null && isOfFormat(recorded, checkpoint)
                && (complete || tensorLines(checkpoint.tensors()).equals(tensorLines(tensors)))) {
            if (!describe(checkpoint).identity().equals(recorded.identity())) {
                throw other(recorded, out);
            }
            return;
        }
        boolean same = configHash().equals(recorded.config());
        for (ShardManifest.SourceFile file : recorded.files()) {
            Path present = model.resolve(file.name());
            same = same && (!Files.exists(present) || describe(present, recorded.files().size()).equals(file));
        }
        if (!same) {
            throw other(recorded, out);
        }
    }

    private static boolean isOfFormat(ShardManifest.Source recorded, Checkpoint checkpoint) {
        return recorded.files().stream().anyMatch(file -> WeightFile.isTorch(Path.of(file.name())))
                == checkpoint.files().stream().anyMatch(WeightFile::isTorch);
    }

    private @Nullable Checkpoint openIfWhole(boolean mustOpen) {
        try {
            return Checkpoint.open(model);
        } catch (LaminaException e) {
            if (mustOpen) {
                throw e;
            }
            return null;
        }
    }

    private LaminaException other(ShardManifest.Source recorded, Path out) {
        return new LaminaException(out + " holds a split of another model (" + recorded.name()
                + ", with a different config.json or other weights); choose another folder for " + model);
    }

    /** Returns why a weight file will not be deleted, or null if it can be. */
    @Nullable String reasonToKeep(Path file) throws IOException {
        if (WeightFile.isTorch(file) && WeightFile.read(file) instanceof TorchFile torch && torch.rest() != null) {
            return file + " also holds " + torch.rest() + ", which is no weight of the model";
        }
        if (!Files.isSymbolicLink(file)) {
            return null;
        }
        Path blob = file.toRealPath();
        Path self = file.getParent().toRealPath().resolve(file.getFileName());
        Path repository = blob.getParent().getParent();
        if (!blob.getParent().endsWith("blobs") || repository == null
                || !self.startsWith(repository.resolve("snapshots"))) {
            return file + " is a link to " + blob + ", which is not in a hub cache";
        }
        try (Stream<Path> entries = Files.walk(repository.resolve("snapshots"))) {
            for (Path entry : (Iterable<Path>) entries::iterator) {
                if (Files.isSymbolicLink(entry) && Files.exists(entry) && !entry.equals(self)
                        && entry.toRealPath().equals(blob)) {
                    return file + " is also used by " + entry;
                }
            }
        }
        return null;
    }

    /** Returns the bytes that deleting a file gives back to the file system of a folder. */
    long bytesFreed(Path file, Path folder) throws IOException {
        boolean frees = reasonToKeep(file) == null && links(file) == 1
                && Files.getFileStore(file).equals(Files.getFileStore(folder));
        return frees ? Files.size(file) : 0;
    }

    private static int links(Path file) throws IOException {
        try {
            return (Integer) Files.getAttribute(file, "unix:nlink");
        } catch (UnsupportedOperationException | IllegalArgumentException e) {
            return 1;
        }
    }

    /** Deletes a weight file, in a hub cache the blob behind the link and then the link. */
    static void delete(Path file) throws IOException {
        if (Files.isSymbolicLink(file)) {
            if (Files.exists(file)) {
                Files.delete(file.toRealPath());
            }
            Files.delete(file);
        } else {
            Files.delete(file);
        }
    }

    /** Returns the SHA-256 of a text in hex. */
    static String hash(String text) {
        MessageDigest digest = sha256();
        update(digest, text);
        return hex(digest);
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    private static void update(MessageDigest digest, String line) {
        digest.update((line + '\n').getBytes(StandardCharsets.UTF_8));
    }

    private static String hex(MessageDigest digest) {
        return HexFormat.of().formatHex(digest.digest());
    }
}
