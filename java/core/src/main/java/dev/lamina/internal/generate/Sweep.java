package dev.lamina.internal.generate;

import dev.lamina.SweepProgress;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.Panel;
import dev.lamina.internal.stream.Streamer;
import dev.lamina.internal.telemetry.Telemetry;
import dev.lamina.internal.telemetry.Telemetry.Activity;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * One trip through all panels, again and again: every row moves one step. This is the loop of the design: for each
 * panel in the schedule, wait until the ring has it, let the device run its ops, free its slot.
 */
final class Sweep {
    private static final System.Logger LOG = System.getLogger(Sweep.class.getName());

    /** Panels whose copies to the device are under way: more would only be fewer that are read ahead. */
    private static final int MOST_HELD = 2;

    /** Which rows of a part have their logits computed. */
    enum Output {
        NONE,
        LAST,
        ALL
    }

    /**
     * The next rows of a sequence.
     *
     * @param count how many of its pending tokens
     * @param output whose logits are wanted
     */
    record Part(Sequence sequence, int count, Output output) {}

    private final Weights weights;
    private final int[] ranks; // by panel
    private final Streamer streamer;
    private final PanelFeed feed;
    private final Workspace workspace;
    private final @Nullable HostCompute host;
    private final Telemetry telemetry;
    private final long weightBytes;
    private final Choices choices;
    private final Crew crew;
    private final long residentBytes;
    private long done;

    /**
     * Makes a sweep.
     *
     * @param host computes some panels in host memory; null: none
     * @param residentBytes bytes of weights that stay in memory
     */
    Sweep(Weights weights, Streamer streamer, PanelFeed feed, Workspace workspace, @Nullable HostCompute host,
            Telemetry telemetry, long residentBytes) {
        this.weights = weights;
        this.ranks = weights.schedule().ranks(weights.rankOfStage());
        this.streamer = streamer;
        this.feed = feed;
        this.workspace = workspace;
        this.host = host;
        this.telemetry = telemetry;
        this.residentBytes = residentBytes;
        this.weightBytes = weights.schedule().denseBytes();
        this.choices = new Choices(weights, streamer, feed, workspace, telemetry);
        this.crew = new Crew(weights.ranks().getFirst().processor().device().info().threads());
    }

    private Queue queue(int rank) {
        return weights.ranks().get(rank).processor().queue();
    }

    /** Sweeps that are done. */
    long done() {
        return done;
    }

    /**
     * Computes the next rows of some sequences and notes them as cached.
     *
     * @param sink takes the logits of the output rows, which are in the order of the parts
     * @return false if it was cancelled, or the thread was interrupted; then nothing is noted, and the streamer begins
     *     anew
     */
    boolean run(List<Part> parts, LogitsSink sink, Consumer<SweepProgress> progress, BooleanSupplier cancelled)
            throws IOException {
        boolean complete = false;
        try {
            complete = pass(parts, sink, progress, cancelled);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } finally {
            if (!complete) {
                abandon();
            }
        }
        if (complete) {
            parts.forEach(part -> part.sequence.advance(part.count));
            done++;
        }
        return complete;
    }

    private void abandon() {
        try {
            feed.drain();
            workspace.settle();
            if (host != null) {
                host.settle();
            }
        } catch (RuntimeException e) { // what made this sweep end is told, or the next one fails with it
            LOG.log(System.Logger.Level.DEBUG, "a sweep that was abandoned", e);
        } finally {
            streamer.restart();
        }
    }

