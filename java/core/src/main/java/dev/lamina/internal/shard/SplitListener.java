package dev.lamina.internal.shard;

/** Hears how far a split or a verification is; called on the thread that does the work. */
@FunctionalInterface
public interface SplitListener {
    /** What is being done. */
    enum Phase {
        /** Reading again what an earlier run wrote, or all of a shard set. */
        VERIFY,
        /** Copying tensors. */
        COPY
    }

    /**
     * Called at the beginning of a phase with 0 bytes done, and then every few MiB.
     *
     * @param phase what is being done
     * @param doneBytes bytes done of this phase
     * @param totalBytes bytes of this phase
     */
    void progress(Phase phase, long doneBytes, long totalBytes);
}
