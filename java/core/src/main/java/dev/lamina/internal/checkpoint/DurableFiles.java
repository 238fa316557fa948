package dev.lamina.internal.checkpoint;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.UUID;

/** Files that are whole or absent: written under a temporary name, synced, renamed, their folder synced. */
public final class DurableFiles {
    /** What the temporary name of a file ends with. */
    public static final String PARTIAL = ".partial";

    private static final boolean WINDOWS = System.getProperty("os.name", "").startsWith("Windows");

    private DurableFiles() {}

    /** Returns the temporary name beside a file. */
    public static Path partial(Path target) {
        return target.resolveSibling(target.getFileName() + PARTIAL);
    }

    /** Writes a whole file; after a crash the target has its old content or the new one. */
    public static void write(Path target, byte[] content) throws IOException {
        write(target, partial(target), content);
    }

    /**
     * Writes a whole file in a folder of the user's, under a temporary name that nobody else has; replaces what was
     * there.
     */
    public static void replace(Path target, byte[] content) throws IOException {
        if (Files.isDirectory(target)) {
            throw new IOException(target + " is a folder; give the name of a file");
        }
        write(target, target.resolveSibling(target.getFileName() + "." + UUID.randomUUID() + PARTIAL), content);
    }

    private static void write(Path target, Path temporary, byte[] content) throws IOException {
        try {
            try (FileChannel channel = FileChannel.open(temporary, StandardOpenOption.CREATE,
                    StandardOpenOption.TRUNCATE_EXISTING, StandardOpenOption.WRITE)) {
                writeFully(channel, ByteBuffer.wrap(content), 0);
                channel.force(true);
            }
            publish(temporary, target);
        } catch (IOException e) {
            deleteAfter(e, temporary);
            throw e;
        }
    }

    /** Gives a synced file its final name and syncs the folder. */
    public static void publish(Path temporary, Path target) throws IOException {
        Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
        syncDirectory(target.toAbsolutePath().getParent());
    }

    /** Makes the names in a folder durable. Windows cannot open folders and needs no such call. */
    public static void syncDirectory(Path directory) throws IOException {
        if (WINDOWS) {
            return;
        }
        try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }

    /** Writes the rest of a buffer at a position of a file. */
    public static void writeFully(FileChannel channel, ByteBuffer data, long position) throws IOException {
        long at = position;
        while (data.hasRemaining()) {
            at += channel.write(data, at);
        }
    }

    /** Deletes a temporary file because of a failure, which stays the one that is reported. */
    static void deleteAfter(Exception failure, Path temporary) {
        try {
            Files.deleteIfExists(temporary);
        } catch (IOException e) {
            failure.addSuppressed(e);
        }
    }
}
