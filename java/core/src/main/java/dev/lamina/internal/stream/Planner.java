package dev.lamina.internal.stream;

import dev.lamina.Rates;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collections;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Decides what of a budget goes where, for one cycle of panels: the staging ring first, and what is left holds panels
 * for good. Devices with memory of their own are filled first, because a panel there needs neither disk nor bus. It
 * predicts what that comes to.
 */
public final class Planner {
    /** Which panels get memory before others. */
    public enum Order {
        /** Small panels, then the head in one piece, then the rest. */
        HEAD_FIRST,
        /** Small panels, then all others. */
        EVEN
    }

    /** Kinds of panels. */
    public enum Kind {
        /** Those that cost a request of their own and save little: they go to memory first. */
        SMALL,
        /** Those that compute logits. */
        HEAD,
        /** All others. */
        LAYER
    }

    /** Panels that a device with memory of its own has room for beside resident ones: a ring. */
    public static final int DEVICE_PLACES = 3; // one that is computed with, one that is there, one that is copied

    /** What a device reads at once, and more: panels on it begin at multiples of this. */
    public static final int DEVICE_ALIGNMENT = 256;

    private static final long SLAB_BYTES = 64L << 20; // panels that come and go together, as far as a budget moves
    private static final long LARGE_ALLOCATION = 1L << 20; // drivers give those in pages of 2 MiB
    private static final long LARGE_PAGE = 2L << 20;
    private static final long SMALL_PAGE = 4096;

    private static final long READ_AHEAD_BYTES = 24L << 20; // keeps any disk busy; a larger ring leaves the caches
    private static final int MIN_READ_AHEAD = 2; // panels; one arrives while the one before waits for its turn

    /** A panel below this costs about as much time for its request as for its bytes; but see {@link #SMALL_SHARE}. */
    private static final long SMALL_BYTES = 1L << 20;

    /** Where all panels were cut to little, those are small that are below this share of the largest. */
    private static final int SMALL_SHARE = 4;

    /** The head goes to memory in one piece unless that makes a sweep longer by more than this. */
    private static final double WORTH_AN_EVEN_SPREAD = 1.005;

    private final long[] bytes; // of weights, by panel
    private final long[] footprints; // memory, by panel
    private final int[] devices; // that compute each panel
    private final long slotBytes;
    private final long scratch; // memory of a reader
    private final boolean onDevice; // it plans the memory of a device that panels are read straight into
    private final StreamOptions asked;
    private final Map<Order, int[]> orders = new EnumMap<>(Order.class);
    private final Kind[] kinds;

    /**
     * The memory that there is.
     *
     * @param host bytes of the budget for host memory
     * @param taken how many of these everything else needs: KV cache, activations and the like
     * @param devices bytes for resident panels of each device with memory of its own; empty where devices read host
     *     memory
     */
    public record Room(long host, long taken, List<Long> devices) {
        /** Copies the list. */
        public Room {
            devices = List.copyOf(devices);
        }

        /** Of devices that read host memory. */
        public static Room ofHost(long host, long taken) {
            return new Room(host, taken, List.of());
        }
    }

    /**
     * Makes a planner.
     *
     * @param files the files that the cycle names
     * @param cycle the panels in schedule order
     * @param head the panels that compute logits
     * @param devices the number of the device that computes each panel
     * @param asked what was asked for; an automatic prefetch is chosen here
     * @param onDevice whether it plans the memory of a device that panels are read straight into, with what is called the
     *     host's here: what readers need beside the ring is in none of it
     */
    public Planner(List<DataFile> files, List<Extent> cycle, BitSet head, int[] devices, StreamOptions asked,
            boolean onDevice) {
        this(cycle.stream().mapToLong(Extent::bytes).toArray(), footprints(files, cycle, onDevice), head, devices,
                footprint(Streamer.slotFootprint(files, cycle), onDevice), Streamer.scratchFootprint(files), asked,
                onDevice);
    }

