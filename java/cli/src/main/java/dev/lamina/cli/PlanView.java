package dev.lamina.cli;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import dev.lamina.MemoryPlan;
import dev.lamina.ModelOptions;
import dev.lamina.Rates;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;

/** How a plan is told: what of the memory goes where, what a sweep reads, and how long it takes. */
final class PlanView {
    /** Positions of the KV cache where nobody says. */
    private static final int POSITIONS = 4096;

    private PlanView() {}

    /** The positions to plan for. */
    static int positions(ModelOptions options, int contextLimit) {
        return options.context() > 0 ? options.context() : Math.min(POSITIONS, contextLimit);
    }

    /** The rate of the disk, and where it comes from. */
    static String diskRate(Rates rates) {
        return Units.bytes(rates.diskBytesPerSecond()) + "/s, " + origin(rates.disk());
    }

    /** The rate of copies to the device, and where it comes from. */
    static String busRate(Rates rates) {
        return Units.bytes(rates.busBytesPerSecond()) + "/s, " + origin(rates.bus());
    }

    /** The rate of computing, and where it comes from. */
    static String computeRate(Rates rates) {
        return Units.bytes(rates.computeBytesPerSecond()) + "/s, " + origin(rates.compute());
    }

    private static String origin(Rates.Origin origin) {
        return switch (origin) {
            case MEASURED -> "measured now";
            case REMEMBERED -> "as it was measured earlier";
            case ASSUMED -> "assumed";
            case LIMIT -> "by --io-limit";
        };
    }

    /** A plan for people: names and what there is to say, in order; a line without a name continues the one before. */
    static List<List<String>> lines(MemoryPlan plan) {
        var lines = new ArrayList<List<String>>();
        lines.add(List.of("plan", "for one sequence of " + plan.positions() + " positions"));
        lines.add(List.of("memory", Units.memory(plan.memoryBytes()) + ", " + plan.memoryOrigin()));
        memory(lines, plan.vectorBytes(), "for norms and biases");
        memory(lines, plan.kvBytes(), "for the KV cache");
        memory(lines, plan.workspaceBytes(), plan.devices().isEmpty() ? "for activations and logits"
                : "for inputs and logits");
        memory(lines, plan.readerBytes(), "for the readers");
        memory(lines, plan.ringBytes(), "for the ring: " + plan.ringSlots() + " slots of "
                + Units.memory(plan.ringSlotBytes()));
        memory(lines, plan.residentMemoryBytes(), "for resident panels");
        memory(lines, plan.experts().memoryBytes(), "for experts: " + plan.experts().slots() + " slots of "
                + Units.memory(plan.experts().slotBytes()));
        memory(lines, plan.unusedBytes(), "left over");
        for (var device : plan.devices()) {
            lines.add(List.of(device.name(), Units.memory(device.memoryBytes()) + " of its own memory"));
            memory(lines, device.vectorBytes(), "for norms and biases");
            memory(lines, device.kvBytes(), "for the KV cache");
            memory(lines, device.workspaceBytes(), "for activations");
            memory(lines, device.ringBytes(), "for the ring of panels that are copied and computed with");
            memory(lines, device.residentMemoryBytes(), "for resident panels");
            memory(lines, device.unusedBytes(), "left over");
        }
        lines.add(List.of("resident", Units.bytes(plan.residentBytes()) + ", "
                + Units.percent(plan.residentBytes(), plan.weightBytes()) + " of the weights: "
                + plan.kinds().stream()
                        .map(kind -> kind.residentPanels() + " of " + kind.panels() + " " + kind.name() + " panels")
                        .collect(Collectors.joining(", "))
                + (plan.headFirst() ? "" : "; the head is spread like the layers, so that the disk never waits")));
        stages(lines, plan.stages());
        lines.add(List.of("one sweep", "reads " + Units.bytes(plan.bytesPerSweep()) + " of "
                + Units.bytes(plan.weightBytes())
                + String.format(Locale.ROOT, ": %,d - %,d = %,d bytes", plan.weightBytes(), plan.residentBytes(),
                        plan.bytesPerSweep())));
        if (plan.experts().experts() > 0) {
            var experts = plan.experts();
            lines.add(List.of("", "and of experts about " + Units.bytes(experts.bytesPerSweep()) + ": a row chooses "
                    + experts.chosen() + " of " + experts.experts() + ", " + Units.bytes(experts.bytesPerRow()) + "; "
                    + Units.percent(experts.keptBytes(), experts.bytes()) + " of " + Units.bytes(experts.bytes())
                    + " are kept"));
        }
        if (!plan.devices().isEmpty()) {
            lines.add(List.of("", "copies " + Units.bytes(plan.copiedBytesPerSweep())
                    + String.format(Locale.ROOT, ": %,d bytes", plan.copiedBytesPerSweep())));
        }
        if (plan.onHost().panels() > 0) {
            lines.add(List.of("", "computes " + Units.bytes(plan.onHost().bytes())
                    + String.format(Locale.ROOT, ": %,d bytes, %,d panels", plan.onHost().bytes(),
                            plan.onHost().panels()) + ", where they are, with the processor at "
                    + Units.bytes(plan.onHost().bytesPerSecond()) + "/s; the bus gives "
                    + Units.bytes(plan.onHost().busBytesPerSecond()) + "/s"));
        }
        lines.add(List.of("disk", diskRate(plan.rates())));
        if (plan.rates().busBytesPerSecond() > 0) {
            lines.add(List.of("bus", busRate(plan.rates())));
        }
        lines.add(List.of("computing", computeRate(plan.rates()) + ", in sweeps of one row"));
        lines.add(List.of("expect", Units.seconds(plan.secondsPerSweep()) + " a sweep, "
                + String.format(Locale.ROOT, plan.tokensPerSecond() < 10 ? "%.3f" : "%.1f", plan.tokensPerSecond())
                + " tokens/s; the " + limit(plan)
                + " is the limit"));
        return lines;
    }

