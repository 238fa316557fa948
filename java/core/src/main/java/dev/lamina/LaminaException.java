package dev.lamina;

/**
 * The one exception that users of Lamina meet: the message says in one line what was wrong, where, and what to do.
 */
public final class LaminaException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /**
     * Creates an exception.
     *
     * @param message what was wrong, where, and what to do, in one line
     */
    public LaminaException(String message) {
        super(message);
    }

    /**
     * Creates an exception with a cause.
     *
     * @param message what was wrong, where, and what to do, in one line
     * @param cause what led to it
     */
    public LaminaException(String message, Throwable cause) {
        super(message, cause);
    }
}