    /** A planner over the weights of each panel, the memory it takes, and that of a slot and of a reader's scratch. */
    Planner(long[] bytes, long[] footprints, BitSet head, int[] devices, long slotBytes, long scratch,
            StreamOptions asked, boolean onDevice) {
        this.bytes = bytes.clone();
        this.footprints = footprints.clone();
        this.devices = devices.clone();
        this.slotBytes = slotBytes;
        this.scratch = scratch;
        this.onDevice = onDevice;
        this.asked = asked;
        this.kinds = kinds(bytes, head);
        for (Order order : Order.values()) {
            orders.put(order, order(order));
        }
    }

    private static long[] footprints(List<DataFile> files, List<Extent> cycle, boolean onDevice) {
        return cycle.stream().mapToLong(extent -> {
            int alignment = files.get(extent.file()).alignment();
            return footprint(HostBlock.footprint(extent.windowEnd(alignment) - extent.windowStart(alignment),
                    alignment), onDevice);
        }).toArray();
    }

    private static long footprint(long bytes, boolean onDevice) {
        return onDevice ? slabFootprint(bytes) : bytes;
    }

    private static Kind[] kinds(long[] bytes, BitSet head) {
        long small = Math.min(SMALL_BYTES, Arrays.stream(bytes).max().orElseThrow() / SMALL_SHARE);
        var kinds = new Kind[bytes.length];
        for (int i = 0; i < kinds.length; i++) {
            kinds[i] = bytes[i] < small ? Kind.SMALL : head.get(i) ? Kind.HEAD : Kind.LAYER;
        }
        return kinds;
    }

    /** The kind of a panel. */
    public Kind kind(int panel) {
        return kinds[panel];
    }

    /**
     * The least budget with which {@link #plan} succeeds.
     *
     * @param fixedBytes what everything else needs: vectors, KV cache, activations
     * @return bytes
     */
    public long minimum(long fixedBytes) {
        int slots = asked.prefetch() == StreamOptions.AUTO_PREFETCH ? 2 : asked.prefetch() + 1;
        long ring = Math.multiplyExact(slots, slotBytes); // of the least length, or all panels when they are less
        return Math.addExact(fixedBytes, Math.addExact(onDevice ? 0 : scratch, Math.min(ring, totalFootprint())));
    }

    /**
     * The budget for host memory from which on {@link #plan} holds all panels for good, in devices or in host memory.
     *
     * @param fixedBytes what everything else needs: vectors, KV cache, activations
     * @param rooms of devices, see {@link Room#devices}
     * @return bytes
     */
    public long whole(long fixedBytes, List<Long> rooms) {
        var none = slabs(Order.EVEN, rooms);
        var onDevice = new Placement(asked, 0, 0, new BitSet(), 0, 0, none).onDevice();
        long ring = onDevice.isEmpty() ? 0 : Math.multiplyExact(prefetch() + 1L, slotBytes);
        return Math.addExact(fixedBytes, Math.addExact(totalFootprint() - footprint(onDevice),
                Math.addExact(ring, overhead(asked))));
    }

    private long totalFootprint() {
        return Arrays.stream(footprints).reduce(0, Math::addExact);
    }

    private long footprint(BitSet panels) {
        return panels.stream().mapToLong(i -> footprints[i]).sum();
    }

    /**
     * Plans the memory of the panels.
     *
     * @param room of which the part for panels in host memory is at least {@link #minimum}
     * @param order which panels come first
     * @return a placement whose hostBytes fit
     */
    public Placement plan(Room room, Order order) {
        StreamOptions options = asked.withPrefetch(prefetch());
        var slabs = slabs(order, room.devices);
        var onDevice = new Placement(options, 0, 0, new BitSet(), 0, 0, slabs).onDevice();
        long total = totalFootprint();
        long spare = room.host - room.taken;
        while (true) {
            long overhead = overhead(options);
            if (onDevice.isEmpty() && total <= spare - overhead) {
                var all = new BitSet(footprints.length);
                all.set(0, footprints.length);
                return new Placement(options, 0, slotBytes, all, total, total + overhead, slabs);
            }
            int slots = options.prefetch() + 1;
            long ring = Math.multiplyExact(slots, slotBytes); // what is on a device came through it too
            if (ring <= spare - overhead) {
                BitSet resident = choose(order, onDevice, spare - overhead - ring);
                long residentBytes = footprint(resident);
                return new Placement(options, slots, slotBytes, resident, residentBytes,
                        ring + overhead + residentBytes, slabs);
            }
            boolean shorter = asked.prefetch() == StreamOptions.AUTO_PREFETCH && options.prefetch() > 1;
            if (shorter && ring > overhead) {
                options = options.withPrefetch(options.prefetch() - 1);
            } else if (options.readers() > 1) {
                options = options.withReaders(options.readers() - 1);
            } else if (options.rowCacheBytes() > 0) {
                options = options.withRowCacheBytes(0);
            } else if (shorter) {
                options = options.withPrefetch(options.prefetch() - 1);
            } else if (!onDevice.isEmpty()) { // a model so small that it takes less than the ring
                return plan(new Room(room.host, room.taken, Collections.nCopies(room.devices.size(), 0L)), order);
            } else {
                throw new IllegalArgumentException(room.host + " bytes, of which " + room.taken
                        + " are taken, are less than " + minimum(room.taken));
            }
        }
    }

