package dev.lamina.cli;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.stream.DiskRate;
import dev.lamina.internal.stream.IoMode;
import java.io.IOException;
import java.nio.file.Path;

/** What the drive of a model can do, which a profile compares its reads with. */
final class DiskProbe {
    /** Says that the rate is not known. */
    static final double UNKNOWN = 0;

    private static final int READERS = 4;
    private static final long MOST_BYTES = 4L << 30;
    private static final double MOST_SECONDS = 1;

    private DiskProbe() {}

    /** Reads the files of a model for a second at most. Returns bytes per second. */
    static double bytesPerSecond(Path directory) throws InterruptedException {
        try (var device = Device.openCpu(1)) {
            return DiskRate.measure(Checkpoint.open(directory).files(), IoMode.AUTO, READERS, MOST_BYTES, MOST_SECONDS,
                    device).bytesPerSecond();
        } catch (IOException e) {
            throw FileErrors.explain("cannot read the model in " + directory, e);
        }
    }
}
