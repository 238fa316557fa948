package dev.lamina.cli;

/** A signal asked the command to end, and nothing is left to be said. */
final class CancelledException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    CancelledException() {
        super("cancelled");
    }
}
