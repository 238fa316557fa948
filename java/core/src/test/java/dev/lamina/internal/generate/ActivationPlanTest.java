package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.model.Value;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class ActivationPlanTest {
    static List<Fixture> fixtures() throws IOException {
        return Fixture.find(List.of("llama32_tied", "mistral_swa", "qwen2_tied", "qwen3"));
    }

    /** Runs the program over symbols: each op finds in its operands' places what was last written there. */
    @ParameterizedTest
    @MethodSource("fixtures")
    void noOpOverwritesWhatALaterOneReads(Fixture fixture) {
        var program = program(fixture);
        int columns = 37;
        var plan = ActivationPlan.of(program, columns);
        int rows = 5;
        int outputRows = 3;
        var memory = new HashMap<Long, Integer>();
        for (var stage : program.stages()) {
            for (var op : stage.ops()) {
                for (var value : op.reads()) {
                    check(plan, program, value, rows, outputRows, columns, memory);
                }
                if (op.out() != null) {
                    cells(plan, program, op.out(), rows, outputRows, columns)
                            .forEach(cell -> memory.put(cell, op.out().id()));
                }
            }
        }
        long floats = plan.bytes(rows, outputRows) / Float.BYTES;
        assertTrue(memory.keySet().stream().allMatch(cell -> cell >= 0 && cell < floats));
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void memoryIsSharedBetweenLayers(Fixture fixture) {
        var program = program(fixture);
        var plan = ActivationPlan.of(program, 64);
        long all = program.values().stream().filter(value -> !value.outputRows()).mapToLong(Value::width).sum();
        assertTrue(plan.rowFloats() * 2 < all, plan.rowFloats() + " of " + all);
    }

    private static Program program(Fixture fixture) {
        return Architectures.program(ModelConfig.load(fixture.directory()), Checkpoint.open(fixture.directory()));
    }

    private static void check(ActivationPlan plan, Program program, Value value, int rows, int outputRows, int columns,
            Map<Long, Integer> memory) {
        for (long cell : cells(plan, program, value, rows, outputRows, columns)) {
            assertEquals(value.id(), memory.get(cell), "value " + value + " at " + cell);
        }
    }

    private static List<Long> cells(
            ActivationPlan plan, Program program, Value value, int rows, int outputRows, int columns) {
        long start = plan.offset(value, rows, outputRows);
        long width = value == program.logits() ? columns : value.width();
        var cells = new ArrayList<Long>();
        for (long cell = 0; cell < width * (value.outputRows() ? outputRows : rows); cell++) {
            cells.add(start + cell);
        }
        return cells;
    }
}
