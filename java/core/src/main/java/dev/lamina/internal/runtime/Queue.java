package dev.lamina.internal.runtime;

import dev.lamina.bindings.lamina_h;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Work of one device, done in the order of submission. Used by one thread at a time. */
public final class Queue implements AutoCloseable {
    private static final System.Logger LOG = System.getLogger(Queue.class.getName());

    private final Device owner;
    private final MemorySegment handle;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment ticket = arena.allocate(ValueLayout.JAVA_LONG);

    private long generation; // of steps

    Queue(Device owner, MemorySegment handle) {
        this.owner = owner;
        this.handle = handle;
    }

    /**
     * Submits ops.
     *
     * @param ops of a whole sweep
     * @param first the first of them to run
     * @param count how many
     * @param step what they work on, as {@link Step#clear} demands; of this queue alone
     * @return a ticket to {@link #await}
     */
    public long submit(OpArray ops, int first, int count, Step step) {
        owner.check(lamina_h.lm_submit(handle, ops.from(first), count, step.submitted(this), ticket));
        return ticket.get(ValueLayout.JAVA_LONG, 0);
    }

    /** A number that no step had before on this queue. */
    long nextGeneration() {
        return ++generation;
    }

    /** Copies all of {@code host} into device memory of the same size. */
    public long copyToDevice(MemorySegment device, MemorySegment host) {
        owner.check(lamina_h.lm_copy_to_device(handle, device, host, host.byteSize(), ticket));
        return ticket.get(ValueLayout.JAVA_LONG, 0);
    }

    /** Copies device memory into all of {@code host}. */
    public long copyToHost(MemorySegment host, MemorySegment device) {
        owner.check(lamina_h.lm_copy_to_host(handle, host, device, host.byteSize(), ticket));
        return ticket.get(ValueLayout.JAVA_LONG, 0);
    }

    /**
     * Waits for what was submitted, and frees what the device keeps for the steps of this queue; how that work ended,
     * {@link #await} tells.
     */
    public void trim() {
        if (lamina_h.lm_queue_trim(handle) != lamina_h.LM_OK()) {
            LOG.log(System.Logger.Level.DEBUG, "a queue was trimmed after its work failed: {0}", Status.lastError());
        }
    }

    /**
     * Begins what is submitted from now on after the work of a ticket of another queue, of the same device or of another
     * one of its kind.
     */
    public void after(Queue other, long ticket) {
        owner.check(lamina_h.lm_queue_after(handle, other.handle, ticket));
    }

    /** Returns when the work of a ticket, and all before it, is done. */
    public void await(long ticket) {
        owner.check(lamina_h.lm_wait(handle, ticket));
    }

    /** Waits for what was submitted; how that ended, {@link #await} tells and nobody else. */
    @Override
    public void close() {
        if (lamina_h.lm_queue_destroy(handle) != lamina_h.LM_OK()) {
            LOG.log(System.Logger.Level.DEBUG, "a queue was closed after its work failed: {0}", Status.lastError());
        }
        arena.close();
    }
}
