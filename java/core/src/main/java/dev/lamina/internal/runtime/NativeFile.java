package dev.lamina.internal.runtime;

import dev.lamina.bindings.lamina_h;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/**
 * A file that the operating system reads straight into native memory. Any number of threads may read it at the same
 * time; it is closed when none does. Unlike a file channel it is not closed by an interrupt.
 */
public final class NativeFile implements AutoCloseable {
    private final MemorySegment handle;
    private boolean closed;

    private NativeFile(MemorySegment handle) {
        this.handle = handle;
    }

    /**
     * Opens a file for reading.
     *
     * @param direct whether to read past the page cache: offsets, addresses and sizes are then multiples of the file
     *     system's block size
     * @throws UnsupportedOperationException the file system has no direct reads
     * @throws IOException the file cannot be opened
     */
    public static NativeFile open(Path path, boolean direct) throws IOException {
        Device.loadLibrary();
        try (var arena = Arena.ofConfined()) {
            var name = arena.allocateFrom(path.toString(), fileNameCharset());
            var out = arena.allocate(ValueLayout.ADDRESS);
            int mode = direct ? lamina_h.LM_FILE_DIRECT() : lamina_h.LM_FILE_BUFFERED();
            int status = lamina_h.lm_file_open(name, mode, out);
            if (status == lamina_h.LM_ERROR_UNSUPPORTED()) {
                throw new UnsupportedOperationException(Status.lastError());
            }
            check(status);
            return new NativeFile(out.get(ValueLayout.ADDRESS, 0));
        }
    }

    /** The encoding of the file system. */
    static Charset fileNameCharset() {
        return Charset.forName(System.getProperty("sun.jnu.encoding", ""), StandardCharsets.UTF_8);
    }

    /**
     * Reads bytes into all of a native segment.
     *
     * @return how many there were: fewer than asked for at the end of the file, or whenever the system likes
     */
    public int read(MemorySegment to, long offset) throws IOException {
        checkWritable(to);
        try (var arena = Arena.ofConfined()) {
            var read = arena.allocate(ValueLayout.JAVA_LONG);
            check(lamina_h.lm_file_read(handle, to, to.byteSize(), offset, read));
            return (int) read.get(ValueLayout.JAVA_LONG, 0);
        }
    }

    /**
     * Lets the page cache drop a range of this file that is on disk.
     *
     * @param bytes length of the range; 0: to the end of the file
     */
    public void forget(long offset, long bytes) throws IOException {
        check(lamina_h.lm_file_forget(handle, offset, bytes));
    }

    /** The native library sees nothing but an address. */
    static void checkWritable(MemorySegment to) {
        if (!to.isNative() || to.isReadOnly()) {
            throw new IllegalArgumentException("nothing can be read into " + to);
        }
    }

    MemorySegment handle() {
        return handle;
    }

    static void check(int status) throws IOException {
        if (status != lamina_h.LM_OK()) {
            throw new IOException(Status.lastError());
        }
    }

    /** Closing twice does nothing. */
    @Override
    public void close() {
        if (!closed) {
            closed = true;
            Status.check(lamina_h.lm_file_close(handle));
        }
    }
}
