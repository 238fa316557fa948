package dev.lamina;

import java.util.List;

/**
 * What of a memory budget goes where, and how fast one sequence is then continued. The numbers of bytes are those of a
 * call with one sequence and a KV cache of so many positions; the seconds are a prediction.
 *
 * @param memoryBytes the budget
 * @param memoryOrigin where that comes from, for people
 * @param positions of the KV cache
 * @param vectorBytes norms and biases
 * @param kvBytes the KV cache, and those of open conversations
 * @param workspaceBytes activations and logits
 * @param readerBytes what the readers work with, and embedding rows that were used last
 * @param ringSlots slots of the staging ring; 0 if nothing streams
 * @param ringSlotBytes memory of one slot
 * @param residentMemoryBytes memory of the resident panels: their bytes, rounded up to what direct reads need
 * @param weightBytes bytes of weights that a sweep needs
 * @param residentBytes how many of those stay in memory
 * @param headFirst whether the head goes to memory before the layers
 * @param kinds the panels by kind: {@code "small"}, {@code "head"} and {@code "layer"}, as far as there are some
 * @param stages the panels by stage, in order; a panel that two stages share is told with the first
 * @param rates the rates that the prediction is for
 * @param secondsPerSweep predicted time of a sweep of one row, at the beginning of a context
 */
public record MemoryPlan(
        long memoryBytes,
        String memoryOrigin,
        int positions,
        long vectorBytes,
        long kvBytes,
        long workspaceBytes,
        long readerBytes,
        int ringSlots,
        long ringSlotBytes,
        long residentMemoryBytes,
        long weightBytes,
        long residentBytes,
        boolean headFirst,
        List<Share> kinds,
        List<Share> stages,
        Rates rates,
        double secondsPerSweep) {
    /**
     * How much of some panels is resident.
     *
     * @param name what they are
     * @param panels how many there are
     * @param residentPanels how many of those are resident
     * @param bytes their weights
     * @param residentBytes the weights of those that are resident
     */
    public record Share(String name, int panels, int residentPanels, long bytes, long residentBytes) {}

    /** What a sweep takes the longer for. */
    public enum Limit {
        DISK,
        COMPUTE
    }

    /** Copies the lists. */
    public MemoryPlan {
        kinds = List.copyOf(kinds);
        stages = List.copyOf(stages);
    }

    /** Memory of the staging ring. */
    public long ringBytes() {
        return ringSlots * ringSlotBytes;
    }

    /** What is left of the budget. */
    public long unusedBytes() {
        return memoryBytes - vectorBytes - kvBytes - workspaceBytes - readerBytes - ringBytes() - residentMemoryBytes;
    }

    /** Bytes of weights that each sweep after the first reads from disk, exactly. */
    public long bytesPerSweep() {
        return weightBytes - residentBytes;
    }

    /** Predicted tokens per second of one sequence. */
    public double tokensPerSecond() {
        return 1 / secondsPerSweep;
    }

    /** What a sweep takes the longer for: reading, or computing. */
    public Limit limit() {
        return bytesPerSweep() / rates.diskBytesPerSecond() > weightBytes / rates.computeBytesPerSecond()
                ? Limit.DISK
                : Limit.COMPUTE;
    }
}
