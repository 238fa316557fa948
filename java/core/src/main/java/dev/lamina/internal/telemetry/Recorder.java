package dev.lamina.internal.telemetry;

import dev.lamina.Profile;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;

/**
 * Keeps the sums that a profile shows, and of the last sweeps what was done when. Takes at most about 9 MB of heap,
 * however long it listens, and twice that while it makes a page.
 */
public final class Recorder implements Telemetry {
    /** Sweeps that a timeline shows, where their spans are all kept. */
    private static final int SWEEPS = 3;

    private static final double NANOS = 1e9;

    private final PanelMap panels;
    private final BusyTime reading = new BusyTime();
    private final Spans spans = new Spans();
    private final ArrayDeque<Swept> lastSweeps = new ArrayDeque<>();
    private final long[] weightBytes; // of each stage, as all of these
    private final long[] diskBytes;
    private final long[] readBytes;
    private final long[] readNanos;
    private final long[] waitNanos;
    private final long[] copyNanos;
    private final long[] computeNanos;
    private long sweeps;
    private long rows;
    private long tokens;
    private long sweepNanos;
    private long sampleNanos;

    /**
     * A sweep that was completed.
     *
     * @param number of all sweeps that were heard of, from 1
     */
    record Swept(long number, int rows, long start, long end) {}

    /** Begins with nothing. */
    public Recorder(PanelMap panels) {
        this.panels = panels;
        int stages = panels.stages().size();
        weightBytes = new long[stages];
        diskBytes = new long[stages];
        readBytes = new long[stages];
        readNanos = new long[stages];
        waitNanos = new long[stages];
        copyNanos = new long[stages];
        computeNanos = new long[stages];
    }

    @Override
    public synchronized void read(int panel, int reader, long bytes, long startNanos, long endNanos) {
        int stage = panels.stage(panel);
        readBytes[stage] += bytes;
        readNanos[stage] += reading.add(startNanos, endNanos);
        spans.add(Activity.READ, reader, panel, bytes, startNanos, endNanos);
    }

    @Override
    public synchronized void waited(int panel, long startNanos, long endNanos) {
        waitNanos[panels.stage(panel)] += endNanos - startNanos;
        spans.add(Activity.WAIT, SWEEP_LANE, panel, 0, startNanos, endNanos);
    }

    @Override
    public synchronized void computed(int panel, int sweepRows, long bytes, long fromDisk, long startNanos,
            long endNanos) {
        int stage = panels.stage(panel);
        weightBytes[stage] += bytes;
        diskBytes[stage] += fromDisk;
        computeNanos[stage] += endNanos - startNanos;
        spans.add(Activity.COMPUTE, SWEEP_LANE, panel, bytes, startNanos, endNanos);
    }

    @Override
    public synchronized void copied(int panel, long bytes, long startNanos, long endNanos) {
        copyNanos[panels.stage(panel)] += endNanos - startNanos;
        spans.add(Activity.COPY, SWEEP_LANE, panel, bytes, startNanos, endNanos);
    }

    @Override
    public synchronized void swept(long sweep, int sweepRows, long fromDisk, long startNanos, long endNanos) {
        sweeps++;
        rows += sweepRows;
        sweepNanos += endNanos - startNanos;
        lastSweeps.add(new Swept(sweeps, sweepRows, startNanos, endNanos));
        if (lastSweeps.size() > SWEEPS) {
            lastSweeps.remove();
        }
    }

    @Override
    public synchronized void sampled(int prompt, int token, long startNanos, long endNanos) {
        tokens++;
        sampleNanos += endNanos - startNanos;
        spans.add(Activity.SAMPLE, SWEEP_LANE, LOOKUP, 0, startNanos, endNanos);
    }

    /** The sums up to now. */
    public synchronized Profile profile() {
        var stages = new ArrayList<Profile.Stage>();
        for (int i = 0; i < panels.stages().size(); i++) {
            stages.add(new Profile.Stage(panels.stages().get(i), weightBytes[i], diskBytes[i], readBytes[i],
                    readNanos[i] / NANOS, waitNanos[i] / NANOS, copyNanos[i] / NANOS, computeNanos[i] / NANOS));
        }
        return new Profile(sweeps, rows, tokens, sweepNanos / NANOS, sampleNanos / NANOS, stages);
    }

    /**
     * A page that shows what was done when in the last sweeps: of three, or of as many as are kept whole, or of the end
     * of one that is too long for that.
     *
     * @param title of the page
     * @return HTML that needs nothing else, of a few MB at most; without a sweep it shows nothing
     */
    public String timeline(String title) {
        ArrayList<Swept> shown;
        Spans kept;
        synchronized (this) { // for as short as possible: readers and the sweep would wait
            shown = new ArrayList<>(lastSweeps);
            kept = new Spans(spans);
        }
        var last = shown.isEmpty() ? null : shown.getLast();
        shown.removeIf(sweep -> sweep.start < kept.completeFrom() && sweep != last);
        long to = last == null ? 0 : last.end;
        long from = last == null ? 0 : Math.clamp(kept.completeFrom(), shown.getFirst().start, to);
        var page = new TimelinePage(panels, List.copyOf(shown), from, to);
        kept.visit(from, to, page);
        return page.html(title);
    }
}
