package dev.lamina.internal.telemetry;

import dev.lamina.internal.telemetry.Telemetry.Activity;
import java.util.Arrays;

/**
 * What was done when, in the order in which it ended: the last {@value #MOST} things, in up to 8 MiB of heap, taken as
 * they are needed. (A sweep of a 70B model is about 70,000 of them.)
 */
final class Spans {
    static final int MOST = 1 << 18;
    private static final int FIRST_CAPACITY = 1 << 10;

    private long[] starts = new long[FIRST_CAPACITY];
    private long[] ends = new long[FIRST_CAPACITY];
    private long[] bytes = new long[FIRST_CAPACITY];
    private int[] panels = new int[FIRST_CAPACITY];
    private int[] lanes = new int[FIRST_CAPACITY]; // lane * activities + activity
    private long added;

    /** Begins with nothing. */
    Spans() {}

    /** A copy, which stays as it is. */
    Spans(Spans other) {
        starts = other.starts.clone();
        ends = other.ends.clone();
        bytes = other.bytes.clone();
        panels = other.panels.clone();
        lanes = other.lanes.clone();
        added = other.added;
    }

    /** Is told of spans. */
    @FunctionalInterface
    interface Visitor {
        void span(Activity activity, int lane, int panel, long bytes, long start, long end);
    }

    void add(Activity activity, int lane, int panel, long size, long start, long end) {
        if (added == starts.length && starts.length < MOST) {
            int capacity = 2 * starts.length;
            starts = Arrays.copyOf(starts, capacity);
            ends = Arrays.copyOf(ends, capacity);
            bytes = Arrays.copyOf(bytes, capacity);
            panels = Arrays.copyOf(panels, capacity);
            lanes = Arrays.copyOf(lanes, capacity);
        }
        int place = (int) (added++ % starts.length);
        starts[place] = start;
        ends[place] = end;
        bytes[place] = size;
        panels[place] = panel;
        lanes[place] = lane * Activity.values().length + activity.ordinal();
    }

    /** The moment from which on nothing that ended is missing. */
    long completeFrom() {
        return added <= starts.length ? Long.MIN_VALUE : ends[(int) (added % starts.length)];
    }

    /** Shows those of a time, oldest end first. */
    void visit(long from, long to, Visitor visitor) {
        var activities = Activity.values();
        for (long i = Math.max(0, added - starts.length); i < added; i++) {
            int place = (int) (i % starts.length);
            if (ends[place] > from && starts[place] < to) {
                visitor.span(activities[lanes[place] % activities.length], lanes[place] / activities.length,
                        panels[place], bytes[place], starts[place], ends[place]);
            }
        }
    }
}
