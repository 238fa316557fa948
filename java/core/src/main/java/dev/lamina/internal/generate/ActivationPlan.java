package dev.lamina.internal.generate;

import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.model.Value;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;

/**
 * Where each activation of a program lies. Two activations share a place if no op needs both. Activation memory has two
 * areas: one for activations with a row for each row of the sweep, then one for those with output rows only.
 *
 * @param places place of each matrix of activations, by its id: floats of one row from the start of its area
 * @param rowFloats floats that one row of a sweep takes in the first area
 * @param outputRowFloats floats that one output row takes in the second
 * @param logitsColumns width of the logits that are held at a time
 */
record ActivationPlan(int[] places, long rowFloats, long outputRowFloats, int logitsColumns) {
    /** Places are multiples of this many floats, so that matrices begin at multiples of 64 bytes. */
    private static final int ALIGNMENT = 16;

    /**
     * Gives each activation its place.
     *
     * @param logitsColumns columns of the logits that are computed at a time: those of the largest panel of the head
     */
    static ActivationPlan of(Program program, int logitsColumns) {
        var values = program.values();
        var lastUse = lastUses(program);
        var places = new int[values.size()];
        Arrays.fill(places, -1);
        var live = new ArrayList<Value>();
        long rowFloats = 0;
        long outputRowFloats = 0;
        int step = 0;
        for (var op : program.ops().toList()) {
            var out = op.out() == null ? null : op.out().whole();
            if (out != null && places[out.id()] < 0) {
                int width = width(out, program, logitsColumns);
                int place = firstGap(live, out, width, places, program, logitsColumns);
                places[out.id()] = place;
                live.add(out);
                if (out.outputRows()) {
                    outputRowFloats = Math.max(outputRowFloats, place + width);
                } else {
                    rowFloats = Math.max(rowFloats, place + width);
                }
            }
            int now = step++;
            live.removeIf(value -> lastUse[value.id()] <= now);
        }
        return new ActivationPlan(places, rowFloats, outputRowFloats, logitsColumns);
    }

    /** Bytes of activation memory for sweeps of at most this many rows and output rows. */
    long bytes(int rows, int outputRows) {
        return Float.BYTES * (rowFloats * rows + outputRowFloats * outputRows);
    }

    /** Floats from the start of activation memory to the first row of an activation. */
    long offset(Value value, int maxRows, int maxOutputRows) {
        long place = places[value.id()];
        long whole = value.outputRows() ? rowFloats * maxRows + place * maxOutputRows : place * maxRows;
        return whole + value.column();
    }

    /** The activations that are written before an op of a program, and read by it or after it. */
    static List<Value> live(Program program, Op first) {
        var lastUse = lastUses(program);
        var ops = program.ops().toList();
        int step = 0;
        var written = new LinkedHashSet<Value>();
        for (; ops.get(step) != first; step++) {
            var out = ops.get(step).out();
            if (out != null) {
                written.add(out.whole());
            }
        }
        int now = step;
        return written.stream().filter(value -> lastUse[value.id()] >= now).toList();
    }

    private static int[] lastUses(Program program) {
        var lastUse = new int[program.values().size()];
        int step = 0;
        for (var op : program.ops().toList()) {
            for (var value : op.reads()) {
                lastUse[value.id()] = step;
            }
            var out = op.out();
            if (out != null) {
                lastUse[out.id()] = step;
            }
            step++;
        }
        return lastUse;
    }

    private static int firstGap(
            List<Value> live, Value out, int width, int[] places, Program program, int logitsColumns) {
        int place = 0;
        for (var other : live.stream().sorted(Comparator.comparingInt(value -> places[value.id()])).toList()) {
            if (other.outputRows() == out.outputRows()) {
                if (places[other.id()] - place >= width) {
                    break;
                }
                place = Math.max(place, places[other.id()] + width(other, program, logitsColumns));
            }
        }
        return place;
    }

    private static int width(Value value, Program program, int logitsColumns) {
        int width = value == program.logits() ? logitsColumns : value.width();
        return Math.ceilDiv(width, ALIGNMENT) * ALIGNMENT;
    }
}
