package dev.lamina.internal.generate;

import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.model.Attending;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Rope;
import dev.lamina.internal.model.Value;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.runtime.KvCache;
import dev.lamina.internal.runtime.OpArray;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.runtime.Step;
import dev.lamina.internal.runtime.View;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.function.ToIntFunction;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/**
 * The memory that sweeps of at most a given size work in, and their ops, with every operand at its place. Each device
 * has a part with activations of its own, at the same places in all; inputs and logits are in host memory.
 */
final class Workspace implements AutoCloseable {
    private static final int SEGMENT = 1024; // positions that one block of a GPU's threads attends to
    private static final int STATE_VALUES = 256; // of a head, that it sums up
    private static final long MOST_STATES = 16384;
    private static final long ARRAY_ALIGNMENT = 16;
    private static final long CACHE_PLACE_BYTES = 32; // of one layer of one sequence
    private static final int FAST_SEGMENT = 512; // elements of k that tensor cores add up before they are added
    private static final int ROUNDED_GROUP = 64; // elements that rows of rounded activations are filled up to, at most
    private static final long MOST_SUMS = 4 << 20; // but for few rows
    private static final int FEW = 8; // rows
    private static final int SCALED_BLOCK = 128; // rows and columns of F8_E4M3 that share a scale
    private static final int SCALED_ELEMENTS = 32; // of a row of MXFP4 that share a scale

    /**
     * How large sweeps can be.
     *
     * @param rows most rows
     * @param outputRows most rows whose logits are wanted
     * @param sequences most sequences
     */
    record Size(int rows, int outputRows, int sequences) {}

    /**
     * Where the inputs of a step lie: embedding rows first, then a (rows, dim) table of cosines and sines for each
     * rope.
     */
    private record Inputs(long[] ropes, long bytes) {
        static Inputs of(List<Rope> ropes, long embeddingRowBytes, int rows) {
            var offsets = new long[ropes.size()];
            long end = align(embeddingRowBytes * rows);
            for (int i = 0; i < offsets.length; i++) {
                offsets[i] = end;
                end = align(end + (long) Float.BYTES * ropes.get(i).dim() * rows);
            }
            return new Inputs(offsets, end);
        }

        private static long align(long bytes) {
            return Math.ceilDiv(bytes, 64) * 64;
        }
    }

    /** What a rank works with. */
    private record Part(Rank rank, MemorySegment activations, OpArray ops, OpArray expertOps, Step step)
            implements AutoCloseable {
        Processor processor() {
            return rank.processor();
        }

        @Override
        public void close() {
            var all = new Closing();
            all.close(step);
            all.close(expertOps);
            all.close(ops);
            all.close(() -> processor().device().freeOnDevice(activations));
            all.end();
        }
    }

    private final Weights weights;
    private final Schedule schedule;
    private final Size size;
    private final Inputs layout;
    private final ActivationPlan plan;
    private final HostMemory hostMemory;
    private final MemorySegment host;
    private final MemorySegment inputs;
    private final MemorySegment logits;
    private final MemorySegment passage; // what goes from one rank to the next
    private final MemorySegment choices; // what rows choose experts by
    private final List<Part> parts = new ArrayList<>(); // by rank
    private long arrived; // ticket of the last copy out of the passage, ...
    private @Nullable Queue arrivedAt; // ... and its queue

    /** Makes a workspace, with a part on each device. */
    Workspace(Weights weights, Size size) {
        this.weights = weights;
        this.schedule = weights.schedule();
        this.size = size;
        this.plan = weights.plan();
        this.layout = Inputs.of(weights.program().ropes(), embeddingRowBytes(weights), size.rows);
        this.hostMemory = weights.ranks().getFirst().processor().device();
        long logitsBytes = logitsBytes(plan, size);
        long passageBytes = passageBytes(weights, plan, size);
        this.host = hostMemory.allocate(layout.bytes + logitsBytes + passageBytes + choiceBytes(weights, size));
        this.inputs = host.asSlice(0, layout.bytes);
        this.logits = host.asSlice(layout.bytes, logitsBytes);
        this.passage = host.asSlice(layout.bytes + logitsBytes, passageBytes);
        this.choices = host.asSlice(layout.bytes + logitsBytes + passageBytes);
        try {
            for (var rank : weights.ranks()) {
                parts.add(part(rank));
            }
        } catch (Throwable e) {
            var all = new Closing();
            all.close(this);
            all.endAfter(e);
            throw e;
        }
    }

