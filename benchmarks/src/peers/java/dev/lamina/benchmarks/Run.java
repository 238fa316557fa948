package dev.lamina.benchmarks;

import java.util.Arrays;

/** One generation under way: its tokens and when they came, counted from its start. */
final class Run {
    private final int[] ids;
    private final long[] times;
    private final long start = System.nanoTime();
    private int count;
    private long diskBytes;

    Run(int tokens) {
        this.ids = new int[tokens];
        this.times = new long[tokens];
    }

    /** Notes a token; those beyond the number asked for are none of the run's. */
    void token(int id) {
        if (count < ids.length) {
            ids[count] = id;
            times[count++] = System.nanoTime() - start;
        }
    }

    /** Notes the bytes of weights that were read from disk. */
    void diskBytes(long bytes) {
        diskBytes = bytes;
    }

    /** Bytes of weights that were read from disk. */
    long diskBytes() {
        return diskBytes;
    }

    /** The tokens. */
    int[] ids() {
        return Arrays.copyOf(ids, count);
    }

    /** Seconds until the first token. */
    double prefillSeconds() {
        checkComplete();
        return times[0] / 1e9;
    }

    /** Tokens per second after the first. */
    double tokensPerSecond() {
        checkComplete();
        return (count - 1) * 1e9 / (times[count - 1] - times[0]);
    }

    private void checkComplete() {
        if (count < ids.length) {
            throw new IllegalStateException("only " + count + " of " + ids.length + " tokens came");
        }
    }
}
