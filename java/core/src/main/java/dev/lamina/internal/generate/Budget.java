package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.MemoryNeeds;
import dev.lamina.MemoryPlan;
import dev.lamina.Rates;
import dev.lamina.internal.generate.Division.Demand;
import dev.lamina.internal.runtime.FreeMemory;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.stream.ExpertCache;
import dev.lamina.internal.stream.Extent;
import dev.lamina.internal.stream.Placement;
import dev.lamina.internal.stream.Planner;
import dev.lamina.internal.stream.ResidentPanels;
import dev.lamina.internal.stream.StreamCounters;
import dev.lamina.internal.stream.StreamOptions;
import dev.lamina.internal.stream.Streamer;
import dev.lamina.internal.telemetry.Telemetry;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * The memory that a model may hold, of the host and of devices that have their own, and what is in it: vectors, KV
 * caches of conversations, a workspace, rings, and for the rest resident panels. Before a call takes memory it is
 * prepared here: panels make room where they must, so that the sum stays below the budgets at every moment.
 */
final class Budget implements AutoCloseable {
    private static final long MEBIBYTE = 1L << 20;

    /** Reading begins anew only for resident panels that are more than this share of the weights. */
    private static final int WORTH_A_RESTART = 50;

    private final Weights weights;
    private final MemoryUse memory;
    private final Name name;
    private final long askedPanel;
    private final StreamOptions streamOptions;
    private final @Nullable SavedPlan saved;
    private final @Nullable HostProcessor host;
    private final Rates rates;
    private final Division division;
    private final Planner.Order order;
    private final Telemetry telemetry;
    private final List<Extent> cycle;
    private final ResidentPanels residents;
    private final @Nullable ExpertCache experts;
    private @Nullable PanelFeed feed;
    private @Nullable HostCompute hostCompute;
    private final List<Sequence> kept = new ArrayList<>();
    private @Nullable Placement placement;
    private @Nullable Streamer streamer;
    private @Nullable Workspace workspace;
    private List<Integer> hostLayers = List.of(); // of new KV caches, by rank
    private StreamCounters pastCounters = StreamCounters.NONE;
    private MemoryUse peak;

    /**
     * What people are told of a budget.
     *
     * @param inErrors how messages name it
     * @param origin where it comes from
     */
    record Name(String inErrors, String origin) {
        /** Of a budget that was asked for. */
        static Name of(long memory) {
            return new Name("--memory " + size(memory), "as asked");
        }

        /** Of a budget that was chosen. */
        static Name of(FreeMemory free) {
            return new Name("The default budget, what is free less a reserve (" + (free.budget() >> 20) + "MiB),",
                    "auto: " + (free.bytes() >> 20) + "MiB that " + free.limitedBy() + " leaves free, less a reserve");
        }

        private static String size(long memory) {
            return memory % (1 << 20) == 0 ? (memory >> 20) + "MiB"
                    : memory % 1024 == 0 ? (memory >> 10) + "KiB" : memory + "B";
        }
    }

    /**
     * Makes a budget. Whether it is large enough, the first call tells: only then its needs are known.
     *
     * @param memory bytes
     * @param name of the part that is host memory
     * @param askedPanel most bytes of a panel as the user asked; 0 for {@link Schedule#defaultPanel}
     * @param streamOptions how to read ahead
     * @param saved where panels go, as far as there is room; null: chosen here
     * @param host computes panels in host memory where that is faster than to copy them; null: nobody. Stays the
     *     caller's
     * @param telemetry is told what readers and sweeps do
     */
    Budget(Weights weights, MemoryUse memory, Name name, long askedPanel, StreamOptions streamOptions,
            @Nullable SavedPlan saved, @Nullable HostProcessor host, Telemetry telemetry) {
        this.weights = weights;
        this.memory = memory;
        this.name = name;
        this.askedPanel = askedPanel;
        this.streamOptions = streamOptions;
        this.saved = saved;
        this.host = host;
        this.telemetry = telemetry;
        var known = weights.rates().limited(streamOptions.bytesPerSecond());
        this.rates = host == null ? known : known.withBus(host.rates().busBytesPerSecond());
        this.division = Division.of(weights, memory, streamOptions, host != null);
        this.order = division.order(rates);
        this.cycle = weights.schedule().cycle();
        this.residents = weights.onDevice()
                ? ResidentPanels.onDevice(weights.files(), cycle, new BitSet(),
                        weights.ranks().getFirst().processor().device().panelMemory())
                : new ResidentPanels(weights.files(), cycle, new BitSet(), hostMemory());
        var schedule = weights.schedule();
        this.experts = schedule.experts().isEmpty() ? null
                : new ExpertCache(weights.files(), schedule.expertExtents(), schedule.expertNumbers(),
                        weights.predicted(), hostMemory());
        this.peak = nothing();
    }

