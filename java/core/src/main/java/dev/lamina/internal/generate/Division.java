package dev.lamina.internal.generate;

import dev.lamina.MemoryPlan;
import dev.lamina.Rates;
import dev.lamina.internal.stream.ExpertCache;
import dev.lamina.internal.stream.Placement;
import dev.lamina.internal.stream.Planner;
import dev.lamina.internal.stream.StreamOptions;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.Collections;
import java.util.List;
import java.util.TreeMap;
import java.util.function.IntFunction;
import org.jspecify.annotations.Nullable;

/**
 * How budgets of some size are divided: into what everything else needs, and panels. The panels depend on the size too,
 * for a small budget cuts them smaller.
 *
 * @param memory bytes of host memory, and of each device that has memory of its own
 * @param schedule the panels
 * @param activations the places of activations, which depend on the panels of the head
 * @param hostBytes host memory that the host's processor needs to compute panels
 */
record Division(MemoryUse memory, Weights weights, Schedule schedule, ActivationPlan activations, Planner planner,
        long hostBytes) {
    /** Rows of a sweep that work on prompts, where memory allows: by then the arithmetic outweighs the reading. */
    static final int PREFILL_ROWS = 512;

    /** A workspace takes at most this share of a budget, unless one row for each sequence needs more. */
    private static final int WORKSPACES_IN_BUDGET = 8;

    static final Workspace.Size ONE_ROW = new Workspace.Size(1, 1, 1);

    /**
     * What a call is about to take beside its workspace.
     *
     * @param capacities positions of each new KV cache
     * @param context the most positions of any KV cache, new or open
     * @param logitsRows rows of logits that it gathers in host memory
     * @param kept what open conversations hold
     */
    record Demand(List<Integer> capacities, int context, int logitsRows, MemoryUse kept) {}

    /**
     * The division of the budgets with which a model was opened.
     *
     * @param hostComputes whether the host's processor computes panels beside devices
     */
    static Division of(Weights weights, MemoryUse memory, StreamOptions options, boolean hostComputes) {
        return of(weights, memory, weights.schedule(), weights.plan(), options, hostComputes);
    }

    /**
     * The division of other budgets.
     *
     * @param askedPanel most bytes of a panel as the user asked; 0 for {@link Schedule#defaultPanel}
     * @param hostComputes whether the host's processor computes panels beside devices
     */
    static Division of(Weights weights, MemoryUse memory, long askedPanel, StreamOptions options,
            boolean hostComputes) {
        long panel = panelBytes(memory, askedPanel, weights.schedule().weightBytes());
        var schedule = Schedule.of(weights.program(), weights.checkpoint(), weights.numbers(), panel,
                weights.rankOfStage());
        return of(weights, memory, schedule, ActivationPlan.of(weights.program(), schedule.logitsColumns()), options,
                hostComputes);
    }

    /** Most bytes of a panel; asked: 0 where nobody did. */
    static long panelBytes(MemoryUse memory, long asked, long weightBytes) {
        long least = memory.devices().stream().reduce(memory.host(), Math::min);
        return asked > 0 ? asked : Schedule.defaultPanel(least, weightBytes);
    }

    private static Division of(Weights weights, MemoryUse memory, Schedule schedule, ActivationPlan activations,
            StreamOptions options, boolean hostComputes) {
        var head = new BitSet();
        for (int i = 0; i < schedule.panels().size(); i++) {
            head.set(i, schedule.panels().get(i).logits() != null);
        }
        return new Division(memory, weights, schedule, activations,
                new Planner(weights.files(), schedule.cycle(), head,
                        schedule.ranks(weights.rankOfStage()), options, weights.onDevice()),
                hostComputes ? HostCompute.bytes(schedule) : 0);
    }

    // ---- what everything else needs

    private int devices() {
        return memory.devices().size();
    }

    private MemoryUse vectors() {
        return devices() == 0
                ? MemoryUse.of(weights.ranks().getFirst().bytes(), 0, 0)
                : new MemoryUse(0, weights.ranks().stream().map(rank -> MemoryUse.allocation(rank.vectors().bytes())
                        + MemoryUse.allocation(rank.routers().bytes())).toList());
    }

    /** The rings that panels are copied into. */
    MemoryUse rings() {
        return MemoryUse.of(0, devices(), devices() == 0 || weights.onDevice() ? 0
                : MemoryUse.allocation(DeviceFeed.bytes(schedule)));
    }

    /** Memory of a slot for panels of experts; 0 where there are none. */
    long expertSlotBytes() {
        return schedule.experts().isEmpty() ? 0
                : ExpertCache.slotFootprint(weights.files(), schedule.expertExtents());
    }

    /** Slots for panels of experts: what experts pass through, and for the rest of a budget others that keep some. */
    int expertSlots(Placement placement, MemoryUse fixed) {
        if (schedule.experts().isEmpty()) {
            return 0;
        }
        long left = memory.host() - fixed.host() - use(placement).host();
        return passing(0) + (int) Math.clamp(left / expertSlotBytes(), 0, mostKeptSlots());
    }

    /**
     * What a plan tells of experts.
     *
     * @param slots for their panels
     */
    MemoryPlan.OfExperts experts(int slots) {
        var panels = schedule.experts();
        if (panels.isEmpty()) {
            return MemoryPlan.OfExperts.NONE;
        }
        int experts = 0;
        int chosen = 0;
        double perRow = 0;
        for (var panel : schedule.panels()) {
            var choice = panel.choice();
            if (choice != null) {
                int of = choice.experts();
                long bytes = panels.subList(choice.firstPanels()[0], choice.firstPanels()[of]).stream()
                        .mapToLong(Schedule.ExpertPanel::bytes).sum();
                experts += of;
                chosen += choice.op().router().chosen();
                perRow += (double) bytes * choice.op().router().chosen() / of;
            }
        }
        long all = panels.stream().mapToLong(Schedule.ExpertPanel::bytes).sum();
        double kept = Math.min(1, (double) (slots - passing(slots)) / panels.size());
        return new MemoryPlan.OfExperts(experts, chosen, all, Math.round(perRow), slots, expertSlotBytes(),
                Math.round(all * kept));
    }

    /** Slots for panels of experts, beside the least of what they pass through, of which all can stay. */
    private int mostKeptSlots() {
        return schedule.experts().size() + passing(Integer.MAX_VALUE) - passing(0);
    }

    private int passing(int slots) {
        return ExpertCache.passing(slots, weights.predicted());
    }

    /** Bytes of the slots that experts pass through, at least. */
    long passingBytes() {
        return passing(0) * expertSlotBytes();
    }

    private MemoryUse readers() {
        return MemoryUse.of(planner.readerBytes(), devices(), 0);
    }

    /** What a workspace takes. */
    MemoryUse workspace(Workspace.Size size) {
        return Workspace.use(weights, activations, size);
    }

    /** What one call takes of a device to compute in; a CPU has its own, which is not counted. */
    private MemoryUse scratch(Workspace.Size size, int context) {
        return MemoryUse.of(0, devices(),
                devices() == 0 ? 0
                : MemoryUse.allocation(Workspace.scratchBytes(weights, schedule, size, context)));
    }

    private MemoryUse kv(Demand demand, List<Integer> hostLayers) {
        var sum = MemoryUse.of(0, devices(), 0);
        for (int capacity : demand.capacities) {
            sum = sum.plus(Caches.use(weights.ranks(), capacity, hostLayers));
        }
        return sum;
    }

    private MemoryUse logits(Demand demand) {
        return MemoryUse.of(LogitsRows.bytes(demand.logitsRows, weights.program().vocabulary()), devices(), 0);
    }

    /**
     * All but the staging ring and resident panels.
     *
     * @param hostLayers for each rank, how many of the last layers of new KV caches are in host memory
     */
    MemoryUse fixed(Workspace.Size size, Demand demand, List<Integer> hostLayers) {
        return MemoryUse.of(hostBytes, devices(), 0).plus(vectors()).plus(rings()).plus(readers())
                .plus(workspace(size)).plus(scratch(size, demand.context()))
                .plus(kv(demand, hostLayers)).plus(logits(demand)).plus(MemoryUse.of(passingBytes(), devices(), 0))
                .plus(demand.kept);
    }

    /**
     * For each rank, how many of the last layers of new KV caches have to be in host memory: as few as possible. Where
     * not even none on the device is few enough, all are.
     */
    List<Integer> hostLayers(Workspace.Size size, Demand demand) {
        var least = new ArrayList<Integer>(Collections.nCopies(weights.ranks().size(), 0));
        for (int i = 0; i < devices(); i++) {
            int layers = weights.ranks().get(i).kv().layers().size();
            long ring = weights.onDevice() ? planner.minimum(0) : 0;
            while (least.get(i) < layers
                    && fixed(size, demand, least).devices().get(i) + ring > memory.devices().get(i)) {
                least.set(i, least.get(i) + 1);
            }
        }
        return List.copyOf(least);
    }

    /** The least budget of the host for so much, with these panels. */
    long minimum(Workspace.Size size, Demand demand) {
        return minimum(fixed(size, demand, hostLayers(size, demand)));
    }

    /** The least budget of the host where all but panels takes so much. */
    long minimum(MemoryUse fixed) {
        return weights.onDevice() ? fixed.host() : planner.minimum(fixed.host());
    }

    /** The least budget of the host for so much that holds all panels that are on no device, and all experts. */
    long whole(Workspace.Size size, Demand demand) {
        var fixed = fixed(size, demand, hostLayers(size, demand));
        long experts = schedule.experts().isEmpty() ? 0 : expertSlotBytes() * mostKeptSlots();
        return weights.onDevice() ? fixed.host() : planner.whole(fixed.host(), rooms(fixed)) + experts;
    }

    /** The least memory of each device for so much, with these panels and KV caches in host memory. */
    List<Long> deviceMinimum(Workspace.Size size, Demand demand) {
        var fixed = fixed(size, demand, weights.ranks().stream().map(rank -> rank.kv().layers().size()).toList());
        return fixed.devices().stream().map(bytes -> weights.onDevice() ? planner.minimum(bytes) : bytes).toList();
    }

    private List<Long> rooms(MemoryUse fixed) {
        var rooms = new ArrayList<Long>();
        for (int i = 0; i < devices(); i++) {
            rooms.add(Math.max(0, memory.devices().get(i) - fixed.devices().get(i)));
        }
        return rooms;
    }

    /** What is left for panels beside so much. */
    Planner.Room room(MemoryUse fixed) {
        if (weights.onDevice()) {
            return Planner.Room.ofHost(memory.devices().getFirst(), fixed.devices().getFirst());
        }
        return new Planner.Room(memory.host(), fixed.host(), rooms(fixed));
    }

    /** The first device that is too small for so much; null if none is. */
    @Nullable Integer tooSmall(Workspace.Size size, Demand demand) {
        var least = deviceMinimum(size, demand);
        for (int i = 0; i < devices(); i++) {
            if (least.get(i) > memory.devices().get(i)) {
                return i;
            }
        }
        return null;
    }

    boolean fits(Workspace.Size size, Demand demand) {
        return tooSmall(size, demand) == null && minimum(size, demand) <= memory.host();
    }

    /** Whether so many sequences fit, with room for a workspace that computes many rows at once. */
    boolean fitsWell(Demand demand, int sequences) {
        var workspaces = new MemoryUse(memory.host() / WORKSPACES_IN_BUDGET,
                memory.devices().stream().map(bytes -> bytes / WORKSPACES_IN_BUDGET).toList());
        return fits(new Workspace.Size(sequences, sequences, sequences),
                new Demand(demand.capacities, demand.context, demand.logitsRows, demand.kept.plus(workspaces)));
    }

    /**
     * The workspace for a call.
     *
     * @param mostRows rows beyond which a larger workspace is of no use
     * @param outputRows most rows of a sweep whose logits are wanted; at most as many as the sweep has rows
     */
    Workspace.Size workspaceSize(long mostRows, int outputRows, int sequences, Demand demand) {
        int rows = (int) Math.max(sequences, Math.min(mostRows, PREFILL_ROWS));
        while (true) {
            var size = new Workspace.Size(rows, Math.min(outputRows, rows), sequences);
            if (rows == sequences || isModest(workspace(size)) && fits(size, demand)) {
                return size;
            }
            rows = Math.max(sequences, rows - Math.max(1, rows / 8));
        }
    }

    private boolean isModest(MemoryUse workspace) {
        boolean modest = workspace.host() <= memory.host() / WORKSPACES_IN_BUDGET;
        for (int i = 0; i < devices(); i++) {
            modest &= workspace.devices().get(i) <= memory.devices().get(i) / WORKSPACES_IN_BUDGET;
        }
        return modest;
    }

    /**
     * Which panels come first. That depends on nothing but the size of the budgets, so that calls that take different
     * parts of them keep mostly the same panels.
     */
    Planner.Order order(Rates rates) {
        var nothing = new Demand(List.of(), 0, 0, MemoryUse.of(0, devices(), 0));
        return planner.order(room(fixed(ONE_ROW, nothing, hostLayers(ONE_ROW, nothing))), rates);
    }

    // ---- what a placement comes to

    /** Bytes of weights that a placement keeps in memory for good, of the host or of a device. */
    long residentBytes(Placement placement) {
        return bytes(placement.kept());
    }

    /** The panels that stay on devices. */
    BitSet onDevice(Placement placement) {
        return weights.onDevice() ? placement.resident() : placement.onDevice();
    }

    /** Memory that panels and what is read with them take. */
    MemoryUse use(Placement placement) {
        return weights.onDevice()
                ? new MemoryUse(0, List.of(placement.hostBytes()))
                : new MemoryUse(placement.hostBytes(), placement.slabs().stream().map(planner::slabBytes).toList());
    }

    /** Bytes of weights of some panels. */
    long bytes(BitSet panels) {
        return panels.stream().mapToLong(panel -> schedule.panels().get(panel).extent().bytes()).sum();
    }

    /** The panels by kind. */
    List<MemoryPlan.Share> kinds(Placement placement) {
        var names = new String[] {"small", "head", "layer"};
        return shares(placement, panel -> planner.kind(panel).ordinal(), kind -> names[kind]);
    }

    /** The panels by stage. */
    List<MemoryPlan.Share> stages(Placement placement) {
        var stageOf = schedule.stages();
        return shares(placement, panel -> stageOf[panel], stage -> weights.program().stages().get(stage).name());
    }

    private List<MemoryPlan.Share> shares(Placement placement, IntFunction<Integer> groupOf,
            IntFunction<String> nameOf) {
        var resident = placement.kept();
        var onDevice = onDevice(placement);
        var groups = new TreeMap<Integer, MemoryPlan.Share>();
        for (int i = 0; i < schedule.panels().size(); i++) {
            long bytes = schedule.panels().get(i).extent().bytes();
            int group = groupOf.apply(i);
            var share = new MemoryPlan.Share(nameOf.apply(group), 1, resident.get(i) ? 1 : 0, bytes,
                    resident.get(i) ? bytes : 0, onDevice.get(i) ? bytes : 0);
            groups.merge(group, share, (a, b) -> new MemoryPlan.Share(a.name(), a.panels() + b.panels(),
                    a.residentPanels() + b.residentPanels(), a.bytes() + b.bytes(),
                    a.residentBytes() + b.residentBytes(), a.deviceBytes() + b.deviceBytes()));
        }
        return new ArrayList<>(groups.values());
    }
}
