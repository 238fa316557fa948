package dev.lamina.internal.generate;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.stream.Extent;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A program cut into panels: what is read, in which order, and what each panel lets the device compute. A matrix
 * becomes one panel or several row ranges; small matrices that lie side by side in their file share a panel. Ops
 * without weights hang on the panel before them. The panels of a matrix that lies on several drives take turns, so that
 * a few panels anywhere in the cycle keep all drives busy.
 *
 * @param prologue how many of the ops come before the first panel
 * @param ops all ops of a sweep, in order
 * @param panels the read cycle
 */
record Schedule(int prologue, List<PanelOp> ops, List<Panel> panels) {
    /** Larger panels make the ring too large for the caches of a processor, and read no faster. */
    private static final long LARGEST_PANEL = 8L << 20;

    /** A panel takes at most this share of the budget. */
    private static final int PANELS_IN_BUDGET = 16;

    /** A tiny budget does not cut a huge model into more panels than this: each takes some Java heap. */
    private static final int MOST_PANELS = 1 << 15;

    /**
     * One op, or the part of one that a panel feeds.
     *
     * @param slice the rows of the weight, for {@link Op.Linear}; null for others
     */
    record PanelOp(Op op, @Nullable Slice slice) {}

    /**
     * Rows of a weight in a panel.
     *
     * @param offset bytes from the start of the panel
     * @param firstRow number of the first row in its matrix
     * @param rows how many there are
     * @param rowBytes bytes from one row to the next
     * @param dtype element type
     */
    record Slice(long offset, int firstRow, int rows, long rowBytes, DType dtype) {}

    /**
     * A panel.
     *
     * @param extent where it lies
     * @param firstOp the first op that it feeds
     * @param opCount how many follow, until the next panel is needed
     * @param logits the columns of the logits that its ops compute; null if none
     */
    record Panel(Extent extent, int firstOp, int opCount, @Nullable Slice logits) {}

    /**
     * Cuts a program into panels.
     *
     * @param files number of each file of the checkpoint, as {@link Extent#file} counts them
     * @param panelBytes most bytes of a panel; a single row may be more
     * @param rankOfStage the number of the device that computes each stage: no panel belongs to two
     */
    static Schedule of(Program program, Checkpoint checkpoint, Map<Path, Integer> files, long panelBytes,
            int[] rankOfStage) {
        var ops = new ArrayList<PanelOp>();
        var panels = new ArrayList<Panel>();
        int prologue = 0;
        int rank = 0;
        for (int i = 0; i < rankOfStage.length; i++) {
            for (var op : program.stages().get(i).ops()) {
                if (op instanceof Op.Linear linear) {
                    var tensor = checkpoint.tensor(linear.weight());
                    boolean logits = linear.out() == program.logits();
                    cut(linear, tensor, files, panelBytes, logits, rankOfStage[i] == rank, ops, panels);
                    rank = rankOfStage[i];
                } else {
                    ops.add(new PanelOp(op, null));
                    if (panels.isEmpty()) {
                        prologue = ops.size();
                    } else {
                        var last = panels.removeLast();
                        panels.add(new Panel(last.extent, last.firstOp, last.opCount + 1, last.logits));
                    }
                }
            }
        }
        return new Schedule(prologue, List.copyOf(ops), List.copyOf(panels));
    }

    /** The number of the stage of each panel: that of the first op that it feeds. */
    int[] stages(Program program) {
        var stageOf = new IdentityHashMap<Op, Integer>();
        for (int stage = 0; stage < program.stages().size(); stage++) {
            for (var op : program.stages().get(stage).ops()) {
                stageOf.put(op, stage);
            }
        }
        return panels.stream().mapToInt(panel -> stageOf.get(ops.get(panel.firstOp()).op())).toArray();
    }

    /** The number of the device that computes each panel. */
    int[] ranks(Program program, int[] rankOfStage) {
        return Arrays.stream(stages(program)).map(stage -> rankOfStage[stage]).toArray();
    }