    private static void memory(List<List<String>> lines, long bytes, String what) {
        if (bytes > 0) {
            lines.add(List.of("", Units.memory(bytes) + " " + what));
        }
    }

    /** Neighbours of the same size are told together. */
    private static void stages(List<List<String>> lines, List<MemoryPlan.Share> stages) {
        for (int first = 0; first < stages.size();) {
            var stage = stages.get(first);
            int next = first + 1;
            while (next < stages.size() && stages.get(next).bytes() == stage.bytes()) {
                next++;
            }
            var group = stages.subList(first, next).stream().mapToLong(MemoryPlan.Share::residentBytes)
                    .summaryStatistics();
            var least = Units.percent(group.getMin(), stage.bytes());
            var most = Units.percent(group.getMax(), stage.bytes());
            lines.add(List.of("", stage.name()
                    + (next - first == 1 ? "" : " to " + stages.get(next - 1).name() + ", each") + " of "
                    + Units.bytes(stage.bytes()) + ": " + (least.equals(most) ? least : least + " to " + most)));
            first = next;
        }
    }

    /** What a sweep takes the longer for. */
    static String limit(MemoryPlan plan) {
        return switch (plan.limit()) {
            case DISK -> "disk";
            case BUS -> "bus";
            case COMPUTE -> plan.devices().isEmpty() ? "processor"
                    : plan.onHost().panels() > 0 ? "computing" : "GPU";
        };
    }

