package dev.lamina.internal.stream;

import dev.lamina.LaminaException;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;

/**
 * What of a budget goes where: the staging ring first, and what is left holds panels for good.
 *
 * @param options the options with prefetch chosen, and readers and row cache lowered where memory is short
 * @param slots slots of the ring, 0 when all panels are resident
 * @param slotBytes memory of one slot
 * @param resident indexes of the panels to hold for good
 * @param residentBytes memory of these
 * @param hostBytes all memory that {@link Streamer} and {@link ResidentPanels} allocate under this placement
 */
public record Placement(StreamOptions options, int slots, long slotBytes, BitSet resident, long residentBytes,
        long hostBytes) {
    private static final long READ_AHEAD_BYTES = 24L << 20; // keeps any disk busy; a larger ring leaves the caches
    private static final int MIN_READ_AHEAD = 2; // panels; one arrives while the one before waits for its turn

    /**
     * Plans the memory of a model.
     *
     * @param memory the budget in bytes
     * @param fixedBytes what everything else needs: vectors, KV cache, activations
     * @param files the files that the cycle names
     * @param cycle the panels in schedule order
     * @param options what was asked for; an automatic prefetch is chosen here
     * @return a placement whose hostBytes + fixedBytes are at most memory
     * @throws LaminaException the budget is too small; the message says what would do
     */
    public static Placement plan(long memory, long fixedBytes, List<DataFile> files, List<Extent> cycle,
            StreamOptions options) {
        return plan(memory, fixedBytes, footprints(files, cycle), Streamer.slotFootprint(files, cycle),
                Streamer.scratchFootprint(files), options);
    }

    /**
     * The least budget with which {@link #plan} succeeds for these panels.
     *
     * @param fixedBytes what everything else needs: vectors, KV cache, activations
     * @param files the files that the cycle names
     * @param cycle the panels in schedule order
     * @param options what was asked for
     * @return bytes
     */
    public static long minimum(long fixedBytes, List<DataFile> files, List<Extent> cycle, StreamOptions options) {
        return minimum(fixedBytes, footprints(files, cycle), Streamer.slotFootprint(files, cycle),
                Streamer.scratchFootprint(files), options);
    }

    /** {@link #plan} over the memory that each panel, a slot of the ring, and the scratch of a reader take. */
    static Placement plan(long memory, long fixedBytes, long[] panels, long slotBytes, long scratch,
            StreamOptions asked) {
        StreamOptions options = asked.withPrefetch(prefetch(asked, slotBytes, panels.length));
        long total = Arrays.stream(panels).reduce(0, Math::addExact);
        long spare = memory - fixedBytes;
        while (true) {
            long overhead = overhead(options, scratch);
            if (total <= spare - overhead) {
                var all = new BitSet(panels.length);
                all.set(0, panels.length);
                return new Placement(options, 0, slotBytes, all, total, total + overhead);
            }
            int slots = options.prefetch() + 1;
            long ring = Math.multiplyExact(slots, slotBytes);
            if (ring <= spare - overhead) {
                BitSet resident = spread(panels, spare - overhead - ring);
                long residentBytes = resident.stream().mapToLong(i -> panels[i]).sum();
                return new Placement(options, slots, slotBytes, resident, residentBytes,
                        ring + overhead + residentBytes);
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
            } else {
                throw tooSmall(memory, fixedBytes, minimum(fixedBytes, panels, slotBytes, scratch, asked));
            }
        }
    }

    private static LaminaException tooSmall(long memory, long fixedBytes, long needed) {
        return new LaminaException("--memory " + size(memory) + " is too small for this model: at least "
                + size(needed) + " are needed (" + size(fixedBytes) + " for vectors, KV cache and activations, "
                + size(needed - fixedBytes) + " for the panels in flight)."
                + " Raise --memory, or lower --context or --panel");
    }

    /** Room for a ring of the least length, or for all panels when they are less. */
    static long minimum(long fixedBytes, long[] panels, long slotBytes, long scratch, StreamOptions asked) {
        int slots = asked.prefetch() == StreamOptions.AUTO_PREFETCH ? 2 : asked.prefetch() + 1;
        long ring = Math.multiplyExact(slots, slotBytes);
        long all = Arrays.stream(panels).reduce(0, Math::addExact);
        return Math.addExact(fixedBytes, Math.addExact(scratch, Math.min(ring, all)));
    }

    /** The prefetch to try first. */
    private static int prefetch(StreamOptions asked, long slotBytes, int panels) {
        if (asked.prefetch() != StreamOptions.AUTO_PREFETCH) {
            return asked.prefetch();
        }
        long wanted = Math.max(MIN_READ_AHEAD, Math.ceilDiv(READ_AHEAD_BYTES, slotBytes));
        return Math.clamp(wanted, 1, Math.max(1, panels - 1));
    }

    private static long overhead(StreamOptions options, long scratch) {
        return Math.addExact(Math.multiplyExact(options.readers(), scratch),
                HostBlock.footprint(options.rowCacheBytes(), 1));
    }

    /**
     * Chooses panels for a number of bytes, evenly over the schedule, so that reading and computing overlap evenly. The
     * panels are tried in bit-reversed order of their index (van der Corput), so that more bytes choose mostly the same
     * panels and some between them: a change of the budget does not move what is in memory.
     */
    private static BitSet spread(long[] panels, long bytes) {
        var chosen = new BitSet(panels.length);
        int bits = Integer.SIZE - Integer.numberOfLeadingZeros(Math.max(1, panels.length - 1));
        long left = Math.max(0, bytes);
        for (long counter = 0; counter < 1L << bits; counter++) {
            int i = Integer.reverse((int) counter) >>> Integer.SIZE - bits;
            if (i < panels.length && panels[i] <= left) {
                chosen.set(i);
                left -= panels[i];
            }
        }
        return chosen;
    }

    private static long[] footprints(List<DataFile> files, List<Extent> cycle) {
        return cycle.stream().mapToLong(extent -> {
            int alignment = files.get(extent.file()).alignment();
            return HostBlock.footprint(extent.windowEnd(alignment) - extent.windowStart(alignment), alignment);
        }).toArray();
    }

    /** A size as --memory takes it, rounded up. */
    private static String size(long bytes) {
        return bytes >= 16L << 20 ? Math.ceilDiv(bytes, 1L << 20) + "MiB" : Math.ceilDiv(bytes, 1L << 10) + "KiB";
    }

    /** Copies the set, which its owner might change. */
    public Placement {
        resident = (BitSet) resident.clone();
    }

    /** A copy of the set of resident panels. */
    @Override
    public BitSet resident() {
        return (BitSet) resident.clone();
    }
}
