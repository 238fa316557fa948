package dev.lamina.internal.checkpoint;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.extension.AnnotatedElementContext;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.io.TempDirFactory;

/** Temporary folders in memory where there is some, for tests that write or sync thousands of files. */
public final class FastDisk implements TempDirFactory {
    @Override
    public Path createTempDirectory(AnnotatedElementContext element, ExtensionContext context) throws IOException {
        Path memory = Path.of("/dev/shm");
        boolean usable = Files.isWritable(memory) && Files.getFileStore(memory).getUsableSpace() > 48 << 20;
        return usable ? Files.createTempDirectory(memory, "lamina") : Files.createTempDirectory("lamina");
    }
}
