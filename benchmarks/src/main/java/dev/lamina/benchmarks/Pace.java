package dev.lamina.benchmarks;

/** Holds readers back to a limit. Safe for use by several threads. */
final class Pace {
    private final Limit limit;
    private long free = System.nanoTime(); // when what was read so far would be through a drive of that rate

    Pace(Limit limit) {
        this.limit = limit;
    }

    /**
     * Returns when a drive of that rate, on which reads queue up, would have delivered so many bytes more.
     *
     * @return a time of {@link System#nanoTime}
     */
    synchronized long delivered(long bytes) {
        long now = System.nanoTime();
        if (limit.isNone()) {
            return now;
        }
        free = Math.max(free, now) + Math.round(bytes * 1e9 / limit.bytesPerSecond());
        return free;
    }

    /** Waits for a time that {@link #delivered} told. */
    static void await(long time) throws InterruptedException {
        long nanos = time - System.nanoTime();
        if (nanos > 0) {
            Thread.sleep(nanos / 1_000_000, (int) (nanos % 1_000_000));
        }
    }
}
