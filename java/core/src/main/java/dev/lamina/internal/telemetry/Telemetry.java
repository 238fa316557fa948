package dev.lamina.internal.telemetry;

/**
 * Hears of what readers and sweeps do, on the thread that does it: implementations are quick and safe for many threads.
 * Times are those of {@link System#nanoTime}.
 *
 * <p>What takes time is told twice: {@link #begin} when it begins, then the method of its own when it has ended. (An
 * event of the Java Flight Recorder takes its start from the recorder's clock, so it cannot be made afterwards.) What
 * fails or finds nothing to do is not told again.
 */
public interface Telemetry {
    /** Hears nothing. */
    Telemetry NONE = new Telemetry() {};

    /** The panel number of a read that serves lookups of rows, and of what comes before the first panel. */
    int LOOKUP = -1;

    /** The lane of all that the sweep's thread does. */
    int SWEEP_LANE = 0;

    /** What takes time. */
    enum Activity {
        /** Ends with {@link Telemetry#read}. */
        READ,
        /** Ends with {@link Telemetry#waited}. */
        WAIT,
        /** Ends with {@link Telemetry#computed}. */
        COMPUTE,
        /** Ends with {@link Telemetry#copied}. */
        COPY,
        /** Ends with {@link Telemetry#swept}. */
        SWEEP,
        /** Ends with {@link Telemetry#sampled}. */
        SAMPLE
    }

    /**
     * Something begins; it ends on the same thread.
     *
     * @param lane number of the reader, of a {@link Activity#READ}; for others {@link #SWEEP_LANE}. Nothing of the same
     *     activity goes on in a lane at the same time.
     */
    default void begin(Activity activity, int lane) {}

    /**
     * A request was read.
     *
     * @param panel its place in the cycle, or {@link #LOOKUP}
     * @param reader number of the reader: of its thread, or of its place among requests that are under way together
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
     * @param panel its place in the cycle; {@link #LOOKUP} for the ops before the first panel
     * @param rows rows of the sweep
     * @param bytes bytes of the panel
     * @param diskBytes how many of them came from disk for it: none where it stays in memory
     */
    default void computed(int panel, int rows, long bytes, long diskBytes, long startNanos, long endNanos) {}

    /** Logits that a panel gave were copied out of the device. */
    default void copied(int panel, long bytes, long startNanos, long endNanos) {}

    /**
     * A sweep has ended.
     *
     * @param sweep its number in this call, from 0
     * @param rows its rows
     * @param diskBytes bytes of weights that came from disk for it
     */
    default void swept(long sweep, int rows, long diskBytes, long startNanos, long endNanos) {}

    /**
     * A token was sampled.
     *
     * @param prompt index of its prompt
     * @param token the token
     */
    default void sampled(int prompt, int token, long startNanos, long endNanos) {}

    /** Emits events of the Java Flight Recorder, which cost next to nothing while nobody records; or, in a Java runtime
     * without the module {@code jdk.jfr}, hears nothing. */
    static Telemetry flightEvents(PanelMap panels) {
        return ModuleLayer.boot().findModule("jdk.jfr").isPresent() ? new FlightEvents(panels) : NONE;
    }
}
