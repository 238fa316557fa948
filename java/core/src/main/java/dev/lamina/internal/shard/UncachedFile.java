package dev.lamina.internal.shard;

import com.sun.nio.file.ExtendedOpenOption;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** Reads a file past the page cache, so that what is read is what is on disk; through it where there is no such way. */
final class UncachedFile implements AutoCloseable {
    /** Alignment of positions and buffers. */
    static final int ALIGNMENT = 4096;

    private final boolean direct;
    private final FileChannel channel;

    private UncachedFile(boolean direct, FileChannel channel) {
        this.direct = direct;
        this.channel = channel;
    }

    static UncachedFile open(Path path) throws IOException {
        if (Files.getFileStore(path).getBlockSize() <= ALIGNMENT) {
            try {
                return new UncachedFile(true,
                        FileChannel.open(path, StandardOpenOption.READ, ExtendedOpenOption.DIRECT));
            } catch (IOException | UnsupportedOperationException e) {
                // this file system has no direct reads
            }
        }
        return new UncachedFile(false, FileChannel.open(path, StandardOpenOption.READ));
    }

    /** Returns a buffer that any such file can be read into. */
    static ByteBuffer buffer(int bytes) {
        return ByteBuffer.allocateDirect(bytes + ALIGNMENT).alignedSlice(ALIGNMENT).limit(bytes).slice();
    }

    /**
     * Fills a buffer from its start, up to the end of the file, and flips it.
     *
     * @param position first byte, a multiple of {@link #ALIGNMENT}
     * @param bytes how many bytes are wanted, at most the capacity
     */
    void read(ByteBuffer buffer, long position, int bytes) throws IOException {
        int window = direct ? Math.ceilDiv(bytes, ALIGNMENT) * ALIGNMENT : bytes;
        buffer.clear().limit(window);
        while (buffer.position() < bytes) {
            int count = channel.read(buffer, position + buffer.position());
            if (count < 0) {
                break;
            }
            if (direct && buffer.position() % ALIGNMENT != 0) {
                // only the end of the file cuts a direct read off there
                break;
            }
        }
        buffer.flip();
        if (buffer.limit() > bytes) {
            buffer.limit(bytes);
        }
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }
}
