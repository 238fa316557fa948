package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.HostMemory;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** What a drive gives to the best raw reader: the rate of the theoretical line. */
final class RawRate {
    private static final long MOST_BYTES = 1L << 30;
    private static final int CHUNK = 8 << 20;
    private static final List<Integer> DEPTHS = List.of(1, 2, 4);

    private RawRate() {}

    /** Bytes a second of the best of several readers, each of which reads the files once, or the first GiB of them. */
    static double measure(RawReader.Mode mode, List<Path> files, HostMemory memory)
            throws IOException, InterruptedException {
        long bytes = Math.min(MOST_BYTES, SyntheticCheckpoint.bytes(files));
        double best = 0;
        for (int depth : DEPTHS) {
            try (var reader = RawReader.open(mode, files, CHUNK, depth, Limit.NONE, memory)) {
                best = Math.max(best, reader.read(bytes).rate());
            }
        }
        return best;
    }
}
