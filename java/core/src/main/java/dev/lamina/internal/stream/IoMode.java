package dev.lamina.internal.stream;

import java.util.Locale;

/** The call that reads files. */
public enum IoMode {
    /** {@code pread} through the page cache, which is told to drop what was read. */
    BUFFERED,
    /** A file channel of the Java runtime, past the page cache. */
    CHANNEL,
    /** {@code pread}, past the page cache. */
    PREAD,
    /** io_uring of Linux, past the page cache: one thread has many reads under way. */
    URING;

    /** Whether reads go past the page cache. */
    public boolean direct() {
        return this != BUFFERED;
    }

    /** As {@code --io} has it. */
    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }
}
