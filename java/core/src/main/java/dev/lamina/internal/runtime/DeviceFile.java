package dev.lamina.internal.runtime;

import dev.lamina.bindings.lamina_h;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;

/**
 * A file that is read into memory of a device, on a GPU by cuFile (GPUDirect Storage). Any number of threads may read
 * it at the same time; it is closed when none does, and before its device.
 */
public final class DeviceFile implements AutoCloseable {
    private final Path path;
    private final MemorySegment handle;
    private final boolean direct;
    private boolean closed;

    private DeviceFile(Path path, MemorySegment handle, boolean direct) {
        this.path = path;
        this.handle = handle;
        this.direct = direct;
    }

    /**
     * Opens a regular file.
     *
     * @throws UnsupportedOperationException there is no cuFile here, or it cannot read this file; the message says why
     * @throws IOException the file cannot be opened
     */
    static DeviceFile open(MemorySegment device, Path path) throws IOException {
        try (var arena = Arena.ofConfined()) {
            var name = arena.allocateFrom(path.toString(), NativeFile.fileNameCharset());
            var out = arena.allocate(ValueLayout.ADDRESS);
            int status = lamina_h.lm_device_file_open(device, name, out);
            if (status == lamina_h.LM_ERROR_UNSUPPORTED()) {
                throw new UnsupportedOperationException(Status.lastError());
            }
            check(status, path, "opening it");
            var handle = out.get(ValueLayout.ADDRESS, 0);
            var direct = arena.allocate(ValueLayout.JAVA_INT);
            Status.check(lamina_h.lm_device_file_direct(handle, direct));
            return new DeviceFile(path, handle, direct.get(ValueLayout.JAVA_INT, 0) != 0);
        }
    }

    /** Whether the bytes need not pass through host memory, if the drive and its file system let them. */
    public boolean direct() {
        return direct;
    }

    /**
     * Reads bytes into all of a segment of device memory, which lies in one allocation and is not used by work of a
     * queue; returns when they are there.
     *
     * @return how many there were: fewer than asked for at the end of the file, or whenever the system likes
     */
    public int read(MemorySegment to, long offset) throws IOException {
        try (var arena = Arena.ofConfined()) {
            var read = arena.allocate(ValueLayout.JAVA_LONG);
            check(lamina_h.lm_device_file_read(handle, to, to.byteSize(), offset, read), path,
                    "reading " + to.byteSize() + " bytes at offset " + offset);
            return (int) read.get(ValueLayout.JAVA_LONG, 0);
        }
    }

    private static void check(int status, Path path, String doing) throws IOException {
        if (status != lamina_h.LM_OK()) {
            throw new IOException(path + ": " + doing + " failed: " + Status.lastError());
        }
    }

    /** Closing twice does nothing. */
    @Override
    public void close() {
        if (!closed) {
            closed = true;
            Status.check(lamina_h.lm_device_file_close(handle));
        }
    }
}
