package dev.lamina.internal.stream;

/**
 * What a streamer did so far.
 *
 * @param weightBytes weight bytes of consumed panels that came from disk
 * @param expertBytes those of them that experts have
 * @param predictedBytes those of them that were read, or begun to be, before they were asked for
 * @param mispredictedBytes weight bytes of experts that were read before anybody asked for them, and nobody did; not
 *     among the discarded ones
 * @param paddingBytes bytes read around what was wanted: alignment, and the rest of a MiB that was verified
 * @param rowBytes bytes of embedding rows (and other lookups) that came from disk
 * @param discardedBytes weight bytes that were read ahead and never consumed
 * @param readBytes all bytes read
 * @param verifiedBytes bytes whose checksum was computed and right
 * @param waitNanos time the consumer waited in {@link Streamer#next} and {@link Streamer#lookup}
 * @param expertsUsed experts that rows chose, each counted once a sweep
 * @param expertsRead how many of these were not wholly in memory
 */
public record StreamCounters(long weightBytes, long expertBytes, long predictedBytes, long mispredictedBytes,
        long paddingBytes, long rowBytes, long discardedBytes, long readBytes, long verifiedBytes,
        long waitNanos, long expertsUsed, long expertsRead) {
    /** Of a streamer that has not read yet. */
    public static final StreamCounters NONE = new StreamCounters(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

    /** What this one and another streamer did together. */
    public StreamCounters plus(StreamCounters other) {
        return new StreamCounters(weightBytes + other.weightBytes, expertBytes + other.expertBytes,
                predictedBytes + other.predictedBytes, mispredictedBytes + other.mispredictedBytes,
                paddingBytes + other.paddingBytes, rowBytes + other.rowBytes,
                discardedBytes + other.discardedBytes, readBytes + other.readBytes,
                verifiedBytes + other.verifiedBytes, waitNanos + other.waitNanos,
                expertsUsed + other.expertsUsed, expertsRead + other.expertsRead);
    }

    /** What was added since an earlier snapshot of the same streamer. */
    public StreamCounters minus(StreamCounters earlier) {
        return new StreamCounters(weightBytes - earlier.weightBytes, expertBytes - earlier.expertBytes,
                predictedBytes - earlier.predictedBytes, mispredictedBytes - earlier.mispredictedBytes,
                paddingBytes - earlier.paddingBytes, rowBytes - earlier.rowBytes,
                discardedBytes - earlier.discardedBytes, readBytes - earlier.readBytes,
                verifiedBytes - earlier.verifiedBytes, waitNanos - earlier.waitNanos,
                expertsUsed - earlier.expertsUsed, expertsRead - earlier.expertsRead);
    }
}
