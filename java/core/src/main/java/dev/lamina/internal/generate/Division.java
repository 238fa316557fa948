package dev.lamina.internal.generate;

import dev.lamina.MemoryPlan;
import dev.lamina.Rates;
import dev.lamina.internal.stream.Placement;
import dev.lamina.internal.stream.Planner;
import dev.lamina.internal.stream.StreamOptions;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.TreeMap;
import java.util.function.IntFunction;

/**
 * How a budget of some size is divided: into what everything else needs, and panels. The panels depend on the size too,
 * for a small budget cuts them smaller.
 *
 * @param memory bytes
 * @param schedule the panels
 * @param activations the places of activations, which depend on the panels of the head
 */
record Division(long memory, Weights weights, Schedule schedule, ActivationPlan activations, Planner planner) {
    /** Rows of a sweep that work on prompts, where memory allows: by then the arithmetic outweighs the reading. */
    private static final int PREFILL_ROWS = 512;

    /** A workspace takes at most this share of the budget, unless one row for each sequence needs more. */
    private static final int WORKSPACES_IN_BUDGET = 8;

    private static final int COPIES_OF_INPUTS = 2;

    static final Workspace.Size ONE_ROW = new Workspace.Size(1, 1, 1);

    /** The division of the budget with which a model was opened. */
    static Division of(Weights weights, long memory, StreamOptions options) {
        return of(weights, memory, weights.schedule(), weights.plan(), options);
    }

    /**
     * The division of another budget.
     *
     * @param askedPanel most bytes of a panel as the user asked; 0 for {@link Schedule#defaultPanel}
     */
    static Division of(Weights weights, long memory, long askedPanel, StreamOptions options) {
        long panel = askedPanel > 0 ? askedPanel : Schedule.defaultPanel(memory, weights.schedule().weightBytes());
        var schedule = Schedule.of(weights.program(), weights.checkpoint(), weights.numbers(), panel);
        return of(weights, memory, schedule, ActivationPlan.of(weights.program(), schedule.logitsColumns()), options);
    }

    private static Division of(Weights weights, long memory, Schedule schedule, ActivationPlan activations,
            StreamOptions options) {
        var head = new BitSet();
        for (int i = 0; i < schedule.panels().size(); i++) {
            head.set(i, schedule.panels().get(i).logits() != null);
        }
        return new Division(memory, weights, schedule, activations,
                new Planner(weights.files(), schedule.cycle(), head, options));
    }

    long workspaceBytes(Workspace.Size size) {
        var program = weights.program();
        long copies = weights.unified() ? 0 : COPIES_OF_INPUTS; // one to copy from, one on the device
        return Workspace.bytes(program, activations, weights.embeddingType(), size)
                + copies * Workspace.inputsBytes(program, weights.embeddingType(), size);
    }

    /** The ring of a device with memory of its own. */
    long feedBytes() {
        return weights.unified() ? 0 : PanelFeed.bytes(schedule);
    }

    /**
     * All but ring and resident panels.
     *
     * @param otherBytes KV caches and logits
     */
    long fixedBytes(Workspace.Size size, long otherBytes) {
        return weights.vectors().bytes() + feedBytes() + workspaceBytes(size) + otherBytes;
    }

    /** The least budget for so much, with these panels. */
    long minimum(Workspace.Size size, long otherBytes) {
        return planner.minimum(fixedBytes(size, otherBytes));
    }

    /** The least budget for so much that holds all of these panels. */
    long whole(Workspace.Size size, long otherBytes) {
        return planner.whole(fixedBytes(size, otherBytes));
    }

    boolean fits(Workspace.Size size, long otherBytes) {
        return minimum(size, otherBytes) <= memory;
    }

    /** Whether so many sequences fit, with room for a workspace that computes many rows at once. */
    boolean fitsWell(int sequences, long otherBytes) {
        return fits(new Workspace.Size(sequences, sequences, sequences), otherBytes + memory / WORKSPACES_IN_BUDGET);
    }

    /**
     * The workspace for a call.
     *
     * @param mostRows rows beyond which a larger workspace is of no use
     * @param outputRows most rows of a sweep whose logits are wanted; at most as many as the sweep has rows
     */
    Workspace.Size workspaceSize(long mostRows, int outputRows, int sequences, long otherBytes) {
        int rows = (int) Math.max(sequences, Math.min(mostRows, PREFILL_ROWS));
        while (true) {
            var size = new Workspace.Size(rows, Math.min(outputRows, rows), sequences);
            if (rows == sequences || workspaceBytes(size) <= memory / WORKSPACES_IN_BUDGET && fits(size, otherBytes)) {
                return size;
            }
            rows = Math.max(sequences, rows - Math.max(1, rows / 8));
        }
    }

    /**
     * Which panels come first. That depends on nothing but the size of the budget, so that calls that take different
     * parts of it keep mostly the same panels.
     */
    Planner.Order order(Rates rates) {
        return planner.order(memory, fixedBytes(ONE_ROW, 0), rates);
    }

    /** Bytes of weights that a placement holds for good. */
    long residentBytes(Placement placement) {
        return placement.resident().stream().mapToLong(panel -> schedule.panels().get(panel).extent().bytes()).sum();
    }

    /** The panels by kind. */
    List<MemoryPlan.Share> kinds(Placement placement) {
        var names = new String[] {"small", "head", "layer"};
        return shares(placement, panel -> planner.kind(panel).ordinal(), kind -> names[kind]);
    }

    /** The panels by stage. */
    List<MemoryPlan.Share> stages(Placement placement) {
        var stageOf = schedule.stages(weights.program());
        return shares(placement, panel -> stageOf[panel], stage -> weights.program().stages().get(stage).name());
    }

    private List<MemoryPlan.Share> shares(Placement placement, IntFunction<Integer> groupOf,
            IntFunction<String> nameOf) {
        var resident = placement.resident();
        var groups = new TreeMap<Integer, MemoryPlan.Share>();
        for (int i = 0; i < schedule.panels().size(); i++) {
            long bytes = schedule.panels().get(i).extent().bytes();
            int group = groupOf.apply(i);
            var share = new MemoryPlan.Share(nameOf.apply(group), 1, resident.get(i) ? 1 : 0, bytes,
                    resident.get(i) ? bytes : 0);
            groups.merge(group, share, (a, b) -> new MemoryPlan.Share(a.name(), a.panels() + b.panels(),
                    a.residentPanels() + b.residentPanels(), a.bytes() + b.bytes(),
                    a.residentBytes() + b.residentBytes()));
        }
        return new ArrayList<>(groups.values());
    }
}
