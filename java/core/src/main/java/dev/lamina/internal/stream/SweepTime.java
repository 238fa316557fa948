package dev.lamina.internal.stream;

import dev.lamina.Rates;
import java.util.BitSet;
import org.jspecify.annotations.Nullable;

/** Plays sweeps through on paper. */
final class SweepTime {
    /** Sweeps until the ring is as full at the end of one as it was at its beginning, nearly. */
    private static final int WARM_UP = 4;

    private static final int MEASURED = 8;

    /** Whoever gives work to the bus waits for the copy that is so many before the next panel's. */
    private static final int COPIES = 3;

    private final Rates rates;
    private final @Nullable HostWork work;
    private final double[] slots; // from when on each slot can be read into
    private final double[] places = new double[Planner.DEVICE_PLACES]; // and each place on the device copied into
    private int slot;
    private int place;
    private double read; // when the disk is done with what it has begun
    private double copied; // and the bus
    private double computed; // and the device
    private double host; // and the host's processor, which alone gives work to bus and device
    private double input; // when the host has what the panels of the moment read
    private int lastInput = -1;
    private final double[] copies = new double[COPIES]; // when each of the last copies is done
    private int copy;

    private SweepTime(int slots, Rates rates, @Nullable HostWork work) {
        this.slots = new double[Math.max(1, slots)];
        this.rates = rates;
        this.work = work;
    }

    /**
     * How long a sweep takes, when one follows the other without a pause. The disk reads one panel after the other into
     * the slots of the ring, as a {@link Streamer} does, and waits when none is free; the bus, if there is one, copies
     * one after the other into the places on the device; the device computes one after the other, and waits for those
     * that are not there. Nothing else takes time.
     *
     * @param bytes weights of each panel, in schedule order
     * @param resident the panels that are not read
     * @param onDevice others that are neither read nor copied
     * @param slots of the ring, at least one if a panel is read
     * @param work resident panels that the host computes; null: none
     * @return seconds
     */
    static double seconds(long[] bytes, BitSet resident, BitSet onDevice, int slots, Rates rates,
            @Nullable HostWork work) {
        var time = new SweepTime(slots, rates, work);
        double begin = 0;
        for (int sweep = 0; sweep < WARM_UP + MEASURED; sweep++) {
            if (sweep == WARM_UP) {
                begin = time.computed;
            }
            for (int i = 0; i < bytes.length; i++) {
                if (work != null && time.onHost(bytes[i], i, work)) {
                    continue;
                }
                time.compute(bytes[i], resident.get(i), onDevice.get(i));
            }
        }
        return (time.computed - begin) / MEASURED;
    }

    /** Whether the host computes a panel; brings what it reads to the host, for it and those after it. */
    private boolean onHost(long bytes, int panel, HostWork work) {
        host = Math.max(host, copies[copy]);
        if (work.inputs()[panel] != lastInput) {
            input = Math.max(computed, host) + work.tripSeconds() / 2;
            lastInput = work.inputs()[panel];
        }
        if (!work.panels().get(panel)) {
            return false;
        }
        host = Math.max(host, input) + bytes / work.bytesPerSecond();
        computed = Math.max(computed, host + work.tripSeconds() / 2);
        return true;
    }

    private void compute(long bytes, boolean resident, boolean onDevice) {
        double computing = bytes / rates.computeBytesPerSecond();
        if (onDevice) {
            computed = Math.max(computed, host) + computing;
            return;
        }
        double here = 0;
        if (!resident) {
            read = Math.max(read, slots[slot]) + bytes / rates.diskBytesPerSecond();
            here = read;
        }
        boolean bus = rates.busBytesPerSecond() > 0;
        if (bus) {
            double begin = Math.max(Math.max(copied, host), Math.max(here, places[place]));
            copied = begin + bytes / rates.busBytesPerSecond();
            copies[copy] = copied;
            copy = (copy + 1) % copies.length;
            here = copied;
        }
        computed = Math.max(computed, here) + computing;
        if (bus) {
            places[place] = computed;
            place = (place + 1) % places.length;
        }
        if (!resident) {
            slots[slot] = bus ? copied : computed;
            slot = (slot + 1) % slots.length;
        }
    }
}
