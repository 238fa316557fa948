package dev.lamina;

import java.util.List;

/**
 * What of the memory budgets goes where, and how fast one sequence is then continued. The numbers of bytes are those of
 * a call with one sequence and a KV cache of so many positions; the seconds are a prediction. Those without another
 * word are of host memory.
 *
 * @param memoryBytes the budget
 * @param memoryOrigin where that comes from, for people
 * @param positions of the KV cache
 * @param vectorBytes norms and biases
 * @param kvBytes the KV cache, and those of open conversations, as far as they are in host memory
 * @param workspaceBytes inputs, activations and logits
 * @param readerBytes what the readers work with, and embedding rows that were used last
 * @param ringSlots slots of the staging ring; 0 if nothing streams
 * @param ringSlotBytes memory of one slot
 * @param residentMemoryBytes memory of the resident panels: their bytes, rounded up to what direct reads need
 * @param devices what is in the memory of devices that have their own
 * @param weightBytes bytes of weights that every sweep needs: all but those of experts
 * @param residentBytes how many of those stay in memory, of the host or of a device
 * @param headFirst whether the head goes to memory before the layers
 * @param kinds the panels by kind: {@code "small"}, {@code "head"} and {@code "layer"}, as far as there are some
 * @param stages the panels by stage, in order; a panel that two stages share is told with the first
 * @param experts what is in memory of the experts of mixtures, and what a sweep is expected to read of them
 * @param onHost which of the panels in host memory the host's processor computes, in sweeps of few rows
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
        List<OfDevice> devices,
        long weightBytes,
        long residentBytes,
        boolean headFirst,
        List<Share> kinds,
        List<Share> stages,
        OfExperts experts,
        OnHost onHost,
        Rates rates,
        double secondsPerSweep) {
    /**
     * How much of some panels is resident.
     *
     * @param name what they are
     * @param panels how many there are
     * @param residentPanels how many of those are resident
     * @param bytes their weights
     * @param residentBytes the weights of those that are resident, in host memory or on a device
     * @param deviceBytes the weights of those that are resident on a device
     */
    public record Share(String name, int panels, int residentPanels, long bytes, long residentBytes,
            long deviceBytes) {}

    /**
     * What is in the memory of a device that has its own.
     *
     * @param name of the device
     * @param memoryBytes the budget
     * @param vectorBytes norms and biases
     * @param kvBytes its layers of the KV cache, and of those of open conversations
     * @param workspaceBytes activations, inputs, and what the kernels need to work in
     * @param ringBytes places of panels that are copied and computed with
     * @param residentMemoryBytes memory of the resident panels
     * @param residentBytes weights of these
     */
    public record OfDevice(String name, long memoryBytes, long vectorBytes, long kvBytes, long workspaceBytes,
            long ringBytes, long residentMemoryBytes, long residentBytes) {
        /** What is left of the budget. */
        public long unusedBytes() {
            return memoryBytes - vectorBytes - kvBytes - workspaceBytes - ringBytes - residentMemoryBytes;
        }
    }

    /**
     * Panels in host memory that are not copied to a device in sweeps of few rows, because the host's processor
     * computes them: see {@link ModelOptions#hostCompute}.
     *
     * @param panels how many there are
     * @param bytes their weights
     * @param bytesPerSecond weights that the processor computes a second, as measured when the model was opened
     * @param busBytesPerSecond bytes that are copied to the slowest device a second, likewise
     */
    public record OnHost(int panels, long bytes, double bytesPerSecond, double busBytesPerSecond) {
        /** Where the host's processor computes none, and nothing was measured. */
        public static final OnHost NONE = new OnHost(0, 0, 0, 0);
    }

    /**
     * Experts of mixtures, which are read when rows choose them.
     *
     * @param experts how many there are, in all layers
     * @param chosen how many of them a row chooses
     * @param bytes weights of all of them
     * @param bytesPerRow weights of those that a row chooses, on average
     * @param slots of memory for their panels: a few for those that are read, all others for those that are kept
     * @param slotBytes memory of a slot
     * @param keptBytes weights that can be kept there
     */
    public record OfExperts(int experts, int chosen, long bytes, long bytesPerRow, int slots, long slotBytes,
            long keptBytes) {
        /** Of a model that has none. */
        public static final OfExperts NONE = new OfExperts(0, 0, 0, 0, 0, 0, 0);

        /** Memory of all slots. */
        public long memoryBytes() {
            return slots * slotBytes;
        }

        /** Bytes that a sweep of one row reads from disk, if rows choose all experts equally often. */
        public long bytesPerSweep() {
            return bytes == 0 ? 0 : Math.round(bytesPerRow * (1 - Math.min(1, (double) keptBytes / bytes)));
        }
    }

    /** What a sweep takes the longest for. */
    public enum Limit {
        DISK,
        BUS,
        COMPUTE
    }

    /** Copies the lists. */
    public MemoryPlan {
        devices = List.copyOf(devices);
        kinds = List.copyOf(kinds);
        stages = List.copyOf(stages);
    }

    /** Memory of the staging ring. */
    public long ringBytes() {
        return ringSlots * ringSlotBytes;
    }

    /** What is left of the budget. */
    public long unusedBytes() {
        return memoryBytes - vectorBytes - kvBytes - workspaceBytes - readerBytes - ringBytes() - residentMemoryBytes
                - experts.memoryBytes();
    }

    /** Bytes of weights that each sweep after the first reads from disk, exactly; what it reads of experts is more. */
    public long bytesPerSweep() {
        return weightBytes - residentBytes;
    }

    /**
     * Bytes of weights that each sweep of one row after the first copies to devices; 0 where these read host memory in
     * place, or panels are read straight into theirs.
     */
    public long copiedBytesPerSweep() {
        return devices.isEmpty() || ringSlots == 0 && residentMemoryBytes == 0 ? 0
                : weightBytes - devices.stream().mapToLong(OfDevice::residentBytes).sum() - onHost.bytes;
    }

    /** Predicted tokens per second of one sequence. */
    public double tokensPerSecond() {
        return 1 / secondsPerSweep;
    }

    /** What a sweep takes the longest for: reading, copying, or computing. */
    public Limit limit() {
        double disk = (bytesPerSweep() + experts.bytesPerSweep()) / rates.diskBytesPerSecond();
        double bus = rates.busBytesPerSecond() > 0
                ? (copiedBytesPerSweep() + (devices.isEmpty() ? 0 : experts.bytesPerRow)) / rates.busBytesPerSecond()
                : 0;
        double compute = (weightBytes + experts.bytesPerRow - onHost.bytes) / rates.computeBytesPerSecond()
                + (onHost.panels > 0 ? onHost.bytes / onHost.bytesPerSecond : 0);
        return disk > Math.max(bus, compute) ? Limit.DISK : bus > compute ? Limit.BUS : Limit.COMPUTE;
    }
}
