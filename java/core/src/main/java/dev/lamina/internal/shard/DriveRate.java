package dev.lamina.internal.shard;

import com.sun.nio.file.ExtendedOpenOption;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.EnumSet;
import java.util.HashSet;
import java.util.Set;
import java.util.SplittableRandom;

/**
 * How fast a drive can be read: a file is written to it for a moment and read back, past the page cache where the file
 * system allows that. The file has no name by the time it is written, so that not even a killed process leaves it.
 */
final class DriveRate {
    private static final int REQUEST_BYTES = 8 << 20;

    /** More than the caches of hard disks, so that what was written first is no longer in them. */
    private static final long MOST_BYTES = 512L << 20;

    private static final int SHARE_OF_FREE_SPACE = 8;
    private static final double MOST_SECONDS_TO_WRITE = 3;
    private static final double MOST_SECONDS_TO_READ = 1;

    private DriveRate() {}

    /**
     * Measures the drive of a folder.
     *
     * @param usableBytes what is free there, of which a part is used
     * @return bytes per second, at least 1
     */
    static long measure(Path folder, long usableBytes) throws IOException {
        ByteBuffer buffer = UncachedFile.buffer(REQUEST_BYTES);
        // drives and file systems that compress would otherwise tell how fast they are at that
        SplittableRandom random = new SplittableRandom();
        while (buffer.hasRemaining()) {
            buffer.putLong(random.nextLong());
        }
        long most = Math.max(REQUEST_BYTES, Math.min(MOST_BYTES, usableBytes / SHARE_OF_FREE_SPACE));
        Path file = folder.resolve(".lamina-rate-" + Long.toHexString(random.nextLong()));
        try (FileChannel channel = open(file)) {
            long written = 0;
            for (long start = System.nanoTime(); written < most && seconds(start) < MOST_SECONDS_TO_WRITE;) {
                buffer.rewind();
                while (buffer.hasRemaining()) {
                    written += channel.write(buffer, written);
                }
            }
            channel.force(true);
            long read = 0;
            long start = System.nanoTime();
            while (read < written && seconds(start) < MOST_SECONDS_TO_READ) {
                buffer.rewind();
                while (buffer.hasRemaining()) {
                    read += Math.max(0, channel.read(buffer, read));
                }
            }
            return Math.max(1, Math.round(read / seconds(start)));
        }
    }

    private static FileChannel open(Path file) throws IOException {
        Set<OpenOption> options = new HashSet<>(EnumSet.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.READ,
                StandardOpenOption.WRITE, StandardOpenOption.DELETE_ON_CLOSE));
        if (Files.getFileStore(file.getParent()).getBlockSize() <= UncachedFile.ALIGNMENT) {
            options.add(ExtendedOpenOption.DIRECT);
            try {
                return FileChannel.open(file, options);
            } catch (IOException | UnsupportedOperationException e) {
                // this file system has no direct reads
                Files.deleteIfExists(file);
                options.remove(ExtendedOpenOption.DIRECT);
            }
        }
        return FileChannel.open(file, options);
    }

    private static double seconds(long startNanos) {
        return Math.max(1, System.nanoTime() - startNanos) * 1e-9;
    }
}
