package dev.lamina.internal.generate;

/**
 * Decides from sweep to sweep how many threads compute: all of them, or one alone. While the disk is the limit the
 * arithmetic has time, and threads that compute on every core delay those that read, in this process, in the kernel
 * and, on a virtual machine, around it.
 */
final class Crew {
    /** A thread alone is relieved when waiting takes less than this share of a sweep. */
    private static final int ENOUGH_WAITING = 4;

    private final int threads;
    private int rows;
    private boolean alone;

    /** Of so many threads, which at first all compute. */
    Crew(int threads) {
        this.threads = threads;
    }

    /** Whether one thread is to compute a sweep of so many rows. */
    boolean alone(int nextRows) {
        alone &= nextRows == rows;
        rows = nextRows;
        return alone;
    }

    /**
     * Notes the sweep that has ended.
     *
     * @param waitedNanos how long it waited for the disk
     * @param nanos how long it took
     */
    void swept(long waitedNanos, long nanos) {
        alone = alone
                ? waitedNanos > nanos / ENOUGH_WAITING
                : threads > 1 && (nanos - waitedNanos) * threads <= waitedNanos; // at worst, alone takes so much longer
    }
}
