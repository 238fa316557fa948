package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.MemoryNeeds;
import dev.lamina.MemoryPlan;
import dev.lamina.Rates;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.FreeMemory;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.Extent;
import dev.lamina.internal.stream.Placement;
import dev.lamina.internal.stream.Planner;
import dev.lamina.internal.stream.ResidentPanels;
import dev.lamina.internal.stream.StreamCounters;
import dev.lamina.internal.stream.StreamOptions;
import dev.lamina.internal.stream.Streamer;
import dev.lamina.internal.telemetry.Telemetry;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/**
 * The host memory that a model may hold, and what is in it: vectors, KV caches of conversations, a workspace, the
 * staging ring, and for the rest resident panels. Before a call takes memory it is prepared here: panels make room
 * where they must, so that the sum stays below the budget at every moment.
 */
final class Budget implements AutoCloseable {
    private static final long MEBIBYTE = 1L << 20;

    /** Reading begins anew only for resident panels that are more than this share of the weights. */
    private static final int WORTH_A_RESTART = 50;

    private final Weights weights;
    private final Device device;
    private final Queue queue;
    private final long memory;
    private final Name name;
    private final long askedPanel;
    private final StreamOptions streamOptions;
    private final Rates rates;
    private final Division division;
    private final Planner.Order order;
    private final Telemetry telemetry;
    private final List<Extent> cycle;
    private final ResidentPanels residents;
    private @Nullable PanelFeed feed;
    private final List<Sequence> kept = new ArrayList<>();
    private @Nullable Placement placement;
    private @Nullable Streamer streamer;
    private @Nullable Workspace workspace;
    private StreamCounters pastCounters = StreamCounters.NONE;
    private long peakBytes;

    /**
     * What people are told of a budget.
     *
     * @param inErrors how messages name it
     * @param origin where it comes from
     */
    record Name(String inErrors, String origin) {
        /** Of a budget that was asked for. */
        static Name of(long memory) {
            return new Name("--memory " + (memory % (1 << 20) == 0 ? (memory >> 20) + "MiB" : memory % 1024 == 0
                    ? (memory >> 10) + "KiB" : memory + "B"), "as asked");
        }

        /** Of a budget that was chosen. */
        static Name of(FreeMemory free) {
            return new Name("The default budget, what is free less a reserve (" + (free.budget() >> 20) + "MiB),",
                    "auto: " + (free.bytes() >> 20) + "MiB that " + free.limitedBy() + " leaves free, less a reserve");
        }
    }

    /**
     * Makes a budget. Whether it is large enough, the first call tells: only then its needs are known.
     *
     * @param memory bytes
     * @param askedPanel most bytes of a panel as the user asked; 0 for {@link Schedule#defaultPanel}
     * @param streamOptions how to read ahead
     * @param telemetry is told what readers and sweeps do
     */
    Budget(Weights weights, Device device, Queue queue, long memory, Name name, long askedPanel,
            StreamOptions streamOptions, Telemetry telemetry) {
        this.weights = weights;
        this.device = device;
        this.queue = queue;
        this.memory = memory;
        this.name = name;
        this.askedPanel = askedPanel;
        this.streamOptions = streamOptions;
        this.telemetry = telemetry;
        this.rates = weights.rates().limited(streamOptions.bytesPerSecond());
        this.division = Division.of(weights, memory, streamOptions);
        this.order = division.order(rates);
        this.cycle = weights.schedule().cycle();
        this.residents = new ResidentPanels(weights.files(), cycle, new BitSet(), device);
    }

    /**
     * Whether a call with so many sequences and bytes fits, with room for a workspace that computes many rows at once.
     */
    boolean fitsWell(int sequences, long otherBytes) {
        return division.fitsWell(sequences, keptBytes() + otherBytes);
    }

