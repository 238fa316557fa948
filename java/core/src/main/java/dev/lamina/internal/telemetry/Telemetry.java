package dev.lamina.internal.telemetry;

/**
 * Hears of what readers and sweeps do, when it has ended, on the thread that did it: implementations are quick and safe
 * for many threads. Times are those of {@link System#nanoTime}.
 */
public interface Telemetry {
    /** Hears nothing. */
    Telemetry NONE = new Telemetry() {};

    /** The panel number of a read that serves lookups of rows. */
    int LOOKUP = -1;

    /**
     * A request was read.
     *
     * @param panel its place in the cycle, or {@link #LOOKUP}
     * @param reader number of the reader thread
     * @param bytes bytes that came from the file
     * @param startNanos when it was asked for
     * @param endNanos when its bytes were there
     */
    default void read(int panel, int reader, long bytes, long startNanos, long endNanos) {}

    /**
     * The sweep waited until a panel was there, or for a lookup.
     *
     * @param panel its place in the cycle, or {@link #LOOKUP}
     */
    default void waited(int panel, long startNanos, long endNanos) {}

    /**
     * The ops that a panel feeds were computed.
     *
     * @param panel its place in the cycle; -1 for the ops before the first panel
     * @param rows rows of the sweep
     * @param bytes bytes of the panel
     * @param resident whether it was in memory
     */
    default void computed(int panel, int rows, long bytes, boolean resident, long startNanos, long endNanos) {}

    /**
     * A sweep has ended.
     *
     * @param sweep its number in this call, from 0
     * @param rows its rows
     * @param bytesRead bytes of weights that came from disk for it
     */
    default void swept(long sweep, int rows, long bytesRead, long startNanos, long endNanos) {}

    /**
     * A token was sampled.
     *
     * @param prompt index of its prompt
     * @param token the token
     */
    default void sampled(int prompt, int token, long startNanos, long endNanos) {}
}
