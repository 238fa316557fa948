package dev.lamina.cli;

/** Nobody reads the standard output any more, as in {@code lamina ... | head -1}: end, quietly. */
final class StdoutClosedException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    StdoutClosedException(Throwable cause) {
        super("the standard output is closed", cause);
    }
}
