package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.MemoryNeeds;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.Extent;
import dev.lamina.internal.stream.Placement;
import dev.lamina.internal.stream.ResidentPanels;
import dev.lamina.internal.stream.StreamCounters;
import dev.lamina.internal.stream.StreamOptions;
import dev.lamina.internal.stream.Streamer;
import dev.lamina.internal.telemetry.Telemetry;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The host memory that a model may hold, and what is in it: vectors, KV caches of conversations, a workspace, the
 * staging ring, and for the rest resident panels. Before a call takes memory it is prepared here: panels make room
 * where they must, so that the sum stays below the budget at every moment.
 */
final class Budget implements AutoCloseable {
    /** Rows of a sweep that work on prompts, where memory allows: by then the arithmetic outweighs the reading. */
    private static final int PREFILL_ROWS = 512;

    /** A workspace takes at most this share of the budget, unless one row for each sequence needs more. */
    private static final int WORKSPACES_IN_BUDGET = 8;

    private static final long MEBIBYTE = 1L << 20;

    private static final Workspace.Size ONE_ROW = new Workspace.Size(1, 1, 1);

    /** The budget that holds all weights is searched for in steps of this share. */
    private static final int WHOLE_STEPS = 128;

    /** Reading begins anew only for resident panels that are more than this share of the weights. */
    private static final int WORTH_A_RESTART = 50;

    private final Weights weights;
    private final Device device;
    private final Queue queue;
    private final long memory;
    private final String memoryName;
    private final long askedPanel;
    private final StreamOptions streamOptions;
    private final Telemetry telemetry;
    private final List<Extent> cycle;
    private final ResidentPanels residents;
    private final List<Sequence> kept = new ArrayList<>();
    private @Nullable Placement placement;
    private @Nullable Streamer streamer;
    private @Nullable Workspace workspace;
    private StreamCounters pastCounters = StreamCounters.NONE;
    private long peakBytes;

    /**
     * Makes a budget. Whether it is large enough, the first call tells: only then its needs are known.
     *
     * @param memory bytes
     * @param memoryName how messages name that budget
     * @param askedPanel most bytes of a panel as the user asked; 0 for {@link Schedule#defaultPanel}
     * @param streamOptions how to read ahead
     * @param telemetry hears of reads and waits
     */
    Budget(Weights weights, Device device, Queue queue, long memory, String memoryName, long askedPanel,
            StreamOptions streamOptions, Telemetry telemetry) {
        this.weights = weights;
        this.device = device;
        this.queue = queue;
        this.memory = memory;
        this.memoryName = memoryName;
        this.askedPanel = askedPanel;
        this.streamOptions = streamOptions;
        this.telemetry = telemetry;
        this.cycle = weights.schedule().cycle();
        this.residents = new ResidentPanels(weights.files(), cycle, new BitSet(), device);
    }

    /**
     * Whether a call with so many sequences and bytes fits, with room for a workspace that computes many rows at once.
     */
    boolean fitsWell(int sequences, long otherBytes) {
        var size = new Workspace.Size(sequences, sequences, sequences);
        return fits(size, otherBytes + memory / WORKSPACES_IN_BUDGET);
    }

