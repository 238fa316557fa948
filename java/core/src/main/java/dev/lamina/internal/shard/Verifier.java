package dev.lamina.internal.shard;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.checkpoint.ShardManifest;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32C;

/** Reads all of a shard set from the disk and compares it with its checksums. */
public final class Verifier {
    private Verifier() {}

    /**
     * A file that differs from what was written.
     *
     * @param file the file
     * @param offset start of the first chunk that differs
     * @param chunks number of chunks that differ, of {@link ShardManifest#CHUNK_BYTES} each
     */
    public record Damage(Path file, long offset, int chunks) {}

    /**
     * Verifies a shard set.
     *
     * @param set an opened shard set
     * @param listener hears of the progress
     * @return the damaged files; empty if the set is sound
     * @throws LaminaException if the checkpoint is unsplit and so has no checksums, or cannot be read
     */
    public static List<Damage> verify(Checkpoint set, SplitListener listener) {
        if (set.manifest() == null) {
            throw new LaminaException(set.directory() + " is not split and has no checksums to verify; split it first");
        }
        Map<Path, ShardManifest.Shard> shards = new LinkedHashMap<>();
        for (int folder = 0; folder < set.folders().size(); folder++) {
            Path directory = set.folders().get(folder);
            set.manifests().get(folder).shards().forEach(shard -> shards.put(directory.resolve(shard.file()), shard));
        }
        long total = shards.values().stream().mapToLong(ShardManifest.Shard::bytes).sum();
        long done = 0;
        listener.progress(SplitListener.Phase.VERIFY, done, total);
        List<Damage> damages = new ArrayList<>();
        ByteBuffer buffer = UncachedFile.buffer(ShardManifest.CHUNK_BYTES);
        CRC32C checksum = new CRC32C();
        for (var entry : shards.entrySet()) {
            Path path = entry.getKey();
            ShardManifest.Shard shard = entry.getValue();
            long first = -1;
            int damaged = 0;
            try (UncachedFile file = UncachedFile.open(path)) {
                for (int i = 0; i < shard.checksums().length; i++) {
                    long offset = (long) i * ShardManifest.CHUNK_BYTES;
                    int wanted = (int) Math.min(ShardManifest.CHUNK_BYTES, shard.bytes() - offset);
                    file.read(buffer, offset, wanted);
                    checksum.reset();
                    checksum.update(buffer.duplicate());
                    if (buffer.limit() < wanted || (int) checksum.getValue() != shard.checksums()[i]) {
                        first = first < 0 ? offset : first;
                        damaged++;
                    }
                    done += wanted;
                    listener.progress(SplitListener.Phase.VERIFY, done, total);
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
}