    /**
     * Most bytes of a panel, where nobody asks for another size.
     *
     * @param memory bytes that Lamina may hold, on the host or on the smallest device
     * @param weightBytes bytes of all matrices
     */
    static long defaultPanel(long memory, long weightBytes) {
        return Math.max(Math.min(LARGEST_PANEL, memory / PANELS_IN_BUDGET), weightBytes / MOST_PANELS);
    }

    /** Bytes of all matrices of a program. */
    static long weightBytes(Program program, Checkpoint checkpoint) {
        return program.stages().stream()
                .flatMap(stage -> stage.ops().stream())
                .mapToLong(op -> op instanceof Op.Linear linear ? checkpoint.tensor(linear.weight()).bytes() : 0)
                .sum();
    }

    private static void cut(Op.Linear linear, Tensor tensor, Map<Path, Integer> files, long panelBytes, boolean logits,
            boolean mayJoin, List<PanelOp> ops, List<Panel> panels) {
        int rows = linear.out().width();
        long rowBytes = tensor.bytes() / rows;
        var ranges = ranges(tensor, rowBytes, panelBytes);
        var previous = panels.isEmpty() ? null : panels.getLast();
        var first = ranges.getFirst();
        boolean joins = mayJoin && ranges.size() == 1 && !logits && previous != null && previous.logits == null
                && previous.extent.file() == files.get(first.file)
                && previous.extent.offset() + previous.extent.bytes() == first.offset
                && previous.extent.bytes() + tensor.bytes() <= panelBytes;
        if (joins) {
            ops.add(new PanelOp(linear, new Slice(previous.extent.bytes(), 0, rows, rowBytes, tensor.dtype())));
            var extent = new Extent(previous.extent.file(), previous.extent.offset(),
                    previous.extent.bytes() + tensor.bytes());
            panels.set(panels.size() - 1, new Panel(extent, previous.firstOp, previous.opCount + 1, null));
            return;
        }
        for (var range : ranges) {
            var slice = new Slice(0, range.firstRow, range.rows, rowBytes, tensor.dtype());
            ops.add(new PanelOp(linear, slice));
            var extent = new Extent(files.get(range.file), range.offset, range.rows * rowBytes);
            panels.add(new Panel(extent, ops.size() - 1, 1, logits ? slice : null));
        }
    }

    /**
     * Rows of a matrix that become a panel.
     *
     * @param file the file that holds them
     * @param offset first byte in that file
     * @param firstRow number of the first row in the matrix
     * @param rows how many there are
     * @param turn how much of its part of the matrix lies before the middle of these rows: from 0 to 1
     */
    private record Range(Path file, long offset, int firstRow, int rows, double turn) {}

    /** Cuts each part of a matrix into equal ranges, and lets the parts take turns in proportion to their sizes. */
    private static List<Range> ranges(Tensor tensor, long rowBytes, long panelBytes) {
        var ranges = new ArrayList<Range>();
        int firstOfPart = 0;
        for (var part : tensor.parts()) {
            int rows = Math.toIntExact(part.bytes() / rowBytes);
            long panels = Math.ceilDiv(rows, Math.clamp(panelBytes / rowBytes, 1, rows));
            int rowsEach = Math.toIntExact(Math.ceilDiv(rows, panels));
            for (int first = 0; first < rows; first += rowsEach) {
                int count = Math.min(rowsEach, rows - first);
                ranges.add(new Range(part.file(), part.offset() + first * rowBytes, firstOfPart + first, count,
                        (first + count / 2.0) / rows));
            }
            firstOfPart += rows;
        }
        // a stable sort: of those whose turn is the same, the first part comes first
        ranges.sort(Comparator.comparingDouble(Range::turn));
        return ranges;
    }

    /** Where the panels lie, in the order of reading. */
    List<Extent> cycle() {
        return panels.stream().map(Panel::extent).toList();
    }

    /** Bytes of weights in one sweep. */
    long weightBytes() {
        return panels.stream().mapToLong(panel -> panel.extent.bytes()).sum();
    }

    /** Columns of the logits that are computed at a time, at most. */
    int logitsColumns() {
        int most = 0;
        for (var panel : panels) {
            if (panel.logits != null) {
                most = Math.max(most, panel.logits.rows);
            }
        }
        return most;
    }
}
