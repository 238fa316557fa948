package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.NativeFile;
import java.io.IOException;
import java.nio.file.Path;

/** Tells the kernel to forget files, so that what is timed next reads the drive and not memory. */
final class PageCache {
    private PageCache() {}

    /** Drops the clean pages of a file that nobody has mapped, where the system can. */
    static void drop(Path file) throws IOException {
        try (var open = NativeFile.open(file, false)) {
            open.forget(0, 0);
        }
    }
}
