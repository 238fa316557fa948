package dev.lamina.internal.checkpoint;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.UUID;

/**
 * Writes a safetensors file piece by piece: the header at once, parts of the tensors in any order. The file gets its
 * name in {@link #commit}, when all of it is on disk; a writer that is closed before leaves nothing behind.
 *
 * <p>Not thread-safe.
 */
public final class SafetensorsWriter implements AutoCloseable {
    private final Path target;
    private final Path temporary;
    private final SafetensorsLayout layout;
    private final FileChannel channel;
    private long missing;
    private boolean committed;

    private SafetensorsWriter(Path target, SafetensorsLayout layout) throws IOException {
        this.target = target;
        // A name that nobody else has: not a file of the user's, and not that of another process with the same target.
        this.temporary = target.resolveSibling(target.getFileName() + "." + UUID.randomUUID() + DurableFiles.PARTIAL);
        this.layout = layout;
        this.channel = FileChannel.open(temporary, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
        this.missing = layout.fileBytes() - layout.headerBytes();
    }

    /**
     * Begins a file.
     *
     * @param target where it will be; replaced if it exists
     * @param layout its tensors, without fillers ({@link SafetensorsLayout#packed})
     * @throws IOException if it cannot be written
     */
    public static SafetensorsWriter create(Path target, SafetensorsLayout layout) throws IOException {
        if (Files.isDirectory(target)) {
            throw new IOException(target + " is a folder; give the name of a file");
        }
        SafetensorsWriter writer = new SafetensorsWriter(target, layout);
        try {
            DurableFiles.writeFully(writer.channel, ByteBuffer.wrap(layout.header()), 0);
        } catch (IOException e) {
            writer.close();
            throw e;
        }
        return writer;
    }

    /**
     * Writes a part of a tensor. Each byte is written once.
     *
     * @param tensor index of the tensor in the layout
     * @param position first byte inside the tensor
     * @param data little-endian elements; consumed
     */
    public void write(int tensor, long position, ByteBuffer data) throws IOException {
        long bytes = layout.entries().get(tensor).bytes();
        if (position < 0 || position > bytes - data.remaining()) {
            throw new IllegalArgumentException("bytes [" + position + ", " + (position + data.remaining())
                    + ") are outside of tensor " + layout.entries().get(tensor).name() + " of " + bytes + " bytes");
        }
        missing -= data.remaining();
        DurableFiles.writeFully(channel, data, layout.offset(tensor) + position);
    }

    /** Syncs the file and gives it its name. */
    public void commit() throws IOException {
        if (missing != 0) {
            throw new IllegalStateException(target + " lacks " + missing + " bytes of its tensors");
        }
        channel.force(true);
        channel.close();
        DurableFiles.publish(temporary, target);
        committed = true;
    }

    /** Closes the file, and removes it unless it was committed. */
    @Override
    public void close() throws IOException {
        channel.close();
        if (!committed) {
            Files.deleteIfExists(temporary);
        }
    }
}
