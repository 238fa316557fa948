package dev.lamina.internal.telemetry;

/**
 * How long at least one of many intervals lasted, which are told roughly in the order of their ends. Keeps the last
 * {@value #MOST} pieces of the union, so that an interval may come late by so many.
 */
final class BusyTime {
    private static final int MOST = 256;

    private final long[] starts = new long[MOST]; // disjoint pieces in ascending order
    private final long[] ends = new long[MOST];
    private int count;
    private long forgotten = Long.MIN_VALUE; // the end of the last piece that is not kept any more

    /** Adds an interval. Returns by how much the union grew. */
    long add(long from, long to) {
        long start = Math.max(from, forgotten);
        long end = to;
        if (end <= start) {
            return 0;
        }
        int after = count; // the first piece that lies behind it
        while (after > 0 && starts[after - 1] > end) {
            after--;
        }
        int first = after; // the first piece that it touches
        long known = 0;
        while (first > 0 && ends[first - 1] >= start) {
            first--;
            known += ends[first] - starts[first];
        }
        if (first < after) {
            start = Math.min(start, starts[first]);
            end = Math.max(end, ends[after - 1]);
        } else if (count == MOST) {
            if (first == 0) {
                return end - start; // older than all that is kept
            }
            forgotten = ends[0];
            move(1, 0);
            first--;
            after--;
        }
        move(after, first + 1);
        starts[first] = start;
        ends[first] = end;
        return end - start - known;
    }

    /** Moves the pieces from one place on to another. */
    private void move(int from, int to) {
        System.arraycopy(starts, from, starts, to, count - from);
        System.arraycopy(ends, from, ends, to, count - from);
        count += to - from;
    }
}
