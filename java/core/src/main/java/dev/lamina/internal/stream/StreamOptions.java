package dev.lamina.internal.stream;

/**
 * How panels are read.
 *
 * @param prefetch panels read ahead of the one in use, 0 = read and compute in turn, {@link #AUTO_PREFETCH} = as many
 *     as keep the disk busy
 * @param readers reader threads, at least 1
 * @param requestBytes most bytes of one read, a multiple of 1 MiB
 * @param rowCacheBytes memory for embedding rows that were used last, 0 = none
 */
public record StreamOptions(int prefetch, int readers, int requestBytes, long rowCacheBytes) {
    /** Lets {@link Placement#plan} choose the prefetch, and lower it where memory is short. */
    public static final int AUTO_PREFETCH = -1;

    /** Checks the values. */
    public StreamOptions {
        if (prefetch < AUTO_PREFETCH || prefetch > 65_536 || readers < 1 || readers > 256 || rowCacheBytes < 0
                || requestBytes < DataFile.UNIT || requestBytes > 1 << 29 || requestBytes % DataFile.UNIT != 0) {
            throw new IllegalArgumentException("no stream options: prefetch " + prefetch + ", readers " + readers
                    + ", request bytes " + requestBytes + ", row cache bytes " + rowCacheBytes);
        }
    }

    /** What suits most disks. */
    public static StreamOptions defaults() {
        return new StreamOptions(AUTO_PREFETCH, 4, 4 << 20, 1 << 20);
    }

    /** The same with another prefetch. */
    public StreamOptions withPrefetch(int panels) {
        return new StreamOptions(panels, readers, requestBytes, rowCacheBytes);
    }

    /** The same with another number of reader threads. */
    public StreamOptions withReaders(int threads) {
        return new StreamOptions(prefetch, threads, requestBytes, rowCacheBytes);
    }

    /** The same with another size of the row cache. */
    public StreamOptions withRowCacheBytes(long bytes) {
        return new StreamOptions(prefetch, readers, requestBytes, bytes);
    }
}
