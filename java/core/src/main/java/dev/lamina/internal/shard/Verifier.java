package dev.lamina.internal.shard;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.checkpoint.ShardManifest;
import dev.lamina.internal.checkpoint.TorchFile;
import dev.lamina.internal.checkpoint.WeightFile;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32;
import java.util.zip.CRC32C;
import java.util.zip.Checksum;

/** Reads all of a checkpoint from the disk and compares it with the checksums that it carries. */
public final class Verifier {
    private static final int BUFFER_BYTES = 8 << 20;

    private Verifier() {}

    /**
     * A file that differs from what was written.
     *
     * @param file the file
     * @param offset start of the first piece that differs
     * @param pieces number of pieces that differ: of a shard, chunks of {@link ShardManifest#CHUNK_BYTES}; of a file of
     *     PyTorch, entries
     */
    public record Damage(Path file, long offset, int pieces) {}

    private record Piece(long offset, long bytes, int checksum) {}

    /**
     * Whether there is something to compare with: shards have a CRC32C of each MiB, files of PyTorch a CRC-32 of each
     * storage, unless they were written without.
     *
     * @throws LaminaException if the checkpoint cannot be read
     */
    public static boolean hasChecksums(Checkpoint checkpoint) {
        return checkpoint.manifest() != null || !entries(checkpoint).isEmpty();
    }

    /**
     * Verifies a checkpoint.
     *
     * @param checkpoint an opened checkpoint
     * @param listener hears of the progress
     * @return the damaged files; empty if the checkpoint is sound
     * @throws LaminaException if it has no checksums, or cannot be read
     */
    public static List<Damage> verify(Checkpoint checkpoint, SplitListener listener) {
        boolean split = checkpoint.manifest() != null;
        Map<Path, List<Piece>> files = split ? chunks(checkpoint) : entries(checkpoint);
        if (!split && files.isEmpty()) {
            throw new LaminaException(checkpoint.directory()
                    + " is not split and has no checksums to verify; split it first");
        }
        Checksum checksum = split ? new CRC32C() : new CRC32();
        long total = files.values().stream().flatMap(List::stream).mapToLong(Piece::bytes).sum();
        long done = 0;
        listener.progress(SplitListener.Phase.VERIFY, done, total);
        List<Damage> damages = new ArrayList<>();
        ByteBuffer buffer = UncachedFile.buffer(BUFFER_BYTES);
        for (var entry : files.entrySet()) {
            Path path = entry.getKey();
            long first = -1;
            int damaged = 0;
            try (UncachedFile file = UncachedFile.open(path)) {
                for (Piece piece : entry.getValue()) {
                    checksum.reset();
                    boolean whole = true;
                    long end = piece.offset() + piece.bytes();
                    for (long at = piece.offset(); at < end && whole;) {
                        int skipped = (int) (at % UncachedFile.ALIGNMENT);
                        int wanted = (int) Math.min(BUFFER_BYTES, end - at + skipped);
                        file.read(buffer, at - skipped, wanted);
                        whole = buffer.limit() == wanted;
                        checksum.update(buffer.position(Math.min(skipped, buffer.limit())));
                        at += wanted - skipped;
                        done += wanted - skipped;
                        listener.progress(SplitListener.Phase.VERIFY, done, total);
                    }
                    if (!whole || (int) checksum.getValue() != piece.checksum()) {
                        first = first < 0 ? piece.offset() : first;
                        damaged++;
                    }
                }
            } catch (IOException e) {
                throw FileErrors.explain("cannot verify " + path, e);
            }
            if (damaged > 0) {
                damages.add(new Damage(path, first, damaged));
            }
        }
        return damages;
    }

    private static Map<Path, List<Piece>> chunks(Checkpoint set) {
        Map<Path, List<Piece>> chunks = new LinkedHashMap<>();
        for (int folder = 0; folder < set.folders().size(); folder++) {
            Path directory = set.folders().get(folder);
            for (ShardManifest.Shard shard : set.manifests().get(folder).shards()) {
                List<Piece> pieces = new ArrayList<>();
                for (int i = 0; i < shard.checksums().length; i++) {
                    long offset = (long) i * ShardManifest.CHUNK_BYTES;
                    pieces.add(new Piece(offset, Math.min(ShardManifest.CHUNK_BYTES, shard.bytes() - offset),
                            shard.checksums()[i]));
                }
                chunks.put(directory.resolve(shard.file()), pieces);
            }
        }
        return chunks;
    }

    /** Returns what files of PyTorch have checksums of; nothing if one of the files has none. */
    private static Map<Path, List<Piece>> entries(Checkpoint checkpoint) {
        Map<Path, List<Piece>> entries = new LinkedHashMap<>();
        for (Path file : checkpoint.files()) {
            try {
                // torch.serialization.set_crc32_options(False) leaves zeros
                if (!(WeightFile.read(file) instanceof TorchFile torch)
                        || torch.entries().stream().allMatch(entry -> entry.crc32() == 0)) {
                    return Map.of();
                }
                entries.put(file, torch.entries().stream()
                        .map(entry -> new Piece(entry.offset(), entry.bytes(), entry.crc32()))
                        .toList());
            } catch (IOException e) {
                throw FileErrors.explain("cannot read " + file, e);
            }
        }
        return entries;
    }
}
