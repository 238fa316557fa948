package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.HostMemory;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** What a drive gives to the best raw reader: the rate of the theoretical line. */
final class RawRate {
    private static final long MOST_BYTES = 1L << 30;

    private RawRate() {}

    /**
     * Bytes a second of the best of several readers, each of which reads the files once, or 1 GiB of them.
     *
     * @param direct whether the file system has reads past the page cache
     */
    static double measure(List<Path> files, boolean direct, HostMemory memory)
            throws IOException, InterruptedException {
        long bytes = Math.min(MOST_BYTES, SyntheticCheckpoint.bytes(files));
        double best = 0;
        for (var reader : RawReader.openBest(files, direct, memory)) {
            if (!direct) { // each is to find as little in the page cache as the first
                for (var file : files) {
                    PageCache.drop(file);
                }
            }
            try (reader) {
                best = Math.max(best, reader.read(bytes).rate());
            }
        }
        return best;
    }
}