    private boolean pass(List<Part> parts, LogitsSink sink, Consumer<SweepProgress> progress, BooleanSupplier cancelled)
            throws IOException, InterruptedException {
        telemetry.begin(Activity.SWEEP, Telemetry.SWEEP_LANE);
        long start = System.nanoTime();
        var tokens = layRows(parts);
        long waitedBefore = streamer.counters().waitNanos();
        workspace.alone(crew.alone(workspace.rows()));
        var table = weights.table();
        streamer.lookup(table, tokens, workspace.inputs().asSlice(0, table.rowBytes() * tokens.length));
        int rank = 0;
        if (host != null) {
            host.begin();
        }
        compute(rank, Telemetry.LOOKUP, 0, weights.schedule().prologue(), 0, 0);
        boolean prefill = workspace.outputRows() == 0;
        long bytesDone = 0;
        long diskBytes = 0;
        for (var panel : weights.schedule().panels()) {
            if (cancelled.getAsBoolean()) {
                return false;
            }
            feed.holdAtMost(Math.min(MOST_HELD, streamer.slots() - 1));
            var arrived = streamer.next();
            try {
                int next = ranks[arrived.index()];
                if (host != null && host.computes(arrived.index(), workspace)) {
                    computeOnHost(host, rank, next, arrived, panel);
                } else {
                    if (host != null && next == rank) { // before the device waits for this panel
                        host.bringInputs(rank, arrived.index(), workspace);
                    }
                    workspace.step(next).panel(feed.bring(next, arrived));
                    if (next != rank) {
                        workspace.handOver(rank, next, panel);
                    }
                    compute(next, arrived.index(), panel.firstOp(), panel.opCount(), panel.extent().bytes(),
                            arrived.diskBytes());
                }
                rank = next;
                if (panel.logits() != null && workspace.outputRows() > 0) {
                    deliver(rank, arrived.index(), panel.logits(), sink);
                }
                diskBytes += arrived.diskBytes();
            } finally {
                feed.done();
            }
            if (panel.choice() != null) {
                var fromDisk = new LongAdder();
                if (!choices.run(rank, panel.choice(), fromDisk::add, cancelled)) {
                    return false;
                }
                diskBytes += fromDisk.sum();
                compute(rank, arrived.index(), panel.choice().firstOp(), panel.choice().opCount(), 0, 0);
            }
            bytesDone += panel.extent().bytes();
            progress.accept(new SweepProgress(done, workspace.rows(), prefill, bytesDone, weightBytes, diskBytes,
                    residentBytes));
        }
        feed.drain();
        if (host != null) {
            host.settle();
        }
        streamer.swept();
        long end = System.nanoTime();
        crew.swept(streamer.counters().waitNanos() - waitedBefore, end - start);
        telemetry.swept(done, workspace.rows(), diskBytes, start, end);
        return true;
    }

    /** Runs ops; a device that reads panels in host memory is done with them then. */
    private void compute(int rank, int panel, int firstOp, int opCount, long bytes, long fromDisk) {
        telemetry.begin(Activity.COMPUTE, Telemetry.SWEEP_LANE);
        long start = System.nanoTime();
        feed.submitted(rank, queue(rank).submit(workspace.ops(rank), firstOp, opCount, workspace.step(rank)));
        telemetry.computed(panel, workspace.rows(), bytes, fromDisk, start, System.nanoTime());
    }

    /** Runs the products of a panel on the host, and its other ops on the device of its rank. */
    private void computeOnHost(HostCompute by, int from, int rank, Panel arrived, Schedule.Panel panel) {
        telemetry.begin(Activity.COMPUTE, Telemetry.SWEEP_LANE);
        long start = System.nanoTime();
        int products;
        try {
            if (rank != from) {
                workspace.handOver(from, rank, panel);
            }
            products = by.compute(rank, arrived.index(), arrived.memory(), workspace);
        } finally {
            feed.computedInPlace(rank, arrived);
        }
        if (products < panel.opCount()) {
            feed.submitted(rank, queue(rank).submit(workspace.ops(rank), panel.firstOp() + products,
                    panel.opCount() - products, workspace.step(rank)));
        }
        telemetry.computed(arrived.index(), workspace.rows(), panel.extent().bytes(), arrived.diskBytes(), start,
                System.nanoTime());
    }

    private void deliver(int rank, int panel, Schedule.Slice columns, LogitsSink sink) throws IOException {
        streamer.checkUnchanged();
        var block = workspace.logits(columns.rows());
        telemetry.begin(Activity.COPY, Telemetry.SWEEP_LANE);
        long start = System.nanoTime();
        var queue = queue(rank);
        queue.await(queue.copyToHost(block, workspace.logitsOnDevice(rank, columns.rows())));
        telemetry.copied(panel, block.byteSize(), start, System.nanoTime());
        sink.accept(workspace.outputRows(), columns.firstRow(), columns.rows(), block);
    }

    /** Writes positions, sequences and rope tables of the rows. Returns their tokens. */
    private int[] layRows(List<Part> parts) {
        workspace.clear();
        var tokens = new int[parts.stream().mapToInt(Part::count).sum()];
        for (var part : parts) {
            var sequence = part.sequence;
            int index = workspace.addSequence(sequence.cache(), sequence.state());
            sequence.write(part.count);
            for (int i = 0; i < part.count; i++) {
                int row = workspace.rows();
                int position = sequence.cached() + i;
                boolean output = part.output == Output.ALL || part.output == Output.LAST && i == part.count - 1;
                workspace.addRow(index, position, output);
                tokens[row] = sequence.token(position);
                for (var rope : weights.program().ropes()) {
                    var cosinesAndSines = new float[rope.dim()];
                    sequence.ropeTable(rope, position, cosinesAndSines);
                    MemorySegment.copy(cosinesAndSines, 0, workspace.ropeRow(rope, row), ValueLayout.JAVA_FLOAT, 0,
                            cosinesAndSines.length);
                }
            }
        }
        return tokens;
    }
}
