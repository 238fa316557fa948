package dev.lamina.internal.stream;

/**
 * How panels are read.
 *
 * @param prefetch panels read ahead of the one in use, 0 = read and compute in turn, {@link #AUTO_PREFETCH} = as many
 *     as keep the disk busy
 * @param readers reader threads of each drive, at least 1; where a ring reads the panels, all but one look up rows only
 * @param depth requests that a reader has under way, where its files allow more than one, at least 1
 * @param requestBytes most bytes of one read, a multiple of 1 MiB
 * @param rowCacheBytes memory for embedding rows that were used last, 0 = none
 * @param bytesPerSecond most bytes that are read in a second, over all drives, 0 = no limit
 */
public record StreamOptions(int prefetch, int readers, int depth, int requestBytes, long rowCacheBytes,
        long bytesPerSecond) {
    /** Lets {@link Planner#plan} choose the prefetch, and lower it where memory is short. */
    public static final int AUTO_PREFETCH = -1;

    private static final int LOOKUP_READERS = 4;

    /** Checks the values. */
    public StreamOptions {
        if (prefetch < AUTO_PREFETCH || prefetch > 65_536 || readers < 1 || readers > 256 || depth < 1 || depth > 256
                || rowCacheBytes < 0 || bytesPerSecond < 0
                || requestBytes < DataFile.UNIT || requestBytes > 1 << 29 || requestBytes % DataFile.UNIT != 0) {
            throw new IllegalArgumentException("no stream options: prefetch " + prefetch + ", readers " + readers
                    + ", depth " + depth + ", request bytes " + requestBytes + ", row cache bytes " + rowCacheBytes
                    + ", bytes a second " + bytesPerSecond);
        }
    }

    /** One request under way for each reader, and no limit. */
    public StreamOptions(int prefetch, int readers, int requestBytes, long rowCacheBytes) {
        this(prefetch, readers, 1, requestBytes, rowCacheBytes, 0);
    }

    /** What suits most disks. */
    public static StreamOptions defaults() {
        return of(ReadMethod.DEFAULT);
    }

    /** Reads in a given way; {@link DataFile#open} takes the mode. */
    public static StreamOptions of(ReadMethod method) {
        // one ring reads the panels of a drive; the other threads look up rows meanwhile
        int readers = method.mode() == IoMode.URING ? Math.max(method.readers(), LOOKUP_READERS) : method.readers();
        return new StreamOptions(AUTO_PREFETCH, readers, method.depth(), method.requestBytes(), 1 << 20, 0);
    }

    /** The same with another prefetch. */
    public StreamOptions withPrefetch(int panels) {
        return new StreamOptions(panels, readers, depth, requestBytes, rowCacheBytes, bytesPerSecond);
    }

    /** The same with another number of reader threads. */
    public StreamOptions withReaders(int threads) {
        return new StreamOptions(prefetch, threads, depth, requestBytes, rowCacheBytes, bytesPerSecond);
    }

    /** The same with another size of the row cache. */
    public StreamOptions withRowCacheBytes(long bytes) {
        return new StreamOptions(prefetch, readers, depth, requestBytes, bytes, bytesPerSecond);
    }

    /** The same with another limit. */
    public StreamOptions withBytesPerSecond(long limit) {
        return new StreamOptions(prefetch, readers, depth, requestBytes, rowCacheBytes, limit);
    }
}
