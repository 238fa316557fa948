package dev.lamina.internal.generate;

import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.model.Activation;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Rope;
import dev.lamina.internal.model.Value;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.runtime.OpArray;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.runtime.Step;
import dev.lamina.internal.runtime.View;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
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
    private record Part(Processor processor, MemorySegment activations, OpArray ops, Step step)
            implements AutoCloseable {
        @Override
        public void close() {
            var all = new Closing();
            all.close(step);
            all.close(ops);
            all.close(() -> processor.device().freeOnDevice(activations));
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
        this.host = hostMemory.allocate(layout.bytes + logitsBytes + passageBytes(weights, plan, size));
        this.inputs = host.asSlice(0, layout.bytes);
        this.logits = host.asSlice(layout.bytes, logitsBytes);
        this.passage = host.asSlice(layout.bytes + logitsBytes);
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
            var part = new Part(rank.processor(), activations, new OpArray(schedule.ops().size()),
                    new Step(size.rows, size.outputRows, size.sequences, activations, inputs));
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
        long onHost = inputs + logitsBytes(plan, size);
        if (weights.ranks().getFirst().unified()) {
            return MemoryUse.of(onHost + activations, 0, 0);
        }
        var devices = new ArrayList<Long>();
        for (var rank : weights.ranks()) { // each copies inputs and arrays from a copy of its own
            long step = inputs + arrayBytes(rank, size);
            onHost += step;
            devices.add(MemoryUse.allocation(activations) + MemoryUse.allocation(step));
        }
        return new MemoryUse(onHost + passageBytes(weights, plan, size), devices);
    }

    /** What a device gets copied of a step beside its inputs: positions, sequences, output rows, places of caches. */
    private static long arrayBytes(Rank rank, Size size) {
        long rows = Math.ceilDiv((long) Integer.BYTES * size.rows, ARRAY_ALIGNMENT);
        long outputRows = Math.ceilDiv((long) Integer.BYTES * size.outputRows, ARRAY_ALIGNMENT);
        return (2 * rows + outputRows) * ARRAY_ALIGNMENT
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
        for (var panelOp : schedule.ops()) {
            if (panelOp.op() instanceof Op.Attention attention && context > SEGMENT) {
                long parts = Math.ceilDiv(weights.kv().layers().get(attention.layer()).headDimV(), STATE_VALUES);
                long states = Math.ceilDiv(context, SEGMENT) * parts * attention.heads() * size.rows;
                most = Math.max(most, Math.min(states, MOST_STATES) * (STATE_VALUES + 2) * Float.BYTES);
            } else if (panelOp.op() instanceof Op.Linear linear && panelOp.slice() != null && fast) {
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
        parts.forEach(part -> part.processor.queue().trim());
    }

    /** Begins a sweep without rows and sequences, see {@link Step#clear}. */
    void clear() {
        parts.forEach(part -> part.step.clear());
    }

    /** Adds a sequence; returns its number. */
    int addSequence(Caches caches) {
        int index = 0;
        for (int rank = 0; rank < parts.size(); rank++) {
            index = step(rank).addSequence(caches.parts().get(rank));
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
        var source = parts.get(from).processor.queue();
        var target = parts.get(to).processor.queue();
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
        switch (panelOp.op()) {
            case Op.Embed embed -> ops.embed(index, view(embed.out()), weightType(weights.embeddingType()), 0);
            case Op.RmsNorm norm -> ops.rmsNorm(index, norm.out().outputRows(), view(norm.out()), view(norm.in()),
                    vectors.get(norm.weight()), norm.groups(), norm.epsilon());
            case Op.Linear linear -> placeLinear(ops, index, linear, panelOp.slice(), vectors);
            case Op.Rotate rotate -> ops.rotate(index, view(rotate.x()), rotate.heads(), rotate.headDim(),
                    rotate.rope().dim(), layout.ropes[rotate.rope().id()]);
            case Op.KvStore store -> ops.kvStore(index, view(store.keys()), view(store.values()),
                    store.layer() - rank.firstLayer());
            case Op.Attention a -> ops.attention(index, view(a.out()), view(a.queries()),
                    a.layer() - rank.firstLayer(), a.heads(), a.headDim(), a.window(), a.scale());
            case Op.Activate a -> ops.activate(index, a.out().outputRows(), view(a.out()), view(a.in()),
                    a.gated() == null ? null : view(a.gated()), function(a.function()));
            case Op.Add add -> ops.add(index, add.out().outputRows(), view(add.out()), view(add.a()), view(add.b()));
            case Op.GatherRows gather -> ops.gatherRows(index, view(gather.out()), view(gather.in()));
        }
    }

    /**
     * The logits of a panel are a matrix of their own; the columns of other products lie where the whole product does.
     */
    private void placeLinear(
            OpArray ops, int index, Op.Linear linear, Schedule.@Nullable Slice slice, Vectors vectors) {
        if (slice == null) {
            throw new IllegalArgumentException("a matrix product without a weight: " + linear);
        }
        var whole = view(linear.out());
        var out = linear.out() == weights.program().logits()
                ? new View(whole.offset(), slice.rows(), slice.rows())
                : new View(whole.offset() + slice.firstRow(), whole.stride(), slice.rows());
        var bias = linear.bias() == null
                ? null
                : vectors.get(linear.bias())
                        .asSlice((long) Float.BYTES * slice.firstRow(), (long) Float.BYTES * slice.rows());
        ops.linear(index, linear.out().outputRows(), out, view(linear.in()), weightType(slice.dtype()), slice.offset(),
                slice.rowBytes(), bias);
    }

    private View view(Value value) {
        return new View(plan.offset(value, size.rows, size.outputRows), value.width(), value.width());
    }

    /** The element type of a weight, for the native runtime. */
    static OpArray.WeightType weightType(DType dtype) {
        return switch (dtype) {
            case F32 -> OpArray.WeightType.F32;
            case F16 -> OpArray.WeightType.F16;
            case BF16 -> OpArray.WeightType.BF16;
            default -> throw new IllegalArgumentException("a weight of type " + dtype);
        };
    }

    private static OpArray.Function function(Activation activation) {
        return switch (activation) {
            case SILU -> OpArray.Function.SILU;
            case GELU -> OpArray.Function.GELU;
            case GELU_TANH -> OpArray.Function.GELU_TANH;
            case RELU -> OpArray.Function.RELU;
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
