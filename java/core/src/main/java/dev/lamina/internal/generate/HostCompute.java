package dev.lamina.internal.generate;

import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Value;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.runtime.OpArray;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.runtime.Step;
import dev.lamina.internal.runtime.View;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/**
 * Computes the products of chosen panels in host memory where they are, instead of copying them to a device: what they
 * read comes from the device, what they give goes back, and all other ops stay there. Only sweeps of few rows are worth
 * it. What comes out is as exact as on the CPU, and so has other bits than the device's products.
 *
 * <p>Whatever reads an activation on the host gets one copy of it, which is begun before the first panel that reads it,
 * so that panels that are copied to the device meanwhile are not waited for. Used by one thread at a time.
 */
final class HostCompute implements AutoCloseable {
    /** Most rows of a sweep. */
    static final int MOST_ROWS = 8;

    private static final int INPUTS = 2;
    private static final int OUTPUTS = 4; // more, and nobody waits for those that are still on their way
    private static final int ALIGNMENT = 64;
    private static final int NOTHING = -1;

    /** A part of the memory, and the copy that last read or wrote it. */
    private static final class Place {
        final long offset; // floats
        int holds = NOTHING; // the number of an input
        private @Nullable Queue queue;
        private long ticket;

        Place(long offset) {
            this.offset = offset;
        }

        void copied(Queue by, long copy) {
            queue = by;
            ticket = copy;
        }

        void settle() {
            var by = queue;
            queue = null; // it is waited for once, whatever comes of it
            if (by != null) {
                by.await(ticket);
            }
        }
    }

    private final Weights weights;
    private final Processor cpu;
    private final HostPanels panels;
    private final HostMemory hostMemory;
    private final MemorySegment memory; // page-locked: inputs, outputs, biases
    private final Place[] inputs = new Place[INPUTS];
    private final Place[] outputs = new Place[OUTPUTS];
    private final Map<String, MemorySegment> biases = new HashMap<>();
    private final OpArray ops = new OpArray(1);
    private final Step step;
    private BitSet chosen = new BitSet();
    private final BitSet wanted = new BitSet(); // inputs of chosen panels, by number
    private int nextInput;
    private int nextOutput;

    /**
     * Makes room, and copies biases from the device.
     *
     * @param cpu stays the caller's
     */
    HostCompute(Weights weights, Processor cpu) {
        this.weights = weights;
        this.cpu = cpu;
        this.panels = HostPanels.of(weights.schedule());
        this.hostMemory = weights.ranks().getFirst().processor().device();
        var schedule = weights.schedule();
        memory = hostMemory.allocate(bytes(schedule));
        step = new Step(MOST_ROWS, 1, 1, memory, memory);
        try {
            long end = 0;
            for (int i = 0; i < INPUTS; i++) {
                inputs[i] = new Place(end);
                end += inputFloats(schedule);
            }
            for (int i = 0; i < OUTPUTS; i++) {
                outputs[i] = new Place(end);
                end += outputFloats(schedule);
            }
            copyBiases(schedule, end * Float.BYTES);
        } catch (Throwable e) {
            var all = new Closing();
            all.close(this);
            all.endAfter(e);
            throw e;
        }
    }

    private void copyBiases(Schedule schedule, long offset) {
        var rank = weights.ranks().getFirst();
        var queue = rank.processor().queue();
        long ticket = 0;
        long end = offset;
        for (var length : biasBytes(schedule).entrySet()) {
            var bias = memory.asSlice(end, length.getValue());
            ticket = queue.copyToHost(bias, rank.vectors().get(length.getKey()).asSlice(0, length.getValue()));
            biases.put(length.getKey(), bias);
            end += aligned(bias.byteSize());
        }
        if (!biases.isEmpty()) {
            queue.await(ticket);
        }
    }

    /** Page-locked memory that it takes. */
    static long bytes(Schedule schedule) {
        long bytes = Float.BYTES * (INPUTS * inputFloats(schedule) + OUTPUTS * outputFloats(schedule));
        return bytes + biasBytes(schedule).values().stream().mapToLong(HostCompute::aligned).sum();
    }

    /** How much is used of each vector that is a bias. */
    private static Map<String, Long> biasBytes(Schedule schedule) {
        var bytes = new TreeMap<String, Long>();
        for (var op : schedule.ops()) {
            if (op.op() instanceof Op.Linear linear && linear.bias() != null) {
                bytes.merge(linear.bias().vector(),
                        (long) Float.BYTES * (linear.bias().first() + linear.out().width()), Math::max);
            }
        }
        return bytes;
    }

    private static long inputFloats(Schedule schedule) {
        int widest = 1;
        for (var op : schedule.ops()) {
            widest = op.op() instanceof Op.Linear linear ? Math.max(widest, linear.in().width()) : widest;
        }
        return aligned((long) MOST_ROWS * widest);
    }

    private static long outputFloats(Schedule schedule) {
        long most = 1;
        for (int i = 0; i < schedule.panels().size(); i++) {
            long columns = 0;
            for (var product : HostPanels.products(schedule, i)) {
                columns += aligned((long) MOST_ROWS * slice(product).rows());
            }
            most = Math.max(most, columns);
        }
        return most;
    }

    private static long aligned(long bytes) {
        return Math.ceilDiv(bytes, ALIGNMENT) * ALIGNMENT;
    }

    private static Schedule.Slice slice(Schedule.PanelOp product) {
        var slice = product.slice();
        if (slice == null) {
            throw new IllegalArgumentException("a matrix product without a weight: " + product);
        }
        return slice;
    }

