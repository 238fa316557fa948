package dev.lamina.internal.stream;

/** Spreads reads over time, so that a fast drive stands in for a slow one. Not thread-safe. */
final class RateLimiter {
    /** Reads that come late may catch up by this much: threads wake late, by tens of microseconds each time. */
    private static final long CREDIT_NANOS = 5_000_000;

    private static final double NANOS = 1e9;

    private final double bytesPerSecond;
    private long next; // when the bytes of the last read may be there
    private boolean begun;

    /** Allows so many bytes a second, more than 0. */
    RateLimiter(long bytesPerSecond) {
        this.bytesPerSecond = bytesPerSecond;
    }

    /**
     * Takes the place of one read in the line.
     *
     * @param now the time, as {@link System#nanoTime} tells it
     * @return when the bytes of the read may be there
     */
    long reserve(long bytes, long now) {
        if (!begun) {
            begun = true;
            next = now;
        }
        long start = Math.max(now - CREDIT_NANOS - next, 0) + next; // by differences: nanoTime may overflow
        next = start + nanos(bytes);
        return next;
    }

    /** Gives back the place of a read that will not be made: those that come after it are earlier. */
    void giveBack(long bytes) {
        next -= nanos(bytes);
    }

    private long nanos(long bytes) {
        return (long) (bytes / bytesPerSecond * NANOS);
    }
}