    private Part part(Rank rank) {
        var device = rank.processor().device();
        var activations = device.allocateOnDevice(plan.bytes(size.rows, size.outputRows));
        try {
            int mostOps = Stream.concat(schedule.experts().stream().map(Schedule.ExpertPanel::ops),
                    schedule.choices().stream().map(Schedule.Choice::prediction)).mapToInt(List::size).max().orElse(1);
            var part = new Part(rank, activations, new OpArray(schedule.ops().size()), new OpArray(mostOps),
                    new Step(size.rows, size.outputRows, size.sequences, 0,
                            Math.toIntExact((long) size.rows * mostChosen(weights)), activations, inputs));
            for (int i = 0; i < schedule.ops().size(); i++) {
                place(part.ops, i, schedule.ops().get(i), rank);
            }
            return part;
        } catch (Throwable e) {
            device.freeOnDevice(activations);
            throw e;
        }
    }

    /** Memory that a workspace of this size takes. */
    static MemoryUse use(Weights weights, ActivationPlan plan, Size size) {
        long activations = plan.bytes(size.rows, size.outputRows);
        long inputs = Inputs.of(weights.program().ropes(), embeddingRowBytes(weights), size.rows).bytes;
        long onHost = inputs + logitsBytes(plan, size) + choiceBytes(weights, size);
        if (weights.ranks().getFirst().unified()) {
            return MemoryUse.of(onHost + activations, 0, 0);
        }
        var devices = new ArrayList<Long>();
        for (var rank : weights.ranks()) { // each copies inputs and arrays from a copy of its own
            long step = inputs + arrayBytes(rank, size, mostChosen(weights));
            onHost += step;
            devices.add(MemoryUse.allocation(activations) + MemoryUse.allocation(step));
        }
        return new MemoryUse(onHost + passageBytes(weights, plan, size), devices);
    }

    /** What a device gets copied of a step beside its inputs: positions, sequences, output rows, places of caches. */
    private static long arrayBytes(Rank rank, Size size, int mostChosen) {
        long rows = Math.ceilDiv((long) Integer.BYTES * size.rows, ARRAY_ALIGNMENT);
        long outputRows = Math.ceilDiv((long) Integer.BYTES * size.outputRows, ARRAY_ALIGNMENT);
        long choices = Math.ceilDiv((long) Integer.BYTES * size.rows * mostChosen, ARRAY_ALIGNMENT);
        long states = Math.ceilDiv((long) Integer.BYTES * size.sequences, ARRAY_ALIGNMENT);
        return (2 * rows + outputRows + 2 * choices + states) * ARRAY_ALIGNMENT
                + (long) rank.kv().layers().size() * size.sequences * CACHE_PLACE_BYTES;
    }

    /**
     * Device memory that the kernels work in at most, beside all else: attention with few rows has a state for each
     * segment of a context ({@code attention.cu}), a fast product rounded activations and sums of segments of k ({@code
     * linear_fast.cu}).
     */
    static long scratchBytes(Weights weights, Schedule schedule, Size size, int context) {
        boolean fast = weights.ranks().getFirst().processor().device().info().fast();
        long most = 0;
        var ofExperts = schedule.experts().stream() // all experts of a mixture have the same shapes
                .filter(panel -> panel.expert() == 0).flatMap(panel -> panel.ops().stream());
        var ofPredictions = schedule.choices().stream().flatMap(choice -> choice.prediction().stream());
        var all = Stream.of(schedule.ops().stream(), ofExperts, ofPredictions).flatMap(ops -> ops);
        for (var panelOp : all.toList()) {
            if (panelOp.op() instanceof Op.Attention attention && context > SEGMENT) {
                long parts = Math.ceilDiv(weights.kv().layers().get(attention.layer()).headDimV(), STATE_VALUES);
                long states = Math.ceilDiv(context, SEGMENT) * parts * attention.heads() * size.rows;
                most = Math.max(most, Math.min(states, MOST_STATES) * (STATE_VALUES + 2) * Float.BYTES);
            } else if (panelOp.op() instanceof Op.Product linear && panelOp.slice() != null && fast) {
                int k = linear.in().width();
                long rounded = Short.BYTES * Math.ceilDiv(k, ROUNDED_GROUP) * (long) ROUNDED_GROUP * size.rows;
                long sumsOfRow = Math.ceilDiv(k, FAST_SEGMENT) * (long) panelOp.slice().rows();
                long sums = Math.max(Math.min(sumsOfRow * size.rows, MOST_SUMS), sumsOfRow * Math.min(size.rows, FEW));
                long arrivals = Integer.BYTES * (long) panelOp.slice().rows();
                most = Math.max(most, rounded + Float.BYTES * sums + arrivals);
            }
        }
        return most;
    }