    /** A plan for scripts. */
    static JsonObject toJson(MemoryPlan plan) {
        var object = new JsonObject();
        object.addProperty("memory_bytes", plan.memoryBytes());
        object.addProperty("memory_origin", plan.memoryOrigin());
        object.addProperty("positions", plan.positions());
        object.addProperty("vector_bytes", plan.vectorBytes());
        object.addProperty("kv_bytes", plan.kvBytes());
        object.addProperty("workspace_bytes", plan.workspaceBytes());
        object.addProperty("reader_bytes", plan.readerBytes());
        object.addProperty("ring_slots", plan.ringSlots());
        object.addProperty("ring_slot_bytes", plan.ringSlotBytes());
        object.addProperty("resident_memory_bytes", plan.residentMemoryBytes());
        object.addProperty("unused_bytes", plan.unusedBytes());
        var devices = new JsonArray();
        for (var device : plan.devices()) {
            var entry = new JsonObject();
            entry.addProperty("name", device.name());
            entry.addProperty("memory_bytes", device.memoryBytes());
            entry.addProperty("vector_bytes", device.vectorBytes());
            entry.addProperty("kv_bytes", device.kvBytes());
            entry.addProperty("workspace_bytes", device.workspaceBytes());
            entry.addProperty("ring_bytes", device.ringBytes());
            entry.addProperty("resident_memory_bytes", device.residentMemoryBytes());
            entry.addProperty("resident_bytes", device.residentBytes());
            entry.addProperty("unused_bytes", device.unusedBytes());
            devices.add(entry);
        }
        object.add("devices", devices);
        object.addProperty("weight_bytes", plan.weightBytes());
        object.addProperty("resident_bytes", plan.residentBytes());
        object.addProperty("disk_bytes_per_sweep", plan.bytesPerSweep());
        object.addProperty("experts", plan.experts().experts());
        object.addProperty("experts_chosen_per_row", plan.experts().chosen());
        object.addProperty("expert_bytes", plan.experts().bytes());
        object.addProperty("expert_bytes_per_row", plan.experts().bytesPerRow());
        object.addProperty("expert_memory_bytes", plan.experts().memoryBytes());
        object.addProperty("expert_kept_bytes", plan.experts().keptBytes());
        object.addProperty("expected_expert_disk_bytes_per_sweep", plan.experts().bytesPerSweep());
        object.addProperty("copied_bytes_per_sweep", plan.copiedBytesPerSweep());
        object.addProperty("host_computed_panels", plan.onHost().panels());
        object.addProperty("host_computed_bytes_per_sweep", plan.onHost().bytes());
        object.addProperty("host_compute_bytes_per_second", Math.round(plan.onHost().bytesPerSecond()));
        object.addProperty("measured_bus_bytes_per_second", Math.round(plan.onHost().busBytesPerSecond()));
        object.addProperty("head_first", plan.headFirst());
        object.add("kinds", shares(plan.kinds()));
        object.add("stages", shares(plan.stages()));
        object.addProperty("disk_bytes_per_second", Math.round(plan.rates().diskBytesPerSecond()));
        object.addProperty("disk_rate_origin", plan.rates().disk().name().toLowerCase(Locale.ROOT));
        object.addProperty("bus_bytes_per_second", Math.round(plan.rates().busBytesPerSecond()));
        object.addProperty("bus_rate_origin", plan.rates().bus().name().toLowerCase(Locale.ROOT));
        object.addProperty("compute_bytes_per_second", Math.round(plan.rates().computeBytesPerSecond()));
        object.addProperty("compute_rate_origin", plan.rates().compute().name().toLowerCase(Locale.ROOT));
        object.addProperty("seconds_per_sweep", plan.secondsPerSweep());
        object.addProperty("tokens_per_second", plan.tokensPerSecond());
        object.addProperty("limit", plan.limit().name().toLowerCase(Locale.ROOT));
        return object;
    }

    private static JsonArray shares(List<MemoryPlan.Share> shares) {
        var list = new JsonArray();
        for (var share : shares) {
            var entry = new JsonObject();
            entry.addProperty("name", share.name());
            entry.addProperty("panels", share.panels());
            entry.addProperty("resident_panels", share.residentPanels());
            entry.addProperty("bytes", share.bytes());
            entry.addProperty("resident_bytes", share.residentBytes());
            entry.addProperty("device_bytes", share.deviceBytes());
            list.add(entry);
        }
        return list;
    }
}
