package dev.lamina.internal.generate;

import dev.lamina.Rates;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Value;
import dev.lamina.internal.runtime.HostRates;
import dev.lamina.internal.stream.HostWork;
import dev.lamina.internal.stream.Placement;
import dev.lamina.internal.stream.Planner;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;

/**
 * Which panels the host's processor can compute where they are: those whose products come before all other ops and read
 * nothing that the same panel computes.
 *
 * @param possible their indexes
 * @param inputs for each op of the schedule that is a product, the number of what it reads: the same for products that
 *     read the same activation with nothing written to it between them; -1 for others
 * @param first the index of the first op of each panel
 */
record HostPanels(BitSet possible, int[] inputs, int[] first) {
    /** Shares of the panels in host memory that are tried: one eighth, two ... */
    private static final int SHARES = 8;

    /** A share that saves less than this of a sweep is not worth bits that depend on it. */
    private static final double WORTH_IT = 0.05;

    /** Those of a schedule. */
    static HostPanels of(Schedule schedule) {
        var possible = new BitSet();
        for (int i = 0; i < schedule.panels().size(); i++) {
            possible.set(i, isPossible(schedule, i, products(schedule, i)));
        }
        return new HostPanels(possible, inputs(schedule),
                schedule.panels().stream().mapToInt(Schedule.Panel::firstOp).toArray());
    }

    private static int[] inputs(Schedule schedule) {
        var inputs = new int[schedule.ops().size()];
        var numbers = new HashMap<Value, Integer>(); // of activations as they are now
        int next = 0;
        for (int i = 0; i < inputs.length; i++) {
            var op = schedule.ops().get(i).op();
            inputs[i] = -1;
            if (op instanceof Op.Linear linear) {
                if (!numbers.containsKey(linear.in())) {
                    numbers.put(linear.in(), next++);
                }
                inputs[i] = numbers.get(linear.in());
            }
            var out = op.out();
            if (out != null) {
                numbers.keySet().removeIf(value -> value.id() == out.id());
            }
        }
        return inputs;
    }

    /** The products with which a panel begins. */
    static List<Schedule.PanelOp> products(Schedule schedule, int panel) {
        return ops(schedule, panel).stream().takeWhile(op -> op.op() instanceof Op.Linear).toList();
    }

    private static List<Schedule.PanelOp> ops(Schedule schedule, int panel) {
        var each = schedule.panels().get(panel);
        return schedule.ops().subList(each.firstOp(), each.firstOp() + each.opCount());
    }

    private static boolean isPossible(Schedule schedule, int panel, List<Schedule.PanelOp> products) {
        var written = new BitSet();
        for (var product : products) {
            if (!isSimple(linear(product))) {
                return false;
            }
            if (written.get(linear(product).in().id())) {
                return false;
            }
            written.set(linear(product).out().id());
        }
        return !products.isEmpty() && schedule.experts().isEmpty() && ops(schedule, panel).stream().skip(products.size())
                .noneMatch(op -> op.op() instanceof Op.Product || op.op() instanceof Op.WeightNorm);
    }

    /** Whether it is of whole matrices of activations, with a weight that has no scales. */
    private static boolean isSimple(Op.Linear linear) {
        return linear.in().whole() == linear.in() && linear.out().whole() == linear.out()
                && linear.matrix().scales() == null;
    }

    /** A product as such. */
    static Op.Linear linear(Schedule.PanelOp product) {
        return (Op.Linear) product.op();
    }

    /**
     * Chooses panels in host memory with which a sweep takes the least time, on paper: a share of them, spread evenly,
     * so that the bus copies some while the processor computes others.
     *
     * @param planner of the same schedule
     * @param rates of disk, bus and device
     * @return some of those that are resident in host memory; none where they save too little
     */
    BitSet choose(Planner planner, Placement placement, Rates rates, HostRates measured) {
        var candidates = placement.resident();
        candidates.and(possible);
        var best = new BitSet();
        double least = planner.secondsPerSweep(placement, rates) * (1 - WORTH_IT);
        for (int share = 1; share <= SHARES; share++) {
            var some = share(candidates, share);
            double seconds = planner.secondsPerSweep(placement, rates, work(some, measured));
            if (seconds < least) {
                least = seconds;
                best = some;
            }
        }
        return best;
    }

    /** So many eighths of some panels; the last one of each stretch rather than the first. */
    private static BitSet share(BitSet panels, int share) {
        var some = new BitSet();
        int number = 0;
        for (int panel = panels.nextSetBit(0); panel >= 0; panel = panels.nextSetBit(panel + 1)) {
            some.set(panel, (number + 1) * share / SHARES > number * share / SHARES);
            number++;
        }
        return some;
    }

    /** What a plan knows of panels that the host computes. */
    HostWork work(BitSet panels, HostRates measured) {
        var ofPanels = Arrays.stream(first).map(op -> inputs[op]).toArray();
        return new HostWork(panels, ofPanels, measured.hostBytesPerSecond(), measured.tripSeconds());
    }
}
