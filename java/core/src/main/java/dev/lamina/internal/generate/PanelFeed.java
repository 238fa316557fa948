package dev.lamina.internal.generate;

import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.Panel;
import dev.lamina.internal.stream.Placement.Slab;
import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * Brings panels to where a device can read them. A device that reads host memory takes them as they are, and so does
 * one into whose memory they were read. To another one they are copied, and a panel's place in host memory is free
 * again when its copy is there. Used by one thread at a time.
 */
final class PanelFeed implements AutoCloseable {
    /** A panel that is copied or computed with, until then. */
    private record InUse(Panel panel, Queue queue, long ticket) {}

    private final List<Queue> computations = new ArrayList<>(); // by rank, like the rest
    private final List<@Nullable DeviceFeed> devices = new ArrayList<>(); // null: it takes panels where they are
    private final boolean waits; // for each computation, because there is nothing to gain if not
    private final long[] lastTickets;
    private final ArrayDeque<InUse> underWay = new ArrayDeque<>();
    private @Nullable Panel lent; // that a device reads in place, with what is submitted next

    /**
     * Makes what the devices need for the panels of a schedule.
     *
     * @param onDevice whether panels are read into the memory of the device
     */
    PanelFeed(List<Rank> ranks, Schedule schedule, boolean onDevice) {
        waits = ranks.getFirst().unified();
        lastTickets = new long[ranks.size()];
        try {
            for (var rank : ranks) {
                computations.add(rank.processor().queue());
                devices.add(rank.unified() || onDevice ? null : new DeviceFeed(rank.processor(), schedule));
            }
        } catch (Throwable e) {
            var all = new Closing();
            devices.forEach(all::close);
            all.endAfter(e);
            throw e;
        }
    }

    /**
     * Changes which panels stay on devices. Nothing is under way.
     *
     * @param slabs for each device with memory of its own
     * @return the panels that are there still, with their bytes
     */
    BitSet choose(List<List<Slab>> slabs) {
        var kept = new BitSet();
        int next = 0;
        for (var device : devices) {
            if (device != null) {
                kept.or(device.choose(slabs.get(next++)));
            }
        }
        return kept;
    }

    /** Lets go of panels that are copied, until at most so many are held: then the streamer can deliver the next. */
    void holdAtMost(int panels) {
        while (underWay.size() > panels) {
            var first = underWay.peek();
            first.queue.await(first.ticket);
            underWay.remove().panel.release();
        }
    }

    /** Where the device of a rank can read a panel, for what is submitted to it next. The panel is released in time. */
    MemorySegment bring(int rank, Panel panel) {
        var device = devices.get(rank);
        if (device == null) {
            lent = panel;
            return panel.memory();
        }
        boolean held = false;
        try {
            var home = device.home(panel.index());
            if (home != null && !panel.isHere()) {
                device.stays();
                panel.release();
                return home;
            }
            var target = device.copy(panel.index(), panel.memory());
            underWay.add(new InUse(panel, device.copies(), device.lastCopy()));
            held = true;
            device.follow();
            if (home != null) {
                panel.keptElsewhere();
            }
            return target;
        } catch (RuntimeException e) {
            if (!held) {
                panel.release();
            }
            throw e;
        }
    }

    /** Takes note that a panel was computed where it is: what is submitted to its rank next uses no panel. */
    void computedInPlace(int rank, Panel panel) {
        var device = devices.get(rank);
        if (device != null) {
            device.stays();
        }
        panel.release();
    }

    /** Takes note of what was submitted to a rank, and waits for it where the device reads host memory. */
    void submitted(int rank, long ticket) {
        lastTickets[rank] = ticket;
        var device = devices.get(rank);
        if (device != null) {
            device.submitted(ticket);
        } else if (waits) {
            computations.get(rank).await(ticket);
        } else if (lent != null) {
            underWay.add(new InUse(lent, computations.get(rank), ticket));
            lent = null;
        }
    }

    /** Lets go of the panel that a device read in place, or was to read. */
    void done() {
        if (lent != null) {
            var panel = lent;
            lent = null;
            panel.release();
        }
    }

    /** Waits until nothing is under way, and lets go of all panels, whatever fails. */
    void drain() {
        var all = new Closing();
        all.close(this::done);
        while (!underWay.isEmpty()) {
            var used = underWay.remove();
            all.close(() -> used.queue.await(used.ticket));
            all.close(used.panel::release);
        }
        for (int rank = 0; rank < lastTickets.length; rank++) {
            var computation = computations.get(rank);
            long ticket = lastTickets[rank];
            all.close(() -> computation.await(ticket));
        }
        all.end();
    }

    @Override
    public void close() {
        var all = new Closing();
        devices.forEach(all::close);
        all.end();
    }
}
