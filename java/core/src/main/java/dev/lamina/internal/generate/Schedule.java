package dev.lamina.internal.generate;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.stream.Extent;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A program cut into panels: what is read, in which order, and what each panel lets the device compute. A matrix
 * becomes one panel or several row ranges; small matrices that lie side by side in their file share a panel. Ops
 * without weights hang on the panel before them.
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
     */
    static Schedule of(Program program, Checkpoint checkpoint, Map<Path, Integer> files, long panelBytes) {
        var ops = new ArrayList<PanelOp>();
        var panels = new ArrayList<Panel>();
        int prologue = 0;
        for (var stage : program.stages()) {
            for (var op : stage.ops()) {
                if (op instanceof Op.Linear linear) {
                    var tensor = checkpoint.tensor(linear.weight());
                    int file = files.get(tensor.file());
                    boolean logits = linear.out() == program.logits();
                    cut(linear, tensor, file, panelBytes, logits, ops, panels);
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

    /**
     * Most bytes of a panel, where nobody asks for another size.
     *
     * @param memory bytes that Lamina may hold
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

    private static void cut(Op.Linear linear, Tensor tensor, int file, long panelBytes, boolean logits,
            List<PanelOp> ops, List<Panel> panels) {
        int rows = linear.out().width();
        long rowBytes = tensor.bytes() / rows;
        long parts = Math.ceilDiv(rows, Math.clamp(panelBytes / rowBytes, 1, rows));
        int rowsEach = Math.toIntExact(Math.ceilDiv(rows, parts));
        var previous = panels.isEmpty() ? null : panels.getLast();
        boolean joins = parts == 1 && !logits && previous != null && previous.logits == null
                && previous.extent.file() == file
                && previous.extent.offset() + previous.extent.bytes() == tensor.offset()
                && previous.extent.bytes() + tensor.bytes() <= panelBytes;
        if (joins) {
            ops.add(new PanelOp(linear, new Slice(previous.extent.bytes(), 0, rows, rowBytes, tensor.dtype())));
            var extent = new Extent(file, previous.extent.offset(), previous.extent.bytes() + tensor.bytes());
            panels.set(panels.size() - 1, new Panel(extent, previous.firstOp, previous.opCount + 1, null));
            return;
        }
        for (int first = 0; first < rows; first += rowsEach) {
            int count = Math.min(rowsEach, rows - first);
            var slice = new Slice(0, first, count, rowBytes, tensor.dtype());
            ops.add(new PanelOp(linear, slice));
            var extent = new Extent(file, tensor.offset() + first * rowBytes, count * rowBytes);
            panels.add(new Panel(extent, ops.size() - 1, 1, logits ? slice : null));
        }
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
