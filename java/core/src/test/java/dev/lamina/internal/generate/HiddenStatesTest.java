package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.ModelOptions;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.stream.ExpertCache;
import dev.lamina.internal.stream.ResidentPanels;
import dev.lamina.internal.stream.StreamOptions;
import dev.lamina.internal.stream.Streamer;
import dev.lamina.internal.telemetry.Telemetry;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The residual stream between layers is that of the families' published code. */
class HiddenStatesTest {
    private static final long MEMORY = 64 << 20;
    private static final int SLOTS = 8;
    private static final int PANEL = 1000; // no matrix with which a stage begins is so small that it joins another's

    static List<Fixture> fixtures() throws IOException {
        var fixtures = new ArrayList<Fixture>();
        for (var fixture : GoldenTest.fixtures()) {
            if (fixture.golden().has("hidden_prompt")) {
                fixtures.add(fixture);
            }
        }
        return fixtures;
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void hiddenStatesAreWithinTolerance(Fixture fixture) throws IOException {
        var ids = fixture.hiddenPrompt().ids();
        double tolerance = fixture.golden().getAsJsonObject("tolerance").get("hidden_max_abs_f32_compute")
                .getAsDouble();
        var states = states(fixture, ids);
        for (int layer = 0; layer < states.length; layer++) {
            var expected = fixture.hidden(layer);
            assertEquals(expected.length, ids.length);
            for (int row = 0; row < ids.length; row++) {
                for (int column = 0; column < expected[row].length; column++) {
                    double difference = Math.abs(states[layer][row][column] - expected[row][column]);
                    assertTrue(difference <= tolerance,
                            "hidden." + layer + " at " + row + ", " + column + ": differs by " + difference);
                }
            }
        }
    }

    /** What the rows are after the embedding, and after each layer. No two stages share a panel. */
    private static float[][][] states(Fixture fixture, int[] ids) throws IOException {
        var config = ModelConfig.load(fixture.directory());
        try (var processor = Processor.open("cpu", 1, false).getFirst();
                var weights = Weights.open(Checkpoint.open(fixture.directory()), config, List.of(processor),
                        ModelOptions.defaults(), MemoryUse.of(MEMORY, 0, 0), PANEL);
                var workspace = new Workspace(weights, new Workspace.Size(ids.length, 1, 1));
                var feed = new PanelFeed(weights.ranks(), weights.schedule(), false);
                var sequence = new Sequence(Caches.create(weights.ranks(), ids.length, List.of(0)),
                        weights.program().ropes())) {
            var schedule = weights.schedule();
            var cycle = schedule.cycle();
            var hidden = weights.program().values().getFirst();
            var states = new float[weights.program().stages().size() - 1][ids.length][hidden.width()];
            var snapshots = new Telemetry() {
                @Override
                public void computed(int panel, int rows, long bytes, long diskBytes, long startNanos, long endNanos) {
                    int stage = panel == LOOKUP ? 0 : panel < cycle.size() ? schedule.stages()[panel] : states.length;
                    if (stage < states.length) {
                        var memory = workspace.onDevice(0, hidden, rows, hidden.width());
                        for (int row = 0; row < rows; row++) {
                            for (int column = 0; column < hidden.width(); column++) {
                                states[stage][row][column] = memory.getAtIndex(ValueLayout.JAVA_FLOAT,
                                        (long) row * hidden.width() + column);
                            }
                        }
                    }
                }
            };
            var memory = processor.device();
            try (var none = new ResidentPanels(weights.files(), cycle, new BitSet(), memory);
                    var experts = new ExpertCache(weights.files(), schedule.expertExtents(), schedule.expertNumbers(),
                            false, memory)) {
                experts.resize(SLOTS);
                try (var streamer = new Streamer(weights.files(), cycle, none, experts,
                        StreamOptions.defaults().withPrefetch(2), memory, snapshots)) {
                    sequence.setTokens(ids);
                    var sweep = new Sweep(weights, streamer, feed, workspace, null, snapshots, 0);
                    assertTrue(sweep.run(List.of(new Sweep.Part(sequence, ids.length, Sweep.Output.LAST)),
                            (outputs, firstColumn, columns, block) -> { }, progress -> { }, () -> false));
                }
            }
            return states;
        }
    }
}
