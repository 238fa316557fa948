package dev.lamina.internal.generate;

import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.model.Activation;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.model.Rope;
import dev.lamina.internal.model.Value;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.OpArray;
import dev.lamina.internal.runtime.Step;
import dev.lamina.internal.runtime.View;
import java.lang.foreign.MemorySegment;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** The memory that sweeps of at most a given size work in, and their ops, with every operand at its place. */
final class Workspace implements AutoCloseable {
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

    private final Device device;
    private final Size size;
    private final Inputs layout;
    private final ActivationPlan plan;
    private final MemorySegment activations;
    private final MemorySegment host;
    private final MemorySegment inputs;
    private final MemorySegment logits;
    private final OpArray ops;
    private final Step step;

    /**
     * Makes a workspace.
     *
     * @param embeddingType element type of the embedding rows
     */
    Workspace(Device device, Program program, Schedule schedule, ActivationPlan plan, Vectors vectors,
            DType embeddingType, Size size) {
        this.device = device;
        this.size = size;
        this.plan = plan;
        this.layout = Inputs.of(program.ropes(), embeddingRowBytes(program, embeddingType), size.rows);
        this.activations = device.allocateOnDevice(plan.bytes(size.rows, size.outputRows));
        this.host = allocateBeside(activations, device, layout.bytes + logitsBytes(plan, size));
        this.inputs = host.asSlice(0, layout.bytes);
        this.logits = host.asSlice(layout.bytes);
        this.ops = new OpArray(schedule.ops().size());
        this.step = new Step(size.rows, size.outputRows, size.sequences, activations, inputs);
        for (int i = 0; i < schedule.ops().size(); i++) {
            place(i, schedule.ops().get(i), program, vectors, embeddingType);
        }
    }

    private static MemorySegment allocateBeside(MemorySegment onDevice, Device device, long bytes) {
        try {
            return device.allocate(bytes);
        } catch (RuntimeException e) {
            device.freeOnDevice(onDevice);
            throw e;
        }
    }

    /** Bytes of host and device memory that a workspace of this size takes. */
    static long bytes(Program program, ActivationPlan plan, DType embeddingType, Size size) {
        return plan.bytes(size.rows, size.outputRows)
                + inputsBytes(program, embeddingType, size)
                + logitsBytes(plan, size);
    }

    /** Bytes of that for which a device with memory of its own has room; a sweep copies what its rows need. */
    static long inputsBytes(Program program, DType embeddingType, Size size) {
        return Inputs.of(program.ropes(), embeddingRowBytes(program, embeddingType), size.rows).bytes;
    }

    private static long embeddingRowBytes(Program program, DType type) {
        return (long) program.hidden() * type.bytes();
    }

    private static long logitsBytes(ActivationPlan plan, Size size) {
        return (long) Float.BYTES * plan.logitsColumns() * Math.max(1, size.outputRows);
    }

    /** How large sweeps can be. */
    Size size() {
        return size;
    }

    /** All ops of a sweep. */
    OpArray ops() {
        return ops;
    }

    /** The rows of the sweep of the moment. */
    Step step() {
        return step;
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

    /** Device memory of a block of logits: (output rows, columns) floats. */
    MemorySegment logitsOnDevice(Program program, int columns) {
        long offset = Float.BYTES * plan.offset(program.logits(), size.rows, size.outputRows);
        return activations.asSlice(offset, (long) Float.BYTES * step.outputRows() * columns);
    }

    /** Host memory for a block of logits: (output rows, columns) floats. */
    MemorySegment logits(int columns) {
        return logits.asSlice(0, (long) Float.BYTES * step.outputRows() * columns);
    }

    private void place(int index, Schedule.PanelOp panelOp, Program program, Vectors vectors, DType embeddingType) {
        switch (panelOp.op()) {
            case Op.Embed embed -> ops.embed(index, view(embed.out()), weightType(embeddingType), 0);
            case Op.RmsNorm norm -> ops.rmsNorm(index, norm.out().outputRows(), view(norm.out()), view(norm.in()),
                    vectors.get(norm.weight()), norm.groups(), norm.epsilon());
            case Op.Linear linear -> placeLinear(index, linear, panelOp.slice(), program, vectors);
            case Op.Rotate rotate -> ops.rotate(index, view(rotate.x()), rotate.heads(), rotate.headDim(),
                    rotate.rope().dim(), layout.ropes[rotate.rope().id()]);
            case Op.KvStore store -> ops.kvStore(index, view(store.keys()), view(store.values()), store.layer());
            case Op.Attention a -> ops.attention(index, view(a.out()), view(a.queries()), a.layer(), a.heads(),
                    a.headDim(), a.window(), a.scale());
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
            int index, Op.Linear linear, Schedule.@Nullable Slice slice, Program program, Vectors vectors) {
        if (slice == null) {
            throw new IllegalArgumentException("a matrix product without a weight: " + linear);
        }
        var whole = view(linear.out());
        var out = linear.out() == program.logits()
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

    private static OpArray.WeightType weightType(DType dtype) {
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
        step.close();
        ops.close();
        device.free(host);
        device.freeOnDevice(activations);
    }
}