    private static long embeddingRowBytes(Weights weights) {
        return (long) weights.program().hidden() * weights.embeddingType().bytes();
    }

    /** Most experts that a row chooses at a time; 0 where there are none. */
    private static int mostChosen(Weights weights) {
        return mostOfExperts(weights, experts -> experts.router().chosen());
    }

    /** Host memory for the router logits of all rows. */
    private static long choiceBytes(Weights weights, Size size) {
        return (long) Float.BYTES * size.rows * mostOfExperts(weights, experts -> experts.logits().width());
    }

    private static int mostOfExperts(Weights weights, ToIntFunction<Op.Experts> of) {
        int most = 0;
        for (var stage : weights.program().stages()) {
            for (var op : stage.ops()) {
                most = op instanceof Op.Experts experts ? Math.max(most, of.applyAsInt(experts)) : most;
            }
        }
        return most;
    }

    private static long logitsBytes(ActivationPlan plan, Size size) {
        return (long) Float.BYTES * plan.logitsColumns() * Math.max(1, size.outputRows);
    }

    /** Host memory for whatever may go from one device to the next. */
    private static long passageBytes(Weights weights, ActivationPlan plan, Size size) {
        return weights.ranks().size() == 1 ? 0 : plan.bytes(size.rows, size.outputRows);
    }

    /** How large sweeps can be. */
    Size size() {
        return size;
    }

    /** All ops of a sweep, for a rank. */
    OpArray ops(int rank) {
        return parts.get(rank).ops;
    }

    /** The rows of the sweep of the moment, for a rank. */
    Step step(int rank) {
        return parts.get(rank).step;
    }

    /** Rows of the sweep of the moment. */
    int rows() {
        return step(0).rows();
    }

    /** Rows of the sweep of the moment whose logits are wanted. */
    int outputRows() {
        return step(0).outputRows();
    }

    /** Waits for what devices have handed over, whatever became of it. */
    void settle() {
        if (arrivedAt != null) {
            arrivedAt.await(arrived);
        }
    }

    /** Gives back what the queues keep for sweeps that were larger than the next ones. Nothing is under way. */
    void trim() {
        parts.forEach(part -> part.processor().queue().trim());
    }

    /** Begins a sweep without rows and sequences, see {@link Step#clear}. */
    void clear() {
        parts.forEach(part -> part.step.clear());
    }

    /** Adds a sequence; state: see {@link Step#addSequence(KvCache, int)}. Returns its number. */
    int addSequence(Caches caches, int state) {
        int index = 0;
        for (int rank = 0; rank < parts.size(); rank++) {
            index = step(rank).addSequence(caches.parts().get(rank), state);
        }
        return index;
    }

    /** Adds a row, see {@link Step#addRow}. */
    void addRow(int sequence, int position, boolean output) {
        parts.forEach(part -> part.step.addRow(sequence, position, output));
    }

    /** Whether one thread computes alone, see {@link Step#alone}. */
    void alone(boolean alone) {
        parts.forEach(part -> part.step.alone(alone));
    }

    /** Host memory for the embedding rows of a step, from its first byte on. */
    MemorySegment inputs() {
        return inputs;
    }

    /** Host memory for the cosines and sines of a row: (rope.dim()) floats. */
    MemorySegment ropeRow(Rope rope, int row) {
        long rowBytes = (long) Float.BYTES * rope.dim();
        return inputs.asSlice(layout.ropes[rope.id()] + row * rowBytes, rowBytes);
    }

    /** Memory of a rank's device for a block of logits: (output rows, columns) floats. */
    MemorySegment logitsOnDevice(int rank, int columns) {
        return onDevice(rank, weights.program().logits(), outputRows(), columns);
    }

    /** Waits for what the rows of the sweep choose experts by: (rows, experts). */
    float[][] routerLogits(int rank, Value value) {
        var onHost = choices.asSlice(0, (long) Float.BYTES * rows() * value.width());
        var queue = parts.get(rank).processor().queue();
        queue.await(queue.copyToHost(onHost, onDevice(rank, value, rows(), value.width())));
        var logits = new float[rows()][value.width()];
        for (int row = 0; row < logits.length; row++) {
            MemorySegment.copy(onHost, ValueLayout.JAVA_FLOAT, (long) Float.BYTES * row * value.width(), logits[row], 0,
                    value.width());
        }
        return logits;
    }