    /**
     * A placement that was planned earlier, for what room there is now: where that is less, the panels that came last
     * go, and where it is too little for its ring, all of it is planned anew.
     *
     * @param recorded of these panels
     * @param host its panels in host memory, in their order
     * @param order for a plan of its own
     */
    public Placement again(Placement recorded, List<Integer> host, Room room, Order order) {
        var options = asked.withPrefetch(recorded.options().prefetch()).withReaders(recorded.options().readers())
                .withRowCacheBytes(recorded.options().rowCacheBytes());
        long spare = room.host - room.taken - overhead(options);
        boolean all = host.size() == footprints.length;
        int slots = all && totalFootprint() <= spare ? 0 : recorded.slots();
        spare -= Math.multiplyExact(slots, slotBytes);
        if (spare < 0) {
            return plan(room, order);
        }
        var resident = new BitSet();
        long residentBytes = 0;
        for (int i : host) {
            if (residentBytes + footprints[i] > spare) {
                break;
            }
            resident.set(i);
            residentBytes += footprints[i];
        }
        var slabs = new ArrayList<List<Placement.Slab>>();
        for (int device = 0; device < room.devices.size(); device++) {
            var fit = new ArrayList<>(recorded.slabs().get(device));
            while (slabBytes(fit) > room.devices.get(device)) {
                fit.removeLast();
            }
            slabs.add(fit);
        }
        return new Placement(options, slots, slotBytes, resident, residentBytes,
                slots * slotBytes + overhead(options) + residentBytes, slabs);
    }

    /** Some panels in the order in which they get memory. */
    public List<Integer> inOrder(BitSet panels, Order order) {
        return Arrays.stream(orders.get(order)).filter(panels::get).boxed().toList();
    }

    /** The prefetch to try first. */
    private int prefetch() {
        if (asked.prefetch() != StreamOptions.AUTO_PREFETCH) {
            return asked.prefetch();
        }
        long wanted = Math.max(MIN_READ_AHEAD, Math.ceilDiv(READ_AHEAD_BYTES, slotBytes));
        return Math.clamp(wanted, 1, Math.max(1, footprints.length - 1));
    }

    /** Host memory that readers need beside the ring, where that is on a device. */
    public long readerBytes() {
        return onDevice ? readerBytes(asked) : 0;
    }

    private long overhead(StreamOptions options) {
        return onDevice ? 0 : readerBytes(options);
    }

    private long readerBytes(StreamOptions options) {
        return Math.addExact(Math.multiplyExact(options.readers(), scratch),
                HostBlock.footprint(options.rowCacheBytes(), 1));
    }

    // ---- which panels

    /**
     * Chooses the order for a budget. While a head that is all in memory is computed, the disk can read no more than
     * the ring holds, and then it stands still. So the head comes first only where the prediction says that this costs
     * next to nothing: where the disk is slow against the processor, or the head is little of the whole.
     */
    public Order order(Room room, Rates rates) {
        if (room.host < minimum(room.taken)) {
            return Order.EVEN;
        }
        double headFirst = secondsPerSweep(plan(room, Order.HEAD_FIRST), rates);
        double even = secondsPerSweep(plan(room, Order.EVEN), rates);
        return headFirst <= even * WORTH_AN_EVEN_SPREAD ? Order.HEAD_FIRST : Order.EVEN;
    }

