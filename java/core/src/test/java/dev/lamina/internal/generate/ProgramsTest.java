package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.Matrix;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Predictions;
import dev.lamina.internal.stream.Extent;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Programs of all families: what they use of a checkpoint, and what panels make of it. */
class ProgramsTest {
    static List<Fixture> fixtures() throws IOException {
        return GoldenTest.fixtures();
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void everyTensorOfALanguageModelIsUsedInOneStage(Fixture fixture) {
        var checkpoint = Checkpoint.open(fixture.directory());
        var program = Architectures.program(ModelConfig.load(fixture.directory()), checkpoint);
        var used = program.stages().stream().flatMap(stage -> stage.tensors().stream()).toList();
        var needed = checkpoint.tensors().stream()
                .map(Tensor::name)
                .filter(name -> !name.endsWith("inv_freq")) // which follows from the configuration
                .filter(name -> !name.startsWith("vision_tower.") && !name.startsWith("multi_modal_projector."))
                .collect(Collectors.toSet());
        assertEquals(needed, new HashSet<>(used));
        assertEquals(used.size(), new HashSet<>(used).size());
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void panelsHoldEachRowOfAProductOnce(Fixture fixture) {
        var checkpoint = Checkpoint.open(fixture.directory());
        var program = Architectures.program(ModelConfig.load(fixture.directory()), checkpoint);
        var files = new HashMap<Path, Integer>();
        checkpoint.files().forEach(file -> files.put(file, files.size()));
        for (long panel : new long[] {1, 3000, 1 << 20}) {
            var schedule = Schedule.of(program, checkpoint, files, panel, new int[program.stages().size()]);
            var found = new HashMap<Op.Product, List<Integer>>();
            var ops = new ArrayList<>(schedule.ops());
            schedule.experts().forEach(expert -> ops.addAll(expert.ops()));
            for (var op : ops) {
                if (op.op() instanceof Op.Product product) {
                    var rows = found.computeIfAbsent(product, first -> new ArrayList<>());
                    for (int row = 0; row < op.slice().rows(); row++) {
                        rows.add(op.slice().firstRow() + row);
                    }
                }
            }
            program.ops().forEach(op -> {
                if (op instanceof Op.Product product) {
                    var rows = found.get(product);
                    assertEquals(product.rows(), rows.size(), product.matrix().tensor());
                    assertEquals(rows.size(), new HashSet<>(rows).size());
                    assertTrue(rows.stream().allMatch(
                            row -> row >= product.firstRow() && row < product.firstRow() + product.rows()));
                }
            });
            assertEquals(Schedule.weightBytes(program, checkpoint), schedule.weightBytes());
            for (var each : schedule.panels()) {
                ops(schedule, each).forEach(op -> holds(each.extent(), op, checkpoint, files));
            }
            schedule.experts().forEach(each ->
                    each.ops().forEach(op -> holds(each.extents().getFirst(), op, checkpoint, files)));
        }
    }

    private static List<Schedule.PanelOp> ops(Schedule schedule, Schedule.Panel panel) {
        return schedule.ops().subList(panel.firstOp(), panel.firstOp() + panel.opCount());
    }

    /** Whether the rows of a product are where the panel is said to have them. */
    private static void holds(Extent panel, Schedule.PanelOp op, Checkpoint checkpoint, Map<Path, Integer> files) {
        if (op.op() instanceof Op.Product) {
            var slice = op.slice();
            var tensor = checkpoint.tensor(slice.matrix().tensor());
            assertEquals(files.get(tensor.file()), panel.file());
            assertEquals(tensor.offset() + slice.firstRow() * slice.rowBytes(), panel.offset() + slice.offset());
            assertTrue(slice.offset() + slice.rows() * slice.rowBytes() <= panel.bytes());
        }
    }

    /** Each choice of experts is predicted by the one before, whatever the family computes its router's logits by. */
    @ParameterizedTest
    @MethodSource("fixtures")
    void choicesArePredictedByTheNextRouter(Fixture fixture) {
        var checkpoint = Checkpoint.open(fixture.directory());
        var program = Architectures.program(ModelConfig.load(fixture.directory()), checkpoint);
        var predicting = Predictions.addedTo(program);
        var choices = predicting.ops().filter(Op.Experts.class::isInstance).map(Op.Experts.class::cast).toList();
        var weights = new HashMap<Integer, Matrix>(); // by what they compute
        program.ops().forEach(op -> {
            if (op instanceof Op.Linear product) {
                weights.put(product.out().id(), product.matrix());
            }
        });
        for (int i = 0; i < choices.size(); i++) {
            var prediction = choices.get(i).prediction();
            assertEquals(i == choices.size() - 1, prediction == null);
            if (prediction != null) {
                var next = choices.get(i + 1);
                assertEquals(weights.get(next.logits().id()), prediction.product().matrix());
                assertEquals(next.router(), prediction.router());
                assertEquals(next.bias(), prediction.bias());
                prediction.ops().forEach(op -> assertTrue(op.out().id() >= program.values().size(), "overwritten"));
            }
        }
        assertEquals(Schedule.weightBytes(program, checkpoint), Schedule.weightBytes(predicting, checkpoint));
        assertEquals(program.values(), predicting.values().subList(0, program.values().size()));
    }
}