    /** Writes the ops of an expert's panel, or of a prediction, for {@link #expertOps}. */
    void placeExpert(int rank, List<Schedule.PanelOp> ops) {
        var part = parts.get(rank);
        for (int i = 0; i < ops.size(); i++) {
            place(part.expertOps, i, ops.get(i), part.rank);
        }
    }

    /** The ops that were placed last, on a rank's device. */
    OpArray expertOps(int rank) {
        return parts.get(rank).expertOps;
    }

    /** Host memory for a block of logits: (output rows, columns) floats. */
    MemorySegment logits(int columns) {
        return logits.asSlice(0, (long) Float.BYTES * outputRows() * columns);
    }

    /** Memory of a rank's device for the first rows of an activation: (rows, columns) floats. */
    MemorySegment onDevice(int rank, Value value, int rows, int columns) {
        long offset = Float.BYTES * plan.offset(value, size.rows, size.outputRows);
        return parts.get(rank).activations.asSlice(offset, (long) Float.BYTES * rows * columns);
    }

    /**
     * Copies from one rank to another what ops from that of a panel on read of those before. Nothing waits in the host:
     * the queues wait for one another.
     */
    void handOver(int from, int to, Schedule.Panel first) {
        var source = parts.get(from).processor().queue();
        var target = parts.get(to).processor().queue();
        if (arrivedAt != null) {
            source.after(arrivedAt, arrived); // that has read the passage
        }
        var places = new ArrayList<MemorySegment>();
        var there = new ArrayList<MemorySegment>();
        long offset = 0;
        long left = 0;
        for (var value : ActivationPlan.live(weights.program(), schedule.ops().get(first.firstOp()).op())) {
            int rows = value.outputRows() ? outputRows() : rows();
            if (rows > 0) {
                var memory = onDevice(from, value, rows, value.width());
                var place = passage.asSlice(offset, memory.byteSize());
                left = source.copyToHost(place, memory);
                places.add(place);
                there.add(onDevice(to, value, rows, value.width()));
                offset += memory.byteSize();
            }
        }
        target.after(source, left);
        for (int i = 0; i < places.size(); i++) {
            arrived = target.copyToDevice(there.get(i), places.get(i));
        }
        arrivedAt = target;
    }

    private void place(OpArray ops, int index, Schedule.PanelOp panelOp, Rank rank) {
        var vectors = rank.vectors();
        var slice = panelOp.slice();
        var rows = rows(panelOp.op().out());
        switch (panelOp.op()) {
            case Op.Embed embed -> ops.embed(index, view(embed.out()), weightType(weights.embeddingType()), 0);
            case Op.Norm norm -> ops.norm(index, rows, view(norm.out()), view(norm.in()), norm.centred(),
                    vectors.getOrNull(norm.weight()), norm.groups(), norm.epsilon());
            case Op.Linear linear -> ops.linear(index, rows, columns(linear.out(), slice, linear.firstRow()),
                    view(linear.in()), weight(slice, vectors), bias(linear.bias(), linear, slice, vectors));
            case Op.LinearTransposed linear -> ops.linearTransposed(index, rows, view(linear.out()),
                    columns(linear.in(), slice, linear.firstRow()), weight(slice, vectors),
                    slice.firstRow() > linear.firstRow(), bias(linear.bias(), linear, slice, vectors));
            case Op.WeightNorm norm -> ops.weightNorm(index, rows, columns(norm.out(), slice, 0),
                    weight(slice, vectors), norm.epsilon());
            case Op.Rotate rotate -> ops.rotate(index, view(rotate.x()), rotate.heads(), rotate.headDim(),
                    rotate.rope().dim(), rotate.interleaved(), layout.ropes[rotate.rope().id()]);
            case Op.KvStore store -> ops.kvStore(index, view(store.keys()), viewOrNull(store.values()),
                    store.layer() - rank.firstLayer());
            case Op.Attention a -> ops.attention(index, view(a.out()), view(a.queries()),
                    a.layer() - rank.firstLayer(), a.heads(), a.headDim(), attending(a.attending(), vectors));
            case Op.Activate a -> ops.activate(index, rows, columns(a.out(), slice, 0), columns(a.in(), slice, 0),
                    viewOrNull(a.gated()), OpArray.Function.valueOf(a.function().name()), a.limit());
            case Op.Add add -> ops.add(index, rows, view(add.out()), view(add.a()), view(add.b()), add.scale());
            case Op.AddVector add -> ops.addVector(index, rows, view(add.out()), view(add.a()),
                    vectors.get(add.vector()));
            case Op.Scale scale -> ops.scale(index, rows, columns(scale.out(), slice, 0), columns(scale.a(), slice, 0),
                    scale.scale(), vectors.getOrNull(scale.vector()));
            case Op.GatherRows gather -> ops.gatherRows(index, rows, view(gather.out()), view(gather.in()),
                    gather.weighted());
            case Op.ScatterAdd add -> ops.scatterAdd(index, view(add.out()), view(add.in()), add.weighted());
            case Op.Convolution c -> ops.convolution(index, view(c.out()), view(c.in()), vectors.get(c.weight()),
                    c.layer() - rank.firstLayer(), OpArray.Function.valueOf(c.function().name()));
            case Op.DeltaRule rule -> ops.deltaRule(index, view(rule.out()), view(rule.in()), view(rule.gates()),
                    vectors.get(rule.vector()), rule.layer() - rank.firstLayer(), rule.heads(), rule.scale(),
                    rule.epsilon());
            case Op.Experts experts -> throw new IllegalArgumentException("experts are no op of the runtime");
        }
    }