    /** The most positions, up to {@code limit}, of a conversation that fits beside what is there; at least one. */
    int contextThatFits(int limit) {
        int low = 1;
        int high = limit;
        while (low < high) {
            int middle = low + (high - low + 1) / 2;
            if (fitsWell(1, otherBytes(middle))) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return low;
    }

    /**
     * Makes room for a call. The workspace is made for the rows that the KV caches have room for, not for those of the
     * prompt: so prompts of any length leave the same panels in memory, and a plan knows which.
     *
     * @param mostRows positions of the KV caches
     * @param outputRows most rows of a sweep whose logits are wanted; at most as many as the sweep has rows
     * @param sequences how many there are
     * @param otherBytes memory that the call is about to take for KV caches and logits
     */
    Sweep prepare(long mostRows, int outputRows, int sequences, long otherBytes) {
        long others = keptBytes() + otherBytes;
        var size = division.workspaceSize(mostRows, outputRows, sequences, others);
        if (workspace != null && !workspace.size().equals(size)) {
            workspace.close();
            workspace = null;
        }
        long fixedBytes = division.fixedBytes(size, others);
        place(keptOr(plan(division, name, order, size, others), fixedBytes));
        if (workspace == null) {
            workspace = new Workspace(device, weights.program(), weights.schedule(), weights.plan(), weights.vectors(),
                    weights.embeddingType(), size);
        }
        if (feed == null) {
            feed = new PanelFeed(device, queue, weights.schedule());
        }
        peakBytes = Math.max(peakBytes, fixedBytes + reservedBytes());
        return new Sweep(weights.program(), weights.schedule(), weights.table(), streamer(), feed, queue, workspace,
                telemetry, residentBytes(), device.info().threads());
    }

    /** Rows that a sweep may have, as the last call was prepared. */
    int rows() {
        return workspace == null ? 0 : workspace.size().rows();
    }

    private long keptBytes() {
        return kept.stream().mapToLong(sequence -> sequence.cache().bytes()).sum();
    }

    private Placement plan(Division chosen, Name called, Planner.Order first, Workspace.Size size, long otherBytes) {
        long fixedBytes = chosen.fixedBytes(size, otherBytes);
        if (!chosen.fits(size, otherBytes)) {
            throw new LaminaException(called.inErrors + " is too small: at least "
                    + mebibytes(leastMemory(otherBytes, each -> size, Division::minimum)) + " are needed, of which "
                    + mebibytes(fixedBytes) + " for norms, KV cache and activations."
                    + " Raise --memory, or lower --context, --prefetch or --panel.");
        }
        return chosen.planner().plan(chosen.memory(), fixedBytes, first);
    }

    /** What a division needs for a workspace and other bytes. */
    @FunctionalInterface
    private interface Need {
        long bytes(Division division, Workspace.Size size, long otherBytes);
    }

    /**
     * The budget that is enough, in whole MiB: with a larger one the panels and the workspace grow too, so it is
     * searched for.
     */
    private long leastMemory(long otherBytes, Function<Division, Workspace.Size> size, Need need) {
        long budget = MEBIBYTE;
        while (true) {
            var candidate = division(budget);
            long least = need.bytes(candidate, size.apply(candidate), otherBytes);
            if (least <= budget) {
                return budget;
            }
            budget = Math.ceilDiv(least, MEBIBYTE) * MEBIBYTE;
        }
    }

    private Division division(long budget) {
        return budget == memory ? division : Division.of(weights, budget, askedPanel, streamOptions);
    }

    /** What one sequence takes beside a workspace. */
    private long otherBytes(int positions) {
        return weights.kv().bytes(positions) + logitsBytes();
    }

    private long logitsBytes() {
        return LogitsRows.bytes(1, weights.program().vocabulary());
    }

    /** What one sequence needs. */
    MemoryNeeds needs(int positions) {
        long others = keptBytes() + otherBytes(positions);
        long least = leastMemory(others, each -> Division.ONE_ROW, Division::minimum);
        long whole = leastMemory(others, each -> each.workspaceSize(positions, 1, 1, others), Division::whole);
        return new MemoryNeeds(least, Math.max(least, whole));
    }

    /**
     * What {@link #prepare} would do now for one sequence.
     *
     * @param asked a budget in bytes; 0: this one
     * @param predicted the rates that the prediction is for; which panels stay does not depend on them
     */
    MemoryPlan plan(long asked, int positions, Rates predicted) {
        var chosen = asked == 0 ? division : division(asked);
        var called = chosen == division ? name : Name.of(asked);
        var first = chosen == division ? order : chosen.order(rates);
        long others = keptBytes() + otherBytes(positions);
        var size = chosen.workspaceSize(positions, 1, 1, others);
        var placed = plan(chosen, called, first, size, others);
        if (chosen == division) {
            placed = keptOr(placed, division.fixedBytes(size, others));
        }
        long readerBytes = placed.hostBytes() - placed.slots() * placed.slotBytes() - placed.residentBytes();
        return new MemoryPlan(chosen.memory(), called.origin, positions, weights.vectors().bytes(),
                others - logitsBytes(), chosen.workspaceBytes(size) + chosen.feedBytes() + logitsBytes(), readerBytes, placed.slots(),
                placed.slotBytes(), placed.residentBytes(), chosen.schedule().weightBytes(),
                chosen.residentBytes(placed), first == Planner.Order.HEAD_FIRST, chosen.kinds(placed),
                chosen.stages(placed), predicted, chosen.planner().secondsPerSweep(placed, predicted));
    }

    private static String mebibytes(long bytes) {
        return Math.ceilDiv(bytes, MEBIBYTE) + "MiB";
    }

    /**
     * The placement of the next call: the one that is there, if it still fits and the new one is not much better. Then
     * reading goes on undisturbed.
     */
    private Placement keptOr(Placement next, long fixedBytes) {
        var old = placement;
        return streamer == null || old == null || old.hostBytes() + fixedBytes > memory || isBetter(next, old)
                ? next
                : old;
    }

    private boolean isBetter(Placement next, Placement old) {
        boolean ring = old.slots() > 0 && (next.slots() == 0 || next.slots() > old.slots());
        boolean residents = next.residentBytes() - old.residentBytes()
                > weights.schedule().weightBytes() / WORTH_A_RESTART;
        return ring || residents || next.options().readers() > old.options().readers()
                || next.options().rowCacheBytes() > old.options().rowCacheBytes();
    }

    /** Brings ring and resident panels to a placement. */
    private void place(Placement next) {
        if (streamer != null && next.equals(placement)) {
            return;
        }
        reset();
        residents.choose(next.resident());
        placement = next;
        streamer = new Streamer(weights.files(), cycle, residents, next.options(), device, telemetry);
    }

    private Streamer streamer() {
        if (streamer == null) {
            throw new LaminaException("The model was not prepared for a sweep.");
        }
        return streamer;
    }

    private long reservedBytes() {
        return placement == null ? 0 : placement.hostBytes();
    }

    /** Whether the KV cache of a conversation has not been released. */
    boolean keeps(Sequence sequence) {
        return kept.contains(sequence);
    }

    /** Counts the KV cache of a conversation until it is released. */
    void keep(Sequence sequence) {
        kept.add(sequence);
    }

    /** Frees the KV cache of a conversation. */
    void release(Sequence sequence) {
        if (kept.remove(sequence)) {
            sequence.close();
        }
    }

    /** What was read since the model was opened. */
    StreamCounters counters() {
        return streamer == null ? pastCounters : pastCounters.plus(streamer.counters());
    }

    /** Bytes in the ring that nothing has used yet. */
    long readAheadBytes() {
        if (streamer == null) {
            return 0;
        }
        var now = streamer.counters();
        return now.readBytes() - now.weightBytes() - now.rowBytes() - now.paddingBytes() - now.discardedBytes();
    }

    /** Bytes of weights that stay in memory: a sweep reads all others. */
    long residentBytes() {
        return placement == null ? 0 : division.residentBytes(placement);
    }

    /** The most bytes that were held. */
    long peakBytes() {
        return peakBytes;
    }

    /** Ends the readers: the next call begins with new ones. */
    void reset() {
        placement = null;
        if (streamer != null) {
            var ending = streamer;
            streamer = null;
            try {
                ending.close();
            } finally { // what it had read ahead counts as discarded only now
                pastCounters = pastCounters.plus(ending.counters());
            }
        }
    }

    @Override
    public void close() {
        var all = new Closing();
        all.close(this::reset);
        all.close(residents);
        all.close(feed);
        all.close(workspace);
        kept.forEach(all::close);
        kept.clear();
        all.end();
    }
}
