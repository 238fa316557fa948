package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.Matrix;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.model.Stage;
import dev.lamina.internal.stream.Extent;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * A program cut into panels: what is read, in which order, and what each panel lets the device compute. A matrix
 * becomes one panel or several row ranges; small matrices that lie side by side in their file share a panel, and so do
 * rows of a matrix that are used in another order than they lie in. Ops without weights hang on the panel before them.
 * The panels of a matrix that lies on several drives take turns, so that a few panels anywhere in the cycle keep all
 * drives busy.
 *
 * <p>Panels of experts are in no cycle: which of them a sweep needs is known when its rows have chosen.
 *
 * @param prologue how many of the ops come before the first panel
 * @param ops all ops of a sweep in order, but for those of experts
 * @param panels the read cycle
 * @param stages number of the stage of each panel
 * @param experts the panels of all experts; a {@link Choice} says whose is which
 */
record Schedule(int prologue, List<PanelOp> ops, List<Panel> panels, int[] stages, List<ExpertPanel> experts) {
    /** Larger panels make the ring too large for the caches of a processor, and read no faster. */
    private static final long LARGEST_PANEL = 8L << 20;

    /** A panel takes at most this share of the budget. */
    private static final int PANELS_IN_BUDGET = 16;

    /** A tiny budget does not cut a huge model into more panels than this: each takes some Java heap. */
    private static final int MOST_PANELS = 1 << 15;

    /**
     * One op, or the part of one that a panel feeds.
     *
     * @param slice the rows of the weight, for products and what works on their columns; null for others
     */
    record PanelOp(Op op, @Nullable Slice slice) {}

    /**
     * Rows of a weight in a panel.
     *
     * @param matrix the weight
     * @param offset bytes from the start of the panel
     * @param firstRow number of the first row in its matrix
     * @param rows how many there are
     * @param rowBytes bytes from one row to the next
     * @param scaleOffset bytes from the start of the panel to the scales of the first row, where these are in the panel
     */
    record Slice(Matrix matrix, long offset, int firstRow, int rows, long rowBytes, long scaleOffset) {}

    /**
     * A panel of the cycle.
     *
     * @param extent where it lies
     * @param firstOp the first op that it feeds
     * @param opCount how many follow, until the next panel is needed or rows choose experts
     * @param logits the columns of the logits that its ops compute; null if none
     * @param choice what is chosen after these ops; null for nothing
     */
    record Panel(Extent extent, int firstOp, int opCount, @Nullable Slice logits, @Nullable Choice choice) {}

    /**
     * Rows choose experts.
     *
     * @param op what they choose by
     * @param firstPanels for each expert, the number of its first panel; then of the one after the last
     * @param firstOp the first op after the experts
     * @param opCount how many there are, until the next panel is needed
     * @param prediction the ops that predict the next choice; none where it is not predicted
     * @param number its number in a sweep
     */
    record Choice(Op.Experts op, int[] firstPanels, int firstOp, int opCount, List<PanelOp> prediction, int number) {
        /** How many experts there are. */
        int experts() {
            return firstPanels.length - 1;
        }
    }

    /**
     * A panel of an expert.
     *
     * @param extents where it lies: elements, and where these have scales of their own, those; in memory each begins at
     *     a multiple of {@link #ALIGNMENT} bytes
     * @param ops what it feeds
     * @param expert its number in its mixture
     * @param stage the number of its stage
     */
    record ExpertPanel(List<Extent> extents, List<PanelOp> ops, int expert, int stage) {
        static final long ALIGNMENT = 64;

        /** Bytes of weights. */
        long bytes() {
            return extents.stream().mapToLong(Extent::bytes).sum();
        }

        /** Bytes that it takes in memory. */
        long memoryBytes() {
            return extents.subList(0, extents.size() - 1).stream().mapToLong(e -> aligned(e.bytes())).sum()
                    + extents.getLast().bytes();
        }

        static long aligned(long bytes) {
            return Math.ceilDiv(bytes, ALIGNMENT) * ALIGNMENT;
        }
    }

    /**
     * Cuts a program into panels.
     *
     * @param files number of each file of the checkpoint, as {@link Extent#file} counts them
     * @param panelBytes most bytes of a panel; a single row may be more
     * @param rankOfStage the number of the device that computes each stage: no panel belongs to two
     */
    static Schedule of(Program program, Checkpoint checkpoint, Map<Path, Integer> files, long panelBytes,
            int[] rankOfStage) {
        return new Cutter(program, checkpoint, files, panelBytes, rankOfStage).cut();
    }

