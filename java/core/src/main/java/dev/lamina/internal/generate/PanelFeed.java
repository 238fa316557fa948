package dev.lamina.internal.generate;

import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.Panel;
import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import org.jspecify.annotations.Nullable;

/**
 * Brings panels to where the device can read them. A device that reads host memory takes them as they are. Another one
 * has a ring of its own: a second queue copies panels into it while the first one computes with those before, and a
 * panel's place in host memory is free again when its copy is there. Used by one thread at a time.
 */
final class PanelFeed implements AutoCloseable {
    /** One that is computed with, one that is there, one that is copied. */
    private static final int PLACES = 3;

    private static final int ALIGNMENT = 256; // what a device reads at once, and more

    /** A panel that is on its way, and the ticket of its copy. */
    private record Copying(Panel panel, long ticket) {}

    private final Device device;
    private final Queue computation;
    private final @Nullable Queue copies; // null: the device reads host memory
    private final @Nullable MemorySegment ring; // (PLACES, place bytes) of device memory
    private final long[] usedBy = new long[PLACES]; // ticket of the computation that last read a place
    private final ArrayDeque<Copying> underWay = new ArrayDeque<>();
    private @Nullable Panel lent; // that the device reads in place
    private int place;
    private long lastTicket;

    /** Makes the ring, where the device needs one, for the panels of a schedule. */
    PanelFeed(Device device, Queue computation, Schedule schedule) {
        this.device = device;
        this.computation = computation;
        if (device.info().unified()) {
            copies = null;
            ring = null;
            return;
        }
        ring = device.allocateOnDevice(bytes(schedule));
        try {
            copies = device.openQueue();
        } catch (RuntimeException e) {
            device.freeOnDevice(ring);
            throw e;
        }
    }

    /** Device memory of the ring of a device with memory of its own. */
    static long bytes(Schedule schedule) {
        return PLACES * placeBytes(schedule.cycle().stream().mapToLong(extent -> extent.bytes()).max().orElse(1));
    }

    private static long placeBytes(long panelBytes) {
        return Math.ceilDiv(panelBytes, ALIGNMENT) * ALIGNMENT;
    }

    /** Lets go of panels that are copied, until at most so many are held: then the streamer can deliver the next. */
    void holdAtMost(int panels) {
        while (underWay.size() > panels) {
            var first = underWay.peek();
            if (copies != null) {
                copies.await(first.ticket);
            }
            underWay.remove().panel.release();
        }
    }

    /** Where the device can read a panel, for what is submitted next. It is released in time. */
    MemorySegment bring(Panel panel) {
        if (copies == null || ring == null) {
            lent = panel;
            return panel.memory();
        }
        long bytes = panel.memory().byteSize();
        place = (place + 1) % PLACES;
        var target = ring.asSlice(place * (ring.byteSize() / PLACES), bytes);
        try {
            copies.after(computation, usedBy[place]);
            long ticket = copies.copyToDevice(target, panel.memory());
            underWay.add(new Copying(panel, ticket));
            computation.after(copies, ticket);
        } catch (RuntimeException e) {
            if (underWay.isEmpty() || underWay.getLast().panel != panel) {
                panel.release();
            }
            throw e;
        }
        return target;
    }

    /** Notes what was submitted, which waits here where the device reads host memory. */
    void submitted(long ticket) {
        if (copies == null) {
            computation.await(ticket);
        } else {
            lastTicket = ticket;
            usedBy[place] = ticket;
        }
    }

    /** Lets go of the panel that the device read in place. */
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
            var copying = underWay.remove();
            all.close(() -> {
                if (copies != null) {
                    copies.await(copying.ticket);
                }
            });
            all.close(copying.panel::release);
        }
        all.close(() -> computation.await(lastTicket));
        all.end();
    }

    @Override
    public void close() {
        if (copies != null && ring != null) {
            var all = new Closing();
            all.close(copies);
            all.close(() -> device.freeOnDevice(ring));
            all.end();
        }
    }
}