    /** Changes which panels are computed here. Nothing is under way. */
    void choose(BitSet some) {
        chosen = (BitSet) some.clone();
        wanted.clear();
        for (int panel = chosen.nextSetBit(0); panel >= 0; panel = chosen.nextSetBit(panel + 1)) {
            int first = panels.first()[panel];
            int count = HostPanels.products(weights.schedule(), panel).size();
            Arrays.stream(panels.inputs(), first, first + count).forEach(wanted::set);
        }
    }

    /** Whether the products of a panel are computed here. */
    boolean computes(int panel, Workspace workspace) {
        return workspace.rows() <= MOST_ROWS && chosen.get(panel);
    }

    /** Begins a sweep: what was copied before is of another one. */
    void begin() {
        for (var input : inputs) {
            input.holds = NOTHING;
        }
    }

    /** Begins to copy to the host what products of a panel read, if one that is computed here reads it too. */
    void bringInputs(int rank, int panel, Workspace workspace) {
        if (workspace.rows() > MOST_ROWS) {
            return;
        }
        int op = panels.first()[panel];
        for (var product : HostPanels.products(weights.schedule(), panel)) {
            int number = panels.inputs()[op++];
            if (wanted.get(number) && holding(number) == null) {
                bring(rank, number, HostPanels.linear(product).in(), workspace);
            }
        }
    }

    private @Nullable Place holding(int number) {
        for (var input : inputs) {
            if (input.holds == number) {
                return input;
            }
        }
        return null;
    }

    private Place bring(int rank, int number, Value value, Workspace workspace) {
        var input = inputs[nextInput];
        nextInput = (nextInput + 1) % INPUTS;
        input.settle();
        input.holds = number;
        int rows = rows(value, workspace);
        if (rows > 0) {
            var queue = weights.ranks().get(rank).processor().queue();
            var source = workspace.onDevice(rank, value, rows, value.width());
            input.copied(queue, queue.copyToHost(floats(input.offset, (long) rows * value.width()), source));
        }
        return input;
    }

    private MemorySegment floats(long offset, long count) {
        return memory.asSlice(Float.BYTES * offset, Float.BYTES * count);
    }

    private static int rows(Value value, Workspace workspace) {
        return value.outputRows() ? workspace.outputRows() : workspace.rows();
    }

    /**
     * Computes the products of a panel and begins to copy them to the device.
     *
     * @param panel its bytes, which nothing reads any more when this returns
     * @return how many of the panel's ops are done
     */
    int compute(int rank, int index, MemorySegment panel, Workspace workspace) {
        var output = outputs[nextOutput];
        nextOutput = (nextOutput + 1) % OUTPUTS;
        output.settle();
        long at = output.offset;
        var products = HostPanels.products(weights.schedule(), index);
        int op = panels.first()[index];
        for (var product : products) {
            int number = panels.inputs()[op++];
            var linear = HostPanels.linear(product);
            int rows = rows(linear.out(), workspace);
            if (rows > 0) {
                var held = holding(number);
                var input = held == null ? bring(rank, number, linear.in(), workspace) : held;
                input.settle();
                multiply(rows, at, input, linear, slice(product), panel);
                toDevice(rank, output, at, rows, linear, slice(product), workspace);
                at += aligned((long) rows * slice(product).rows());
            }
        }
        return products.size();
    }

    private void multiply(int rows, long at, Place input, Op.Linear linear, Schedule.Slice slice,
            MemorySegment panel) {
        int columns = slice.rows();
        int width = linear.in().width();
        var bias = linear.bias() == null ? null : biases.get(linear.bias().vector())
                .asSlice((long) Float.BYTES * (linear.bias().first() + slice.firstRow() - linear.firstRow()),
                        (long) Float.BYTES * columns);
        var weight = new OpArray.Weight(OpArray.WeightType.valueOf(slice.matrix().format().name()), columns, width,
                slice.offset(), slice.rowBytes());
        ops.linear(0, OpArray.Rows.ALL, new View(at, columns, columns), new View(input.offset, width, width), weight,
                bias);
        step.clear();
        for (int row = 0; row < rows; row++) {
            step.addRow(0, 0, false);
        }
        step.panel(panel);
        cpu.queue().await(cpu.queue().submit(ops, 0, 1, step));
    }

    private void toDevice(int rank, Place output, long at, int rows, Op.Linear linear, Schedule.Slice slice,
            Workspace workspace) {
        var queue = weights.ranks().get(rank).processor().queue();
        int columns = slice.rows();
        int width = linear.out().width();
        boolean whole = linear.out() == weights.program().logits() || columns == width;
        if (whole) { // a panel of the logits is a matrix of its own
            var target = workspace.onDevice(rank, linear.out(), rows, columns);
            output.copied(queue, queue.copyToDevice(target, floats(at, (long) rows * columns)));
            return;
        }
        var target = workspace.onDevice(rank, linear.out(), rows, width);
        for (int row = 0; row < rows; row++) {
            long first = (long) row * width + slice.firstRow() - linear.firstRow();
            output.copied(queue, queue.copyToDevice(
                    target.asSlice(Float.BYTES * first, (long) Float.BYTES * columns),
                    floats(at + (long) row * columns, columns)));
        }
    }

    /** Waits for all copies, whatever became of them. */
    void settle() {
        var all = new Closing();
        for (var input : inputs) {
            all.close(input::settle);
        }
        for (var output : outputs) {
            all.close(output::settle);
        }
        all.end();
    }

    @Override
    public void close() {
        var all = new Closing();
        all.close(step);
        all.close(ops);
        all.close(() -> hostMemory.free(memory));
        all.end();
    }
}
