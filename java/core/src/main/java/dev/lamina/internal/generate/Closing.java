package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import java.io.IOException;
import org.jspecify.annotations.Nullable;

/** Closes one thing after another, all of them whatever goes wrong with some; then tells of the first failure. */
final class Closing {
    private @Nullable Throwable failure;

    void close(@Nullable AutoCloseable resource) {
        try {
            if (resource != null) {
                resource.close();
            }
        } catch (Throwable e) {
            if (failure == null) {
                failure = e;
            } else if (failure != e) {
                failure.addSuppressed(e);
            }
        }
    }

    /** Adds the first failure, with all others suppressed in it, to another one that came before. */
    void endAfter(Throwable cause) {
        if (failure != null && failure != cause) {
            cause.addSuppressed(failure);
        }
    }

    /** Throws the first failure, with all others suppressed in it; a checked one in a {@link LaminaException}. */
    void end() {
        switch (failure) {
            case null -> { }
            case RuntimeException e -> throw e;
            case Error e -> throw e;
            case IOException e -> throw new LaminaException(e.getMessage() == null ? e.toString() : e.getMessage(), e);
            default -> throw new LaminaException(failure.toString(), failure);
        }
    }
}
