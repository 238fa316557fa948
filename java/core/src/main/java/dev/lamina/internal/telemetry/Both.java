package dev.lamina.internal.telemetry;

/** Tells two listeners. */
public record Both(Telemetry first, Telemetry second) implements Telemetry {
    @Override
    public void begin(Activity activity, int lane) {
        first.begin(activity, lane);
        second.begin(activity, lane);
    }

    @Override
    public void read(int panel, int reader, long bytes, long startNanos, long endNanos) {
        first.read(panel, reader, bytes, startNanos, endNanos);
        second.read(panel, reader, bytes, startNanos, endNanos);
    }

    @Override
    public void waited(int panel, long startNanos, long endNanos) {
        first.waited(panel, startNanos, endNanos);
        second.waited(panel, startNanos, endNanos);
    }

    @Override
    public void computed(int panel, int rows, long bytes, long diskBytes, long startNanos, long endNanos) {
        first.computed(panel, rows, bytes, diskBytes, startNanos, endNanos);
        second.computed(panel, rows, bytes, diskBytes, startNanos, endNanos);
    }

    @Override
    public void copied(int panel, long bytes, long startNanos, long endNanos) {
        first.copied(panel, bytes, startNanos, endNanos);
        second.copied(panel, bytes, startNanos, endNanos);
    }

    @Override
    public void swept(long sweep, int rows, long diskBytes, long startNanos, long endNanos) {
        first.swept(sweep, rows, diskBytes, startNanos, endNanos);
        second.swept(sweep, rows, diskBytes, startNanos, endNanos);
    }

    @Override
    public void sampled(int prompt, int token, long startNanos, long endNanos) {
        first.sampled(prompt, token, startNanos, endNanos);
        second.sampled(prompt, token, startNanos, endNanos);
    }
}