    private HostMemory hostMemory() {
        return weights.ranks().getFirst().processor().device();
    }

    private MemoryUse nothing() {
        return MemoryUse.of(0, memory.devices().size(), 0);
    }

    /**
     * Whether a call fits, with room for a workspace that computes many rows at once.
     *
     * @param capacities positions of the KV cache of each sequence
     */
    boolean fitsWell(List<Integer> capacities) {
        return division.fitsWell(demand(capacities, capacities.size()), capacities.size());
    }

    private Demand demand(List<Integer> capacities, int logitsRows) {
        var held = nothing();
        int context = capacities.stream().mapToInt(each -> each).max().orElse(0);
        for (var sequence : kept) {
            held = held.plus(sequence.cache().use());
            context = Math.max(context, sequence.cache().capacity());
        }
        return new Demand(capacities, context, logitsRows, held);
    }

    /** The most positions, up to {@code limit}, of a conversation that fits beside what is there; at least one. */
    int contextThatFits(int limit) {
        int low = 1;
        int high = limit;
        while (low < high) {
            int middle = low + (high - low + 1) / 2;
            if (fitsWell(List.of(middle))) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return low;
    }

    /**
     * Makes room for a call. The workspace is made for the rows that the KV caches have room for, not for those of the
     * prompt: so prompts of any length leave the same panels in memory, and a plan knows which.
     *
     * @param mostRows positions of the KV caches
     * @param outputRows most rows of a sweep whose logits are wanted; at most as many as the sweep has rows
     * @param sequences how many there are
     * @param capacities positions of each KV cache that the call is about to take, see {@link #newCache}
     * @param logitsRows rows of logits that the call is about to gather
     */
    Sweep prepare(long mostRows, int outputRows, int sequences, List<Integer> capacities, int logitsRows) {
        var demand = demand(capacities, logitsRows);
        var size = division.workspaceSize(mostRows, outputRows, sequences, demand);
        if (workspace != null) {
            workspace.trim();
        }
        if (workspace != null && !workspace.size().equals(size)) {
            workspace.close();
            workspace = null;
        }
        var layers = division.hostLayers(size, demand);
        var fixed = division.fixed(size, demand, layers);
        if (feed == null) {
            feed = new PanelFeed(weights.ranks(), weights.schedule(), weights.onDevice());
        }
        if (host != null && hostCompute == null) {
            hostCompute = new HostCompute(weights, host.processor());
        }
        var next = keptOr(plan(division, name, order, size, demand), fixed);
        place(feed, next, division.expertSlots(next, fixed));
        hostLayers = layers;
        if (workspace == null) {
            workspace = new Workspace(weights, size);
        }
        peak = most(peak, fixed.plus(panels()).plus(keptExperts()));
        return new Sweep(weights, streamer(), feed, workspace, hostCompute, telemetry, residentBytes());
    }

    /** Makes a KV cache that the last call of {@link #prepare} has made room for. */
    Caches newCache(int capacity) {
        return Caches.create(weights.ranks(), capacity, hostLayers);
    }

    private static MemoryUse most(MemoryUse a, MemoryUse b) {
        var devices = IntStream.range(0, a.devices().size())
                .mapToObj(i -> Math.max(a.devices().get(i), b.devices().get(i))).toList();
        return new MemoryUse(Math.max(a.host(), b.host()), devices);
    }

    /** Rows that a sweep may have, as the last call was prepared. */
    int rows() {
        return workspace == null ? 0 : workspace.size().rows();
    }

    private Placement plan(Division chosen, Name called, Planner.Order first, Workspace.Size size, Demand demand) {
        var small = chosen.tooSmall(size, demand);
        if (small != null) {
            throw new LaminaException(Name.size(chosen.memory().devices().get(small))
                    + " of device memory is too small for " + weights.ranks().get(small).processor().device().name()
                    + ": at least " + mebibytes(leastDeviceMemory(size, demand, small)) + " are needed for its ring,"
                    + " norms and activations. Raise --device-memory, or lower --panel"
                    + (weights.onDevice() ? " or --prefetch." : "."));
        }
        var fixed = chosen.fixed(size, demand, chosen.hostLayers(size, demand));
        if (chosen.minimum(fixed) > chosen.memory().host()) {
            throw new LaminaException(called.inErrors + " is too small: at least "
                    + mebibytes(leastMemory(demand, each -> size, Division::minimum)) + " are needed, of which "
                    + mebibytes(fixed.host()) + " for norms, KV cache and activations."
                    + " Raise --memory, or lower --context, --prefetch or --panel.");
        }
        var room = chosen.room(fixed);
        return saved != null && chosen == division
                ? chosen.planner().again(saved.placement(), saved.host(), room, first)
                : chosen.planner().plan(room, first);
    }

    /** Where panels go in a call with one sequence, for a file. */
    SavedPlan toSave(int positions) {
        var demand = demand(List.of(positions), 1);
        var placed = plan(division, name, order, division.workspaceSize(positions, 1, 1, demand), demand);
        var schedule = weights.schedule();
        var devices = weights.ranks().stream().map(rank -> rank.processor().device().name())
                .collect(Collectors.joining(","));
        return new SavedPlan(devices, memory, Division.panelBytes(memory, askedPanel, schedule.weightBytes()),
                schedule.weightBytes(), schedule.panels().size(),
                weights.onDevice(), division.planner().inOrder(placed.resident(), order),
                onHost(division, placed).stream().boxed().toList(), placed);
    }

    /** The panels that the host's processor computes in sweeps of few rows. */
    private BitSet onHost(Division chosen, Placement placed) {
        if (host == null) {
            return new BitSet();
        }
        if (saved == null || chosen != division) {
            return HostPanels.of(chosen.schedule()).choose(chosen.planner(), placed, rates, host.rates());
        }
        var again = new BitSet();
        saved.onHost().forEach(again::set);
        again.and(placed.resident());
        return again;
    }

    private MemoryPlan.OnHost onHost(Division chosen, BitSet panels) {
        return host == null ? MemoryPlan.OnHost.NONE
                : new MemoryPlan.OnHost(panels.cardinality(), chosen.bytes(panels),
                        host.rates().hostBytesPerSecond(), host.rates().busBytesPerSecond());
    }

    /** What a division needs for a workspace and other things. */
    @FunctionalInterface
    private interface Need {
        long bytes(Division division, Workspace.Size size, Demand demand);
    }

    /**
     * The budget of the host that is enough, in whole MiB: with a larger one the panels and the workspace grow too, so
     * it is searched for.
     */
    private long leastMemory(Demand demand, Function<Division, Workspace.Size> size, Need need) {
        long budget = MEBIBYTE;
        while (true) {
            var candidate = division(budget);
            long least = need.bytes(candidate, size.apply(candidate), demand);
            if (least <= budget) {
                return budget;
            }
            budget = Math.ceilDiv(least, MEBIBYTE) * MEBIBYTE;
        }
    }

    /** The memory of a device that is enough, in whole MiB. */
    private long leastDeviceMemory(Workspace.Size size, Demand demand, int device) {
        long budget = MEBIBYTE;
        while (true) {
            var devices = MemoryUse.of(memory.host(), memory.devices().size(), budget);
            long least = Division.of(weights, devices, askedPanel, streamOptions, host != null)
                    .deviceMinimum(size, demand).get(device);
            if (least <= budget) {
                return budget;
            }
            budget = Math.ceilDiv(least, MEBIBYTE) * MEBIBYTE;
        }
    }

    private Division division(long budget) {
        return budget == memory.host() ? division
                : Division.of(weights, new MemoryUse(budget, memory.devices()), askedPanel, streamOptions,
                        host != null);
    }

    /** What one sequence needs of host memory. */
    MemoryNeeds needs(int positions) {
        var demand = demand(List.of(positions), 1);
        long least = leastMemory(demand, each -> Division.ONE_ROW, Division::minimum);
        long whole = leastMemory(demand, each -> each.workspaceSize(positions, 1, 1, demand), Division::whole);
        return new MemoryNeeds(least, Math.max(least, whole));
    }

    /**
     * What {@link #prepare} would do now for one sequence.
     *
     * @param asked a budget of the host in bytes; 0: this one
     * @param predicted the rates that the prediction is for; which panels stay does not depend on them
     */
    MemoryPlan plan(long asked, int positions, Rates predicted) {
        var chosen = asked == 0 ? division : division(asked);
        var called = chosen == division ? name : Name.of(asked);
        var first = chosen == division ? order : chosen.order(rates);
        var demand = demand(List.of(positions), 1);
        var size = chosen.workspaceSize(positions, 1, 1, demand);
        var placed = plan(chosen, called, first, size, demand);
        var layers = chosen.hostLayers(size, demand);
        var fixed = chosen.fixed(size, demand, layers);
        if (chosen == division) {
            placed = keptOr(placed, fixed);
        }
        var kv = Caches.use(weights.ranks(), positions, layers).plus(demand.kept());
        boolean onDevice = weights.onDevice(); // then ring and resident panels are there
        long readerBytes = onDevice ? chosen.planner().readerBytes()
                : placed.hostBytes() - placed.slots() * placed.slotBytes() - placed.residentBytes();
        long vectorsOnHost = memory.devices().isEmpty() ? weights.ranks().getFirst().bytes() : 0;
        var passed = onDevice ? predicted.withoutBus() : predicted;
        var panelsOnHost = onHost(chosen, placed);
        var work = host == null ? null : HostPanels.of(chosen.schedule()).work(panelsOnHost, host.rates());
        var ofExperts = chosen.experts(chosen.expertSlots(placed, fixed));
        double readingExperts = ofExperts.bytesPerSweep() / passed.diskBytesPerSecond();
        return new MemoryPlan(chosen.memory().host(), called.origin, positions, vectorsOnHost, kv.host(),
                fixed.host() - vectorsOnHost - kv.host() - chosen.planner().readerBytes()
                        - chosen.passingBytes(), readerBytes,
                onDevice ? 0 : placed.slots(), placed.slotBytes(), onDevice ? 0 : placed.residentBytes(),
                devices(chosen, placed, fixed, kv),
                chosen.schedule().denseBytes(), chosen.residentBytes(placed), first == Planner.Order.HEAD_FIRST,
                chosen.kinds(placed), chosen.stages(placed), ofExperts, onHost(chosen, panelsOnHost),
                passed, chosen.planner().secondsPerSweep(placed, passed, work) + readingExperts);
    }

    private List<MemoryPlan.OfDevice> devices(Division chosen, Placement placed, MemoryUse fixed, MemoryUse kv) {
        var devices = new ArrayList<MemoryPlan.OfDevice>();
        for (int i = 0; i < chosen.memory().devices().size(); i++) {
            var panels = placed.resident();
            long ring = placed.slots() * placed.slotBytes();
            long residentMemory = placed.residentBytes();
            if (!weights.onDevice()) {
                var slabs = placed.slabs().get(i);
                panels.clear();
                slabs.forEach(slab -> slab.panels().forEach(panels::set));
                ring = chosen.rings().devices().get(i);
                residentMemory = chosen.planner().slabBytes(slabs);
            }
            long kvBytes = kv.devices().get(i);
            long vectorBytes = weights.ranks().get(i).bytes();
            long workspaceBytes = fixed.devices().get(i) - vectorBytes - kvBytes - chosen.rings().devices().get(i);
            devices.add(new MemoryPlan.OfDevice(weights.ranks().get(i).processor().device().name(),
                    chosen.memory().devices().get(i), vectorBytes, kvBytes, workspaceBytes, ring, residentMemory,
                    chosen.bytes(panels)));
        }
        return devices;
    }

    private static String mebibytes(long bytes) {
        return Math.ceilDiv(bytes, MEBIBYTE) + "MiB";
    }

    /**
     * The placement of the next call: the one that is there, if it still fits and the new one is not much better. Then
     * reading goes on undisturbed.
     */
    private Placement keptOr(Placement next, MemoryUse fixed) {
        var old = placement;
        boolean keeps = streamer != null && old != null && fits(fixed.plus(division.use(old))) && !isBetter(next, old);
        return keeps ? old : next;
    }

    private boolean fits(MemoryUse use) {
        return use.host() <= memory.host() && IntStream.range(0, use.devices().size())
                .allMatch(i -> use.devices().get(i) <= memory.devices().get(i));
    }

    private boolean isBetter(Placement next, Placement old) {
        boolean ring = old.slots() > 0 && (next.slots() == 0 || next.slots() > old.slots());
        long worth = weights.schedule().denseBytes() / WORTH_A_RESTART;
        return ring || next.residentBytes() - old.residentBytes() > worth
                || division.bytes(next.onDevice()) - division.bytes(old.onDevice()) > worth
                || next.options().readers() > old.options().readers()
                || next.options().rowCacheBytes() > old.options().rowCacheBytes();
    }

    /** Brings rings and resident panels to a placement. */
    private void place(PanelFeed there, Placement next, int expertSlots) {
        int slots = experts == null ? 0 : experts.slots();
        boolean moves = expertSlots < slots || expertSlots > slots + slots / WORTH_A_RESTART;
        if (streamer != null && next.equals(placement) && !moves) {
            return;
        }
        reset();
        if (experts != null) {
            experts.resize(Math.min(slots, expertSlots)); // room first
        }
        try {
            var still = there.choose(next.slabs()); // and their bytes with them
            residents.forgetElsewhere(still);
            residents.choose(next.resident(), next.onDevice());
        } catch (Throwable e) {
            residents.forgetElsewhere(new BitSet());
            throw e;
        }
        if (experts != null) {
            experts.resize(expertSlots);
        }
        if (hostCompute != null) {
            hostCompute.choose(onHost(division, next));
        }
        placement = next;
        streamer = new Streamer(weights.files(), cycle, residents, experts, next.options(), hostMemory(), telemetry);
    }

    private Streamer streamer() {
        if (streamer == null) {
            throw new LaminaException("The model was not prepared for a sweep.");
        }
        return streamer;
    }

    /** Memory of experts beyond what they pass through. */
    private MemoryUse keptExperts() {
        long bytes = experts == null ? 0 : experts.bytes() - division.passingBytes();
        return MemoryUse.of(bytes, memory.devices().size(), 0);
    }

    private MemoryUse panels() {
        return placement == null ? nothing() : division.use(placement);
    }

    /** Whether the KV cache of a conversation has not been released. */
    boolean keeps(Sequence sequence) {
        return kept.contains(sequence);
    }

    /** Counts the KV cache of a conversation until it is released. */
    void keep(Sequence sequence) {
        kept.add(sequence);
    }

    /** Frees the KV cache of a conversation. */
    void release(Sequence sequence) {
        if (kept.remove(sequence)) {
            sequence.close();
        }
    }

    /** What was read since the model was opened. */
    StreamCounters counters() {
        return streamer == null ? pastCounters : pastCounters.plus(streamer.counters());
    }

    /** Bytes in the ring that nothing has used yet. */
    long readAheadBytes() {
        if (streamer == null) {
            return 0;
        }
        var now = streamer.counters();
        return now.readBytes() - now.weightBytes() - now.rowBytes() - now.paddingBytes() - now.discardedBytes()
                - now.mispredictedBytes();
    }

    /** Bytes of weights that stay in memory, of the host or of a device: a sweep reads all others. */
    long residentBytes() {
        return placement == null ? 0 : division.residentBytes(placement);
    }

    /** The most bytes of host memory that were held. */
    long peakBytes() {
        return peak.host();
    }

    /** Ends the readers: the next call begins with new ones. */
    void reset() {
        placement = null;
        if (streamer != null) {
            var ending = streamer;
            streamer = null;
            try {
                ending.close();
            } finally { // what it had read ahead counts as discarded only now
                pastCounters = pastCounters.plus(ending.counters());
            }
        }
    }

    @Override
    public void close() {
        var all = new Closing();
        all.close(this::reset);
        all.close(residents);
        all.close(experts);
        all.close(feed);
        all.close(hostCompute);
        all.close(workspace);
        kept.forEach(all::close);
        kept.clear();
        all.end();
    }
}