    private boolean fits(Workspace.Size size, long otherBytes) {
        return Placement.minimum(fixedBytes(size, otherBytes), weights.files(), cycle, streamOptions) <= memory;
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
     * Makes room for a call.
     *
     * @param pendingRows rows that are still to be computed, over all sequences
     * @param outputRows most rows of a sweep whose logits are wanted; at most as many as the sweep has rows
     * @param sequences how many there are
     * @param otherBytes memory that the call is about to take for KV caches and logits
     */
    Sweep prepare(int pendingRows, int outputRows, int sequences, long otherBytes) {
        var size = workspaceSize(pendingRows, outputRows, sequences, otherBytes);
        if (workspace != null && !workspace.size().equals(size)) {
            workspace.close();
            workspace = null;
        }
        place(plan(size, otherBytes), fixedBytes(size, otherBytes));
        if (workspace == null) {
            workspace = new Workspace(device, weights.program(), weights.schedule(), weights.plan(), weights.vectors(),
                    weights.embeddingType(), size);
        }
        peakBytes = Math.max(peakBytes, fixedBytes(size, otherBytes) + reservedBytes());
        return new Sweep(weights.program(), weights.schedule(), weights.table(), streamer(), queue, workspace);
    }

    /** Rows that a sweep may have, as the last call was prepared. */
    int rows() {
        return workspace == null ? 0 : workspace.size().rows();
    }

    private Workspace.Size workspaceSize(int pendingRows, int outputRows, int sequences, long otherBytes) {
        int rows = Math.max(sequences, Math.min(pendingRows, PREFILL_ROWS));
        while (true) {
            var size = new Workspace.Size(rows, Math.min(outputRows, rows), sequences);
            long bytes = workspaceBytes(size);
            if (rows == sequences || bytes <= memory / WORKSPACES_IN_BUDGET && fits(size, otherBytes)) {
                return size;
            }
            rows = Math.max(sequences, rows - Math.max(1, rows / 8));
        }
    }

    private long workspaceBytes(Workspace.Size size) {
        return Workspace.bytes(weights.program(), weights.plan(), weights.embeddingType(), size);
    }

    /** All but ring and resident panels. */
    private long fixedBytes(Workspace.Size size, long otherBytes) {
        long keptBytes = kept.stream().mapToLong(sequence -> sequence.cache().bytes()).sum();
        return weights.vectors().bytes() + keptBytes + workspaceBytes(size) + otherBytes;
    }

    private Placement plan(Workspace.Size size, long otherBytes) {
        if (!fits(size, otherBytes)) {
            throw new LaminaException(memoryName + " is too small: at least "
                    + mebibytes(leastMemory(size, otherBytes)) + " are needed, of which "
                    + mebibytes(fixedBytes(size, otherBytes)) + " for norms, KV cache and activations."
                    + " Raise --memory, or lower --context, --prefetch or --panel.");
        }
        return Placement.plan(memory, fixedBytes(size, otherBytes), weights.files(), cycle, streamOptions);
    }

    /** The panels, and what all but ring and resident panels takes, under some budget. */
    private record Candidate(List<Extent> cycle, long fixedBytes) {}

    private Candidate candidate(long budget, Workspace.Size size, long otherBytes) {
        long panel = askedPanel > 0 ? askedPanel : Schedule.defaultPanel(budget, weights.schedule().weightBytes());
        var schedule = Schedule.of(weights.program(), weights.checkpoint(), weights.numbers(), panel);
        var plan = ActivationPlan.of(weights.program(), schedule.logitsColumns());
        long fixed = fixedBytes(size, otherBytes) - workspaceBytes(size)
                + Workspace.bytes(weights.program(), plan, weights.embeddingType(), size);
        return new Candidate(schedule.cycle(), fixed);
    }

    /** The budget that would do, in whole MiB: with a larger one the default panel grows too, so it is searched for. */
    private long leastMemory(Workspace.Size size, long otherBytes) {
        long budget = MEBIBYTE;
        while (true) {
            var candidate = candidate(budget, size, otherBytes);
            long least = Placement.minimum(candidate.fixedBytes, weights.files(), candidate.cycle, streamOptions);
            if (least <= budget) {
                return budget;
            }
            budget = Math.ceilDiv(least, MEBIBYTE) * MEBIBYTE;
        }
    }

    private long otherBytes(int positions) {
        return weights.kv().bytes(positions) + LogitsRows.bytes(1, weights.program().vocabulary());
    }

    /** What one sequence needs. */
    MemoryNeeds needs(int positions) {
        long least = leastMemory(ONE_ROW, otherBytes(positions));
        long whole = least;
        while (residentBytes(whole, positions) < weights.schedule().weightBytes()) {
            whole += Math.ceilDiv(whole, WHOLE_STEPS * MEBIBYTE) * MEBIBYTE;
        }
        return new MemoryNeeds(least, whole);
    }

    /** Bytes of weights that would stay in memory under some budget. */
    long residentBytes(long budget, int positions) {
        var candidate = candidate(budget, ONE_ROW, otherBytes(positions));
        return Placement.plan(budget, candidate.fixedBytes, weights.files(), candidate.cycle, streamOptions)
                .resident().stream().mapToLong(panel -> candidate.cycle.get(panel).bytes()).sum();
    }

    private static String mebibytes(long bytes) {
        return Math.ceilDiv(bytes, MEBIBYTE) + "MiB";
    }

    /**
     * Brings ring and resident panels to a new placement. If the old one still fits and the new one would not hold much
     * more, it stays, and reading goes on undisturbed.
     */
    private void place(Placement next, long fixedBytes) {
        var old = placement;
        if (streamer != null && old != null) {
            long gain = next.residentBytes() - old.residentBytes();
            if (old.hostBytes() + fixedBytes <= memory && gain <= weights.schedule().weightBytes() / WORTH_A_RESTART) {
                return;
            }
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
        return placement == null ? 0 : placement.resident().stream().mapToLong(panel -> cycle.get(panel).bytes()).sum();
    }

    /** The most bytes that were held. */
    long peakBytes() {
        return peakBytes;
    }

    /** Ends the readers: the next call begins with new ones. */
    void reset() {
        placement = null;
        if (streamer != null) {
            pastCounters = counters();
            var ending = streamer;
            streamer = null;
            ending.close();
        }
    }

    @Override
    public void close() {
        reset();
        residents.close();
        if (workspace != null) {
            workspace.close();
        }
        kept.forEach(Sequence::close);
        kept.clear();
    }
}
