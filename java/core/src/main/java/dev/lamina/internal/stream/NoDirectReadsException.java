package dev.lamina.internal.stream;

import java.io.IOException;
import java.nio.file.Path;

/** A file that cannot be read past the page cache. */
public final class NoDirectReadsException extends IOException {
    private static final long serialVersionUID = 1;

    private final String reason;

    NoDirectReadsException(Path path, String reason, Throwable cause) {
        super(path + ": the file system refuses direct reads (" + reason + "). Use --io auto or --io buffered", cause);
        this.reason = reason;
    }

    /** Why, as the system says it. */
    public String reason() {
        return reason;
    }
}
