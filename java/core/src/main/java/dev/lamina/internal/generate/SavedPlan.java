package dev.lamina.internal.generate;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.DurableFiles;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.stream.Placement;
import dev.lamina.internal.stream.Placement.Slab;
import dev.lamina.internal.stream.StreamOptions;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.NoSuchElementException;
import org.jspecify.annotations.Nullable;

/**
 * A placement in a file, as JSON, so that a later run has the same panels in the same places.
 *
 * @param device names of the devices, as {@link Processor#open} takes them
 * @param memory the budgets
 * @param panelBytes most bytes of a panel
 * @param weightBytes bytes of all panels: those of another model differ
 * @param panels how many there are
 * @param onDevice whether panels are read straight into the memory of a device: what is called the host's is the
 *     device's
 * @param host panels in host memory, those first that stay the longest where a call needs more memory
 * @param onHost those of the panels in host memory that the host's processor computes
 * @param placement the same, with all else
 */
record SavedPlan(String device, MemoryUse memory, long panelBytes, long weightBytes, int panels, boolean onDevice,
        List<Integer> host, List<Integer> onHost, Placement placement) {
    private static final String FORMAT = "lamina plan";
    private static final int VERSION = 1;
    private static final long MOST_BYTES = 64 << 20;
    private static final long MOST_ROW_CACHE = 1 << 30;

    /** Writes it, or leaves the file as it was. */
    void write(Path file) {
        var json = new JsonObject();
        json.addProperty("format", FORMAT);
        json.addProperty("version", VERSION);
        json.addProperty("device", device);
        json.addProperty("memory", memory.host());
        json.add("device_memory", numbers(memory.devices()));
        json.addProperty("panel", panelBytes);
        json.addProperty("weight_bytes", weightBytes);
        json.addProperty("panels", panels);
        json.addProperty("gds", onDevice);
        var options = placement.options();
        json.addProperty("prefetch", options.prefetch());
        json.addProperty("readers", options.readers());
        json.addProperty("row_cache_bytes", options.rowCacheBytes());
        json.add("host_panels", numbers(host));
        json.add("computed_by_host", numbers(onHost));
        var devices = new JsonArray();
        for (var slabs : placement.slabs()) {
            var list = new JsonArray();
            slabs.forEach(slab -> list.add(numbers(slab.panels())));
            devices.add(list);
        }
        json.add("device_panels", devices);
        var bytes = (json + "\n").getBytes(StandardCharsets.UTF_8);
        if (bytes.length > MOST_BYTES) {
            throw new LaminaException("The plan " + file + " would name " + panels + " panels, more than can be read "
                    + "again: raise --panel.");
        }
        try {
            DurableFiles.replace(file, bytes);
        } catch (IOException e) {
            throw FileErrors.explain("cannot write " + file, e);
        }
    }

    private static JsonArray numbers(List<? extends Number> list) {
        var array = new JsonArray();
        list.forEach(array::add);
        return array;
    }

    /**
     * Reads one.
     *
     * @throws LaminaException it cannot be read, or is no plan
     */
    static SavedPlan read(Path file) {
        try {
            if (Files.size(file) > MOST_BYTES) {
                throw damaged(file, "it is too large", null);
            }
            return parse(JsonParser.parseString(Files.readString(file)).getAsJsonObject(), file);
        } catch (IOException e) {
            throw FileErrors.explain("cannot read the plan " + file, e);
        } catch (JsonParseException | IllegalStateException | IllegalArgumentException | ArithmeticException
                | UnsupportedOperationException | NoSuchElementException | StackOverflowError e) {
            throw damaged(file, String.valueOf(e.getMessage()), e);
        }
    }

    private static LaminaException damaged(Path file, String why, @Nullable Throwable cause) {
        return new LaminaException(file + " is no plan that this version reads (" + why.lines().findFirst().orElse("")
                + "): save it again with lamina inspect --plan --save-plan.", cause);
    }

    private static SavedPlan parse(JsonObject json, Path file) {
        if (!field(json, "format").getAsString().equals(FORMAT) || integer(json, "version") != VERSION) {
            throw damaged(file, "its format is another", null);
        }
        int panels = integer(json, "panels");
        if (panels < 1 || panels > MOST_BYTES / 2) { // a file has no room to name more
            throw new IllegalArgumentException(panels + " panels");
        }
        var seen = new BitSet();
        var host = panels(field(json, "host_panels"), panels, seen);
        var resident = (BitSet) seen.clone();
        var others = new BitSet();
        others.set(0, panels);
        others.andNot(resident);
        var onHost = json.has("computed_by_host") ? panels(field(json, "computed_by_host"), panels, others)
                : List.<Integer>of(); // plans before there was such a thing
        var devices = new ArrayList<List<Slab>>();
        for (var slabs : field(json, "device_panels").getAsJsonArray()) {
            var list = new ArrayList<Slab>();
            slabs.getAsJsonArray().forEach(slab -> list.add(new Slab(panels(slab, panels, seen))));
            if (list.stream().anyMatch(slab -> slab.panels().isEmpty())) {
                throw new IllegalArgumentException("panels that share memory, but none of them");
            }
            devices.add(list);
        }
        var deviceMemory = new ArrayList<Long>();
        field(json, "device_memory").getAsJsonArray().forEach(bytes -> deviceMemory.add(positive(bytes.getAsLong())));
        boolean onDevice = field(json, "gds").getAsBoolean();
        if (devices.size() != (onDevice ? 0 : deviceMemory.size())) {
            throw new IllegalArgumentException("device_memory and device_panels are of different numbers of devices");
        }
        var options = StreamOptions.defaults().withPrefetch(integer(json, "prefetch"))
                .withReaders(integer(json, "readers")).withRowCacheBytes(field(json, "row_cache_bytes").getAsLong());
        if (options.prefetch() < 0 || options.rowCacheBytes() > MOST_ROW_CACHE) {
            throw new IllegalArgumentException("prefetch " + options.prefetch() + ", row_cache_bytes "
                    + options.rowCacheBytes());
        }
        return new SavedPlan(field(json, "device").getAsString(),
                new MemoryUse(positive(field(json, "memory").getAsLong()), deviceMemory),
                positive(field(json, "panel").getAsLong()), positive(field(json, "weight_bytes").getAsLong()), panels,
                onDevice, host, onHost, new Placement(options, options.prefetch() + 1, 0, resident, 0, 0, devices));
    }

    private static JsonElement field(JsonObject json, String name) {
        var value = json.get(name);
        if (value == null) {
            throw new IllegalArgumentException("it has no " + name);
        }
        return value;
    }

    private static int integer(JsonObject json, String name) {
        return Math.toIntExact(field(json, name).getAsLong());
    }

    private static long positive(long bytes) {
        if (bytes <= 0) {
            throw new IllegalArgumentException("it has a size of " + bytes);
        }
        return bytes;
    }

    private static List<Integer> panels(JsonElement list, int count, BitSet seen) {
        var panels = new ArrayList<Integer>();
        for (var element : list.getAsJsonArray()) {
            int panel = Math.toIntExact(element.getAsLong());
            if (panel < 0 || panel >= count || seen.get(panel)) {
                throw new IllegalArgumentException("panel " + panel + " of " + count + ", or twice");
            }
            seen.set(panel);
            panels.add(panel);
        }
        return List.copyOf(panels);
    }

    /**
     * Makes sure that it is of this model, on these devices.
     *
     * @param hostComputes whether the host's processor may compute panels
     * @param file its name, for messages
     */
    void check(Weights weights, boolean hostComputes, Path file) {
        var schedule = weights.schedule();
        if (!onHost.isEmpty() && !hostComputes) {
            throw new LaminaException("The plan " + file + " has panels that the host's processor computes: open the "
                    + "model with --mode fast --host-compute, or save another one.");
        }
        boolean sameModel = schedule.panels().size() == panels && schedule.weightBytes() == weightBytes;
        if (onDevice != weights.onDevice()) {
            throw new LaminaException("The plan " + file + " is for reading " + (onDevice ? "with" : "without")
                    + " --io gds: say so here too, or save another one.");
        }
        boolean sameDevices = memory.devices().size() == (weights.ranks().getFirst().unified() ? 0
                : weights.ranks().size());
        var ranks = schedule.ranks(weights.rankOfStage());
        for (int device = 0; sameModel && sameDevices && device < placement.slabs().size(); device++) {
            for (var slab : placement.slabs().get(device)) {
                for (int panel : slab.panels()) {
                    sameDevices &= ranks[panel] == device;
                }
            }
        }
        sameModel &= onHost.stream().allMatch(HostPanels.of(schedule).possible()::get);
        if (!sameModel || !sameDevices) {
            throw new LaminaException("The plan " + file + " is of " + (sameModel ? "other devices" : "another model")
                    + " than this one: save one of this with lamina inspect --plan --save-plan.");
        }
    }
}