    /** All panels, each class spread over the schedule. */
    private int[] order(Order order) {
        var small = new ArrayList<Integer>();
        var head = new ArrayList<Integer>();
        var rest = new ArrayList<Integer>();
        for (int i = 0; i < kinds.length; i++) {
            switch (kinds[i]) {
                case SMALL -> small.add(i);
                case HEAD -> (order == Order.HEAD_FIRST ? head : rest).add(i);
                case LAYER -> rest.add(i);
            }
        }
        var all = new ArrayList<Integer>();
        for (var panels : List.of(small, head, rest)) {
            spread(panels, all);
        }
        return all.stream().mapToInt(i -> i).toArray();
    }

    /**
     * Appends panels so that the first of them, however many, lie evenly over the schedule: then reading and computing
     * overlap evenly. It is the bit-reversed order of their numbers (van der Corput): more bytes choose mostly the same
     * panels and some between them, so that a change of the budget does not move what is in memory.
     */
    private static void spread(List<Integer> panels, List<Integer> out) {
        int bits = Integer.SIZE - Integer.numberOfLeadingZeros(Math.max(1, panels.size() - 1));
        for (long counter = 0; counter < 1L << bits; counter++) {
            int i = Integer.reverse((int) counter) >>> Integer.SIZE - bits;
            if (i < panels.size()) {
                out.add(panels.get(i));
            }
        }
    }

    /** What fits each device of the panels that it computes. */
    private List<List<Placement.Slab>> slabs(Order order, List<Long> rooms) {
        var all = new ArrayList<List<Placement.Slab>>();
        for (int device = 0; device < rooms.size(); device++) {
            long left = rooms.get(device); // beside slabs that are complete
            var slabs = new ArrayList<Placement.Slab>();
            var slab = new ArrayList<Integer>();
            long content = 0;
            for (int i : orders.get(order)) {
                if (devices[i] != device) {
                    continue;
                }
                long aligned = onDevice(bytes[i]);
                if (content > 0 && content + aligned > SLAB_BYTES && slabFootprint(content) + slabFootprint(aligned)
                        <= left) {
                    slabs.add(new Placement.Slab(slab));
                    left -= slabFootprint(content);
                    slab.clear();
                    content = 0;
                }
                if ((content == 0 || content + aligned <= SLAB_BYTES) && slabFootprint(content + aligned) <= left) {
                    slab.add(i);
                    content += aligned;
                }
            }
            if (content > 0) {
                slabs.add(new Placement.Slab(slab));
            }
            all.add(slabs);
        }
        return all;
    }

    /** Bytes from the start of a panel in a slab to the start of the next. */
    public static long onDevice(long panelBytes) {
        return HostBlock.roundUp(panelBytes, DEVICE_ALIGNMENT);
    }

    /** Device memory that an allocation of so many bytes takes at most. */
    public static long slabFootprint(long content) {
        return content >= LARGE_ALLOCATION ? HostBlock.roundUp(content, LARGE_PAGE)
                : HostBlock.roundUp(content, SMALL_PAGE) + SMALL_PAGE; // moved, where it is not at a whole page
    }

    /** Device memory of the slabs of a device. */
    public long slabBytes(List<Placement.Slab> slabs) {
        return slabs.stream()
                .mapToLong(slab -> slabFootprint(slab.panels().stream().mapToLong(i -> onDevice(bytes[i])).sum()))
                .sum();
    }

    private BitSet choose(Order order, BitSet onDevice, long room) {
        var chosen = new BitSet(footprints.length);
        long left = room;
        for (int i : orders.get(order)) {
            if (footprints[i] <= left && !onDevice.get(i)) {
                chosen.set(i);
                left -= footprints[i];
            }
        }
        return chosen;
    }

    // ---- what it comes to

    /**
     * Predicts how long a sweep of one row takes, when one follows the other.
     *
     * @param placement made by this planner
     */
    public double secondsPerSweep(Placement placement, Rates rates) {
        return secondsPerSweep(placement, rates, null);
    }

    /**
     * The same, where the host computes some panels.
     *
     * @param work null: none
     */
    public double secondsPerSweep(Placement placement, Rates rates, @Nullable HostWork work) {
        return SweepTime.seconds(bytes, placement.resident(), placement.onDevice(), placement.slots(), rates, work);
    }
}