    /** The number of the device that computes each panel. */
    int[] ranks(int[] rankOfStage) {
        return Arrays.stream(stages).map(stage -> rankOfStage[stage]).toArray();
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

    /** Bytes of all matrices of a program, those of all experts included. */
    static long weightBytes(Program program, Checkpoint checkpoint) {
        return program.stages().stream().mapToLong(stage -> weightBytes(stage, checkpoint)).sum();
    }

    /** Bytes of all matrices of a stage. */
    static long weightBytes(Stage stage, Checkpoint checkpoint) {
        return stage.flatOps()
                .mapToLong(op -> op instanceof Op.Product product ? bytes(product, checkpoint) : 0)
                .sum();
    }

    /** Bytes of the rows of its matrix that a product uses. */
    static long bytes(Op.Product product, Checkpoint checkpoint) {
        var matrix = product.matrix();
        long bytes = rowBytes(checkpoint.tensor(matrix.tensor()), matrix);
        if (matrix.format() == Matrix.Format.MXFP4) {
            bytes += rowBytes(checkpoint.tensor(matrix.scales()), matrix);
        }
        return bytes * product.rows();
    }

    private static long rowBytes(Tensor tensor, Matrix matrix) {
        return tensor.bytes() / matrix.rows();
    }

    /** The choices of a sweep, in order. */
    List<Choice> choices() {
        return panels.stream().map(Panel::choice).filter(Objects::nonNull).toList();
    }

    /** Where the panels of the cycle lie, in the order of reading. */
    List<Extent> cycle() {
        return panels.stream().map(Panel::extent).toList();
    }

    /** Where the panels of experts lie. */
    List<List<Extent>> expertExtents() {
        return experts.stream().map(ExpertPanel::extents).toList();
    }

    /** The number of the expert that each panel of one belongs to, counted over all mixtures. */
    int[] expertNumbers() {
        var numbers = new int[experts.size()];
        for (int i = 1; i < numbers.length; i++) {
            boolean same = experts.get(i).expert == experts.get(i - 1).expert
                    && experts.get(i).stage == experts.get(i - 1).stage;
            numbers[i] = numbers[i - 1] + (same ? 0 : 1);
        }
        return numbers;
    }

    /** Bytes of weights that every sweep needs, whatever its rows choose. */
    long denseBytes() {
        return panels.stream().mapToLong(panel -> panel.extent.bytes()).sum();
    }

    /** Bytes of all weights. */
    long weightBytes() {
        return denseBytes() + experts.stream().mapToLong(ExpertPanel::bytes).sum();
    }

    /** Bytes of the largest panel in memory. */
    long largestPanel() {
        long most = experts.stream().mapToLong(ExpertPanel::memoryBytes).max().orElse(0);
        return Math.max(most, panels.stream().mapToLong(panel -> panel.extent.bytes()).max().orElse(0));
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

    /**
     * Products with one matrix, and what is computed between them, that one panel feeds.
     *
     * @param range the rows that they use, each once
     * @param ops how many they are
     */
    private record Block(Range range, int ops) {}

    /** A panel that is being put together. */
    private static final class Draft {
        final List<Extent> extents;
        final List<PanelOp> ops = new ArrayList<>();
        final int stage;
        final boolean logits;
        Op.@Nullable Experts choice;
        final List<PanelOp> after = new ArrayList<>(); // the choice
        int @Nullable [] firstPanels;

        Draft(List<Extent> extents, int stage, boolean logits) {
            this.extents = new ArrayList<>(extents);
            this.stage = stage;
            this.logits = logits;
        }

        long bytes() {
            return extents.stream().mapToLong(Extent::bytes).sum();
        }
    }

    private static final class Cutter {
        private final Program program;
        private final Checkpoint checkpoint;
        private final Map<Path, Integer> files;
        private final long panelBytes;
        private final int[] rankOfStage;
        private final List<PanelOp> prologue = new ArrayList<>();
        private final List<Draft> drafts = new ArrayList<>();
        private final List<ExpertPanel> experts = new ArrayList<>();

        Cutter(Program program, Checkpoint checkpoint, Map<Path, Integer> files, long panelBytes, int[] rankOfStage) {
            this.program = program;
            this.checkpoint = checkpoint;
            this.files = files;
            this.panelBytes = panelBytes;
            this.rankOfStage = rankOfStage;
        }

        Schedule cut() {
            for (int stage = 0; stage < program.stages().size(); stage++) {
                var ops = program.stages().get(stage).ops();
                for (int i = 0; i < ops.size();) {
                    switch (ops.get(i)) {
                        case Op.Product product -> i += cut(product, ops.subList(i, ops.size()), drafts, stage);
                        case Op.Experts choice -> {
                            cutExperts(choice, stage);
                            i++;
                        }
                        default -> hang(ops.get(i++));
                    }
                }
            }
            return schedule();
        }

        /** An op without a weight follows the last panel; one on the logits each panel that computes some. */
        private void hang(Op op) {
            var out = op.out();
            if (out != null && out.whole() == program.logits()) {
                drafts.stream().filter(draft -> draft.logits).forEach(draft ->
                        draft.ops.add(new PanelOp(op, draft.ops.getFirst().slice)));
            } else if (drafts.isEmpty()) {
                prologue.add(new PanelOp(op, null));
            } else {
                var last = drafts.getLast();
                (last.choice == null ? last.ops : last.after).add(new PanelOp(op, null));
            }
        }

        private void cutExperts(Op.Experts choice, int stage) {
            if (drafts.isEmpty() || drafts.getLast().choice != null) {
                throw new IllegalStateException("experts without a router before them");
            }
            var firstPanels = new int[choice.experts().size() + 1];
            for (int expert = 0; expert < choice.experts().size(); expert++) {
                firstPanels[expert] = experts.size();
                var own = new ArrayList<Draft>();
                var before = new ArrayList<PanelOp>();
                var ops = choice.experts().get(expert);
                for (int i = 0; i < ops.size();) {
                    if (ops.get(i) instanceof Op.Product product) {
                        i += cut(product, ops.subList(i, ops.size()), own, stage);
                    } else {
                        var op = new PanelOp(ops.get(i++), null);
                        (own.isEmpty() ? before : own.getLast().ops).add(op);
                    }
                }
                own.getFirst().ops.addAll(0, before);
                for (var draft : own) {
                    experts.add(new ExpertPanel(List.copyOf(draft.extents), List.copyOf(draft.ops), expert, stage));
                }
            }
            firstPanels[choice.experts().size()] = experts.size();
            drafts.getLast().choice = choice;
            drafts.getLast().firstPanels = firstPanels;
        }

        /**
         * Cuts the rows of a product, or finds a panel for it and some of the ops after it.
         *
         * @param ops the product and what comes after it
         * @return how many of these are done
         */
        private int cut(Op.Product product, List<Op> ops, List<Draft> drafts, int stage) {
            var matrix = product.matrix();
            var tensor = checkpoint.tensor(matrix.tensor());
            var scales = matrix.format() == Matrix.Format.MXFP4 ? checkpoint.tensor(matrix.scales()) : null;
            if (scales != null && (drafts == this.drafts || tensor.parts().size() > 1)) {
                throw new LaminaException(tensor.parts().getFirst().file() + ": the tensor " + matrix.tensor()
                        + " is in MXFP4, which is supported for experts in one folder only.");
            }
            long rowBytes = rowBytes(tensor, matrix);
            boolean logits = product.out().whole() == program.logits();
            int done = logits || scales != null ? 0 : feedOne(ops, drafts, stage, tensor, rowBytes);
            if (done > 0) {
                return done;
            }
            for (var range : ranges(tensor, product, product.firstRow(), product.rows(), rowBytes)) {
                var extents = new ArrayList<Extent>();
                extents.add(extent(range, rowBytes));
                if (scales != null) {
                    long scaleBytes = rowBytes(scales, matrix);
                    extents.add(new Extent(files.get(scales.file()), scales.offset() + range.firstRow * scaleBytes,
                            range.rows * scaleBytes));
                }
                var draft = new Draft(extents, stage, logits);
                long scaleOffset = ExpertPanel.aligned(range.rows * rowBytes);
                draft.ops.add(new PanelOp(product,
                        new Slice(matrix, 0, range.firstRow, range.rows, rowBytes, scaleOffset)));
                drafts.add(draft);
            }
            return 1;
        }

        private Extent extent(Range range, long rowBytes) {
            return new Extent(files.get(range.file), range.offset, range.rows * rowBytes);
        }

        /** Lets one panel feed as many ops as it can, the last one if that has room. Returns how many that are. */
        private int feedOne(List<Op> ops, List<Draft> drafts, int stage, Tensor tensor, long rowBytes) {
            var blocks = blocks(ops, tensor, rowBytes);
            var previous = drafts.isEmpty() ? null : drafts.getLast();
            for (var block : blocks.reversed()) {
                if (previous != null && joins(previous, block.range, rowBytes, stage)) {
                    var before = previous.extents.getFirst();
                    var added = extent(block.range, rowBytes);
                    previous.extents.set(0,
                            new Extent(before.file(), before.offset(), before.bytes() + added.bytes()));
                    feed(previous, before.bytes(), block, ops, rowBytes);
                    return block.ops;
                }
            }
            if (blocks.isEmpty()) {
                return 0;
            }
            var draft = new Draft(List.of(extent(blocks.getLast().range, rowBytes)), stage, false);
            feed(draft, 0, blocks.getLast(), ops, rowBytes);
            drafts.add(draft);
            return blocks.getLast().ops;
        }

        private boolean joins(Draft previous, Range next, long rowBytes, int stage) {
            return !previous.logits && previous.choice == null && previous.extents.size() == 1
                    && rankOfStage[previous.stage] == rankOfStage[stage]
                    && previous.extents.getFirst().file() == files.get(next.file)
                    && previous.extents.getFirst().offset() + previous.bytes() == next.offset
                    && previous.bytes() + next.rows * rowBytes <= panelBytes;
        }

        private static void feed(Draft draft, long offset, Block block, List<Op> ops, long rowBytes) {
            for (var op : ops.subList(0, block.ops)) {
                draft.ops.add(new PanelOp(op, op instanceof Op.Product product
                        ? new Slice(product.matrix(), offset + (product.firstRow() - block.range.firstRow) * rowBytes,
                                product.firstRow(), product.rows(), rowBytes, 0)
                        : null));
            }
        }

        /**
         * The blocks that begin with the first of some ops and fit into a panel, from the smallest to the largest.
         * Their products use rows that lie side by side in one part of the matrix, in whatever order.
         */
        private List<Block> blocks(List<Op> ops, Tensor tensor, long rowBytes) {
            var blocks = new ArrayList<Block>();
            var matrix = ((Op.Product) ops.getFirst()).matrix();
            var used = new BitSet();
            int count = 0;
            int first = Integer.MAX_VALUE;
            for (int i = 0; i < ops.size() && !(ops.get(i) instanceof Op.Experts); i++) {
                if (ops.get(i) instanceof Op.Product product) {
                    int end = product.firstRow() + product.rows();
                    int next = used.nextSetBit(product.firstRow());
                    count += product.rows();
                    if (!product.matrix().equals(matrix) || next >= 0 && next < end || count * rowBytes > panelBytes) {
                        break;
                    }
                    used.set(product.firstRow(), end);
                    first = Math.min(first, product.firstRow());
                    if (used.length() - first == count) {
                        var ranges = ranges(tensor, product, first, count, rowBytes);
                        if (ranges.size() == 1) {
                            blocks.add(new Block(ranges.getFirst(), i + 1));
                        }
                    }
                }
            }
            return blocks;
        }

        /**
         * Cuts each part of some rows of a matrix into equal ranges, and lets the parts take turns in proportion to
         * their sizes. Sums that go on from one range to the next keep the order of the rows.
         */
        private List<Range> ranges(Tensor tensor, Op.Product product, int firstRow, int count, long rowBytes) {
            var ranges = new ArrayList<Range>();
            int firstOfPart = 0;
            for (var part : tensor.parts()) {
                int inPart = Math.toIntExact(part.bytes() / rowBytes);
                int from = Math.max(firstRow, firstOfPart);
                int rows = Math.min(firstRow + count, firstOfPart + inPart) - from;
                if (rows > 0) {
                    long panels = Math.ceilDiv(rows, Math.clamp(panelBytes / rowBytes, 1, rows));
                    int rowsEach = Math.toIntExact(Math.ceilDiv(rows, panels));
                    for (int first = 0; first < rows; first += rowsEach) {
                        int size = Math.min(rowsEach, rows - first);
                        ranges.add(new Range(part.file(), part.offset() + (from - firstOfPart + first) * rowBytes,
                                from + first, size, (first + size / 2.0) / rows));
                    }
                }
                firstOfPart += inPart;
            }
            if (product instanceof Op.Linear) {
                // a stable sort: of those whose turn is the same, the first part comes first
                ranges.sort(Comparator.comparingDouble(Range::turn));
            }
            return ranges;
        }

        private Schedule schedule() {
            var ops = new ArrayList<>(prologue);
            var panels = new ArrayList<Panel>();
            int choices = 0;
            for (var draft : drafts) {
                int first = ops.size();
                ops.addAll(draft.ops);
                Choice choice = null;
                if (draft.choice != null && draft.firstPanels != null) {
                    choice = new Choice(draft.choice, draft.firstPanels, ops.size(), draft.after.size(),
                            prediction(draft.choice.prediction()), choices++);
                    ops.addAll(draft.after);
                }
                panels.add(new Panel(draft.extents.getFirst(), first, draft.ops.size(),
                        draft.logits ? draft.ops.getFirst().slice : null, choice));
            }
            return new Schedule(prologue.size(), List.copyOf(ops), List.copyOf(panels),
                    drafts.stream().mapToInt(draft -> draft.stage).toArray(), List.copyOf(experts));
        }

        /** Its weight is in memory, the rows that it uses one after the other. */
        private List<PanelOp> prediction(Op.@Nullable Prediction prediction) {
            if (prediction == null) {
                return List.of();
            }
            var ops = new ArrayList<PanelOp>();
            for (var op : prediction.ops()) {
                ops.add(new PanelOp(op, op instanceof Op.Linear product
                        ? new Slice(product.matrix(), 0, product.firstRow(), product.rows(),
                                rowBytes(checkpoint.tensor(product.matrix().tensor()), product.matrix()), 0)
                        : null));
            }
            return ops;
        }
    }
}
