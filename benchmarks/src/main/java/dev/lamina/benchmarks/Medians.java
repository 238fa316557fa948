package dev.lamina.benchmarks;

import java.util.List;

/** The figure that stands for several: medians, since others use the machine too. */
final class Medians {
    private Medians() {}

    /** The median of some values, at least one. */
    static double of(List<Double> values) {
        var sorted = values.stream().sorted().toList();
        int middle = sorted.size() / 2;
        return sorted.size() % 2 == 1 ? sorted.get(middle) : (sorted.get(middle - 1) + sorted.get(middle)) / 2;
    }
}
