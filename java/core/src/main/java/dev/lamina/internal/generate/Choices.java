package dev.lamina.internal.generate;

import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Router;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.Streamer;
import dev.lamina.internal.telemetry.Telemetry;
import dev.lamina.internal.telemetry.Telemetry.Activity;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.BooleanSupplier;
import java.util.function.LongConsumer;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * The places of a sweep where rows choose experts: their logits come to the host, each expert that a row chose is read,
 * once for all its rows, and computed on these. Experts follow one another by their numbers, so that a row adds up its
 * own in one order, whatever is beside it.
 *
 * <p>Where the next choice is predicted, that is computed once the reading of these experts has begun.
 */
final class Choices {
    /** Panels whose copies to the device are under way. */
    private static final int MOST_HELD = 2;

    private final Weights weights;
    private final Streamer streamer;
    private final PanelFeed feed;
    private final Workspace workspace;
    private final Telemetry telemetry;
    private final List<Schedule.Choice> all;

    Choices(Weights weights, Streamer streamer, PanelFeed feed, Workspace workspace, Telemetry telemetry) {
        this.weights = weights;
        this.streamer = streamer;
        this.feed = feed;
        this.workspace = workspace;
        this.telemetry = telemetry;
        this.all = weights.schedule().choices();
    }

    /**
     * The rows that chose each expert.
     *
     * @param first for each expert, the number of its first row in the list; then of the one after the last
     * @param rows the list: row numbers, by expert and then in order
     * @param given the weight that each of these gives its expert
     */
    private record Chosen(int[] first, int[] rows, float[] given) {
        int count(int expert) {
            return first[expert + 1] - first[expert];
        }
    }

    /**
     * Lets the rows of the sweep choose, and computes what they chose.
     *
     * @param rank whose device computes
     * @param fromDisk is told the bytes that were read for each panel
     * @return false if it was cancelled
     */
    boolean run(int rank, Schedule.Choice choice, LongConsumer fromDisk, BooleanSupplier cancelled)
            throws IOException, InterruptedException {
        var op = choice.op();
        var chosen = choose(rank, op.router(), op.bias(), workspace.routerLogits(rank, op.logits()));
        var step = workspace.step(rank);
        step.beginList();
        for (int i = 0; i < chosen.rows.length; i++) {
            step.list(chosen.rows[i], chosen.given[i]);
        }
        streamer.demand(panels(choice, chosen));
        if (op.prediction() != null) {
            predict(rank, choice, op.prediction());
        }
        for (int expert = 0; expert < choice.experts(); expert++) {
            if (chosen.count(expert) > 0) {
                step.listed(chosen.first[expert], chosen.count(expert));
                for (int panel = choice.firstPanels()[expert]; panel < choice.firstPanels()[expert + 1]; panel++) {
                    if (cancelled.getAsBoolean()) {
                        return false;
                    }
                    fromDisk.accept(compute(rank, weights.schedule().experts().get(panel), chosen.count(expert)));
                }
            }
        }
        return true;
    }

    private static int[] panels(Schedule.Choice choice, Chosen chosen) {
        var panels = new ArrayList<Integer>();
        for (int expert = 0; expert < choice.experts(); expert++) {
            if (chosen.count(expert) > 0) {
                for (int panel = choice.firstPanels()[expert]; panel < choice.firstPanels()[expert + 1]; panel++) {
                    panels.add(panel);
                }
            }
        }
        return panels.stream().mapToInt(panel -> panel).toArray();
    }

    /** Asks for what rows seem to choose next, what most of them seem to want most first. */
    private void predict(int rank, Schedule.Choice choice, Op.Prediction prediction) {
        var routers = weights.ranks().get(rank).routers();
        workspace.step(rank).panel(routers.get(prediction.product().matrix()));
        workspace.placeExpert(rank, choice.prediction());
        queue(rank).await(queue(rank).submit(workspace.expertOps(rank), 0, choice.prediction().size(),
                workspace.step(rank)));
        var predicted = choose(rank, prediction.router(), prediction.bias(),
                workspace.routerLogits(rank, prediction.logits()));
        var next = all.get(choice.number() + 1);
        var wanted = new float[next.experts()];
        for (int expert = 0; expert < wanted.length; expert++) {
            for (int i = predicted.first[expert]; i < predicted.first[expert + 1]; i++) {
                wanted[expert] += Math.abs(predicted.given[i]);
            }
        }
        streamer.predict(IntStream.range(0, wanted.length).boxed()
                .filter(expert -> predicted.count(expert) > 0)
                .sorted(Comparator.comparingDouble(expert -> -wanted[expert]))
                .flatMapToInt(expert -> IntStream.range(next.firstPanels()[expert], next.firstPanels()[expert + 1]))
                .toArray());
    }

    private Chosen choose(int rank, Router router, @Nullable String corrections, float[][] logits) {
        var bias = corrections == null ? null : weights.ranks().get(rank).vectors().onHost(corrections);
        int perRow = router.chosen();
        int count = logits[0].length;
        var experts = new int[logits.length][perRow];
        var given = new float[logits.length][perRow];
        var first = new int[count + 1];
        for (int row = 0; row < logits.length; row++) {
            router.choose(logits[row], bias, experts[row], given[row]);
            for (int expert : experts[row]) {
                first[expert + 1]++;
            }
        }
        for (int expert = 0; expert < count; expert++) {
            first[expert + 1] += first[expert];
        }
        var next = first.clone();
        var rows = new int[logits.length * perRow];
        var weightsOfRows = new float[rows.length];
        for (int row = 0; row < logits.length; row++) {
            for (int i = 0; i < perRow; i++) {
                int place = next[experts[row][i]]++;
                rows[place] = row;
                weightsOfRows[place] = given[row][i];
            }
        }
        return new Chosen(first, rows, weightsOfRows);
    }

    /** Computes one panel of an expert; returns the bytes that were read for it. */
    private long compute(int rank, Schedule.ExpertPanel panel, int rows) throws IOException, InterruptedException {
        feed.holdAtMost(MOST_HELD);
        var arrived = streamer.nextExpert();
        try {
            workspace.step(rank).panel(feed.bring(rank, arrived));
            workspace.placeExpert(rank, panel.ops());
            telemetry.begin(Activity.COMPUTE, Telemetry.SWEEP_LANE);
            long start = System.nanoTime();
            feed.submitted(rank, queue(rank).submit(workspace.expertOps(rank), 0, panel.ops().size(),
                    workspace.step(rank)));
            telemetry.computed(arrived.index(), rows, panel.bytes(), arrived.diskBytes(), start, System.nanoTime());
            return arrived.diskBytes();
        } finally {
            feed.done();
        }
    }

    private Queue queue(int rank) {
        return weights.ranks().get(rank).processor().queue();
    }
}
