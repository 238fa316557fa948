package dev.lamina.internal.stream;

/**
 * How the files of a drive are read.
 *
 * @param mode the call
 * @param readers threads, at least 1
 * @param depth requests that one thread has under way, at least 1; more than 1 only with {@link IoMode#URING}
 * @param requestBytes most bytes of a request, a multiple of 1 MiB
 */
public record ReadMethod(IoMode mode, int readers, int depth, int requestBytes) {
    /** What suits most drives. */
    public static final ReadMethod DEFAULT = new ReadMethod(IoMode.CHANNEL, 4, 1, 4 << 20);

    /** Where the page cache is in the way. */
    public static final ReadMethod BUFFERED = new ReadMethod(IoMode.BUFFERED, 2, 1, 4 << 20);

    /** Checks the values. */
    public ReadMethod {
        if (readers < 1 || readers > 256 || depth < 1 || depth > 256 || depth > 1 && mode != IoMode.URING
                || requestBytes < DataFile.UNIT || requestBytes > 1 << 29 || requestBytes % DataFile.UNIT != 0) {
            throw new IllegalArgumentException("no way to read: " + mode + ", readers " + readers + ", depth " + depth
                    + ", request bytes " + requestBytes);
        }
    }

    /** For people, such as {@code "uring, 8 reads of 2 MiB under way"}. */
    @Override
    public String toString() {
        int reads = readers * depth;
        return mode + ", " + reads + (reads == 1 ? " read" : " reads") + " of " + (requestBytes >> 20)
                + " MiB under way" + (readers == 1 ? "" : " by " + readers + " threads");
    }
}