    private static OpArray.Rows rows(@Nullable Value out) {
        return out == null ? OpArray.Rows.ALL : OpArray.Rows.valueOf(out.rows().name());
    }

    /**
     * The columns of a product that rows of its weight make. The logits of a panel are a matrix of their own; the columns
     * of other products lie where the whole product does.
     *
     * @param slice the rows of the weight; null: all
     * @param firstRow the row that makes the first column
     */
    private View columns(Value value, Schedule.@Nullable Slice slice, int firstRow) {
        var whole = view(value);
        if (slice == null) {
            return whole;
        }
        return value.whole() == weights.program().logits()
                ? new View(whole.offset(), slice.rows(), slice.rows())
                : new View(whole.offset() + slice.firstRow() - firstRow, whole.stride(), slice.rows());
    }

    private static OpArray.Weight weight(Schedule.Slice slice, Vectors vectors) {
        var matrix = slice.matrix();
        var type = OpArray.WeightType.valueOf(matrix.format().name());
        return switch (matrix.format()) {
            case F32, F16, BF16 -> new OpArray.Weight(type, slice.rows(), matrix.columns(), slice.offset(),
                    slice.rowBytes());
            case F8_E4M3 -> {
                long blocks = Math.ceilDiv(matrix.columns(), SCALED_BLOCK);
                int row = slice.firstRow() / SCALED_BLOCK;
                yield new OpArray.Weight(type, slice.rows(), matrix.columns(), slice.offset(), slice.rowBytes(),
                        vectors.get(matrix.scales()).asSlice(Float.BYTES * blocks * row),
                        slice.firstRow() % SCALED_BLOCK, 0, blocks);
            }
            case MXFP4 -> new OpArray.Weight(type, slice.rows(), matrix.columns(), slice.offset(), slice.rowBytes(),
                    null, 0, slice.scaleOffset(), matrix.columns() / SCALED_ELEMENTS);
        };
    }

    private static @Nullable MemorySegment bias(Op.@Nullable Bias bias, Op.Product product, Schedule.Slice slice,
            Vectors vectors) {
        if (bias == null) {
            return null;
        }
        long first = product instanceof Op.Linear ? slice.firstRow() - product.firstRow() : 0;
        long count = product instanceof Op.Linear ? slice.rows() : product.out().width();
        return vectors.get(bias.vector()).asSlice(Float.BYTES * (bias.first() + first), Float.BYTES * count);
    }

    private static OpArray.Attending attending(Attending attending, Vectors vectors) {
        return new OpArray.Attending(attending.scale(), attending.window(), attending.chunk(), attending.softCap(),
                OpArray.AttentionKind.valueOf(attending.kind().name()), vectors.getOrNull(attending.vector()));
    }

    private View view(Value value) {
        return new View(plan.offset(value, size.rows, size.outputRows), value.whole().width(), value.width());
    }

    private @Nullable View viewOrNull(@Nullable Value value) {
        return value == null ? null : view(value);
    }

    /** The element type of a weight, for the native runtime. */
    static OpArray.WeightType weightType(DType dtype) {
        return switch (dtype) {
            case F32 -> OpArray.WeightType.F32;
            case F16 -> OpArray.WeightType.F16;
            case BF16 -> OpArray.WeightType.BF16;
            default -> throw new IllegalArgumentException("an embedding of type " + dtype);
        };
    }

    @Override
    public void close() {
        var all = new Closing();
        all.close(this::trim);
        parts.forEach(all::close);
        all.close(() -> hostMemory.free(host));
        all.end();
    }
}
