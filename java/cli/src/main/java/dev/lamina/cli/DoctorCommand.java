package dev.lamina.cli;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import com.sun.management.OperatingSystemMXBean;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.MemoryPlan;
import dev.lamina.ModelOptions;
import dev.lamina.Rates;
import dev.lamina.bindings.NativeLibrary;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.FreeMemory;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.stream.DataFile;
import dev.lamina.internal.stream.DriveProbe;
import dev.lamina.internal.stream.IoMode;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;

/** {@code lamina doctor}. */
@Command(
        name = "doctor",
        description = "Says what this machine offers, and for a model what fits and what speed to expect.",
        footer = {
            "",
            "Examples:",
            "  lamina doctor",
            "  lamina doctor --model models/Llama-3.1-70B-Instruct",
            "  lamina doctor --shards /nvme0/llama,/nvme1/llama"
        })
final class DoctorCommand implements Callable<Integer> {
    private static final long PROBE_MEMORY = 64L << 20;
    private static final long ENOUGH_BYTES_TO_READ = 64L << 20;
    private static final int MOST_BUDGETS_TO_TELL = 5;
    private static final long MEMORY_STEP = 1L << 20;

    /** A model that is only asked what it needs takes nothing of its budget. */
    private static final long ANY_MEMORY = 1L << 50;

    @ParentCommand
    private Main main;

    @Mixin
    private ModelFolder folder;

    @Mixin
    private EngineOptions engine;

    @Option(names = "--json", description = "Print one JSON object.")
    private boolean json;

    /** One thing that was found: for people a line, for scripts fields. */
    private final JsonObject fields = new JsonObject();

    private final List<String> lines = new ArrayList<>();

    @Override
    public Integer call() throws IOException, InterruptedException {
        var options = engine.options();
        var library = NativeLibrary.load();
        try (var device = Device.openCpu(0)) {
            machine(device.info(), library);
            gpus();
            if (folder.given()) {
                model(ModelFiles.open(folder.folders()), device, options);
            } else {
                directReads(Path.of("").toAbsolutePath());
            }
        }
        main.terminal().print(json ? fields + "\n" : String.join("\n", lines) + "\n");
        return main.terminal().interrupts().exitStatus();
    }

    private void line(String name, String value) {
        lines.add(String.format(Locale.ROOT, "%-12s %s", name, value));
    }

    private void machine(Device.Info info, Path library) {
        line("Lamina", Version.lamina());
        line("Java", Runtime.version() + " (" + System.getProperty("java.home") + ")");
        line("system", System.getProperty("os.name") + " " + System.getProperty("os.version") + " "
                + System.getProperty("os.arch"));
        fields.addProperty("version", Version.lamina());
        fields.addProperty("java", Runtime.version().toString());
        fields.addProperty("system", System.getProperty("os.name") + " " + System.getProperty("os.version"));
        fields.addProperty("arch", System.getProperty("os.arch"));
        line("processor", info.name() + ", " + Runtime.getRuntime().availableProcessors() + " cores");
        line("backend", info + "; this processor can run " + String.join(", ", info.simdSupported()));
        fields.addProperty("processor", info.name());
        fields.addProperty("cores", Runtime.getRuntime().availableProcessors());
        fields.addProperty("backend", info.backend());
        fields.addProperty("simd", info.simd());
        var supported = new JsonArray();
        info.simdSupported().forEach(supported::add);
        fields.add("simd_supported", supported);
        line("library", library.toString());
        fields.addProperty("library", library.toString());
        fields.addProperty("cache", String.valueOf(library.getParent()));
        // the JVM counts the limit of a container as the machine's memory
        long total = ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getTotalMemorySize();
        var free = FreeMemory.now();
        line("memory", Units.memory(free.bytes()) + " free of " + Units.memory(total) + ", limited by "
                + free.limitedBy() + "; --memory auto is " + Units.option(free.budget()));
        fields.addProperty("memory_total_bytes", total);
        fields.addProperty("memory_free_bytes", free.bytes());
        fields.addProperty("memory_limited_by", free.limitedBy());
        fields.addProperty("memory_auto_bytes", free.budget());
    }

    private void gpus() {
        var gpus = new JsonArray();
        try {
            int count = Device.count("cuda");
            for (int i = 0; i < count; i++) {
                gpus.add(gpu("cuda:" + i));
            }
        } catch (LaminaException e) {
            line("GPU", "none, --device auto is the processor: " + e.getMessage());
        }
        fields.add("gpus", gpus);
    }

    private JsonObject gpu(String name) {
        var gpu = new JsonObject();
        gpu.addProperty("device", name);
        try (var device = Device.open(name, 0, false)) {
            var info = device.info();
            line("GPU", name + ": " + info.name() + ", " + Units.memory(info.freeBytes()) + " free of "
                    + Units.memory(info.memoryBytes()));
            gpu.addProperty("name", info.name());
            gpu.addProperty("memory_bytes", info.memoryBytes());
            gpu.addProperty("free_bytes", info.freeBytes());
        } catch (LaminaException e) { // one that is too old, say, beside others that are not
            line("GPU", name + ": " + e.getMessage());
            gpu.addProperty("error", e.getMessage());
        }
        return gpu;
    }

    private void directReads(Path directory) {
        String state;
        try {
            var probe = Files.createTempFile(directory, ".lamina-doctor", null);
            try {
                Files.write(probe, new byte[1 << 16]);
                state = directReadsOf(probe);
            } finally {
                Files.delete(probe);
            }
        } catch (IOException e) {
            state = "not known: " + FileErrors.explain("cannot write in " + directory, e).getMessage();
        }
        line("direct I/O", state + " (" + directory + ")");
        fields.addProperty("direct_io", state);
    }

    private static String directReadsOf(Path file) {
        try {
            DataFile.open(file, IoMode.PREAD, 0, null).close();
            return "yes";
        } catch (IOException e) {
            return "no: " + e.getMessage();
        }
    }

    private void model(ModelFiles model, HostMemory host, ModelOptions options)
            throws IOException, InterruptedException {
        var program = model.program();
        boolean checksums = model.checkpoint().manifest() != null;
        lines.add("");
        line("model", model.directory() + ": " + program.architecture() + ", "
                + String.format(Locale.ROOT, "%,d", model.parameters()) + " parameters, "
                + Units.bytes(model.weightBytes()));
        line("checksums", checksums
                ? "yes: each MiB is checked when it is first read"
                : "none: the model is not split, damage on disk would go unseen; 'lamina split' adds them");
        var object = new JsonObject();
        object.addProperty("model", model.directory().toString());
        object.addProperty("family", program.architecture());
        object.addProperty("parameters", model.parameters());
        object.addProperty("weight_bytes", model.weightBytes());
        object.addProperty("sweep_bytes", model.sweepBytes());
        object.addProperty("kv_bytes_per_token", model.kvBytesPerToken());
        object.addProperty("checksums", checksums);
        int positions = PlanView.positions(options, program.contextLimit());
        boolean direct = readings(model, options.io(), host, object);
        var folders = model.checkpoint().folders();
        var anyMemory = options.toBuilder().memory(ANY_MEMORY).plan(null).shards(folders).build();
        try (var opened = LanguageModel.open(model.directory().toString(), anyMemory)) {
            var rates = opened.measureRates();
            line("disk", Units.bytes(rates.diskBytesPerSecond()) + "/s"
                    + (rates.disk() == Rates.Origin.LIMIT ? ", by --io-limit" : "")
                    + (direct ? "" : ", through the page cache: the disk may be slower")
                    + (model.weightBytes() < ENOUGH_BYTES_TO_READ ? ", too little to be sure" : ""));
            line("computing", Units.bytes(rates.computeBytesPerSecond()) + "/s in sweeps of one row");
            object.addProperty("disk_bytes_per_second", Math.round(rates.diskBytesPerSecond()));
            object.addProperty("compute_bytes_per_second", Math.round(rates.computeBytesPerSecond()));
            budgets(opened, options.memory(), positions, rates, object);
        }
        fields.add("model", object);
    }

    /** Tells how each folder is best read. Returns whether all of them are read past the page cache. */
    private boolean readings(ModelFiles model, ModelOptions.Io io, HostMemory host, JsonObject object)
            throws IOException, InterruptedException {
        var probe = new DriveProbe(host, PROBE_MEMORY, Device.cacheFolder().resolve(DriveProbe.FILE_NAME));
        var folders = model.checkpoint().folders();
        boolean allDirect = true;
        var list = new JsonArray();
        for (int i = 0; i < folders.size(); i++) {
            var reading = probe.choose(model.checkpoint().files(i), io, true);
            boolean direct = reading.method().mode().direct();
            allDirect &= direct;
            var which = folders.size() == 1 ? "" : folders.get(i) + " (" + Units.bytes(model.folderBytes(i)) + "): ";
            line("reading", which + reading.method() + " (" + reading.reason() + ")");
            var way = new JsonObject();
            way.addProperty("mode", reading.method().mode().toString());
            way.addProperty("readers", reading.method().readers());
            way.addProperty("depth", reading.method().depth());
            way.addProperty("request_bytes", reading.method().requestBytes());
            way.addProperty("bytes_per_second", Math.round(reading.bytesPerSecond()));
            way.addProperty("cpu_seconds_per_gb", reading.cpuSecondsPerGigabyte());
            way.addProperty("reason", reading.reason());
            var entry = new JsonObject();
            entry.addProperty("folder", folders.get(i).toString());
            entry.addProperty("bytes", model.folderBytes(i));
            entry.addProperty("direct_io", direct);
            entry.add("reading", way);
            list.add(entry);
        }
        object.add("folders", list);
        return allDirect;
    }

    private void budgets(LanguageModel model, long asked, int positions, Rates rates, JsonObject object) {
        var free = FreeMemory.now();
        var needs = model.memoryNeeds(positions);
        long minimum = needs.least();
        long whole = needs.whole();
        long usable = asked > 0 ? asked : free.budget();
        long recommended = Math.min(whole, usable);
        boolean fits = minimum <= usable;
        line("fits", fits
                ? "yes: --memory " + Units.option(minimum) + " is the least for " + positions + " positions, "
                        + Units.option(whole) + " holds all weights"
                : "no: at least --memory " + Units.option(minimum) + " is needed for " + positions + " positions, and "
                        + (asked > 0 ? "--memory " + Units.option(asked) + " is given"
                                : "--memory auto is " + Units.option(usable)));
        object.addProperty("fits", fits);
        object.addProperty("positions", positions);
        object.addProperty("minimum_memory_bytes", minimum);
        object.addProperty("whole_memory_bytes", whole);
        if (!fits) {
            return;
        }
        line("recommended", "--memory " + Units.option(recommended));
        object.addProperty("recommended_memory_bytes", recommended);
        var list = new JsonArray();
        for (long memory : budgetsToTell(minimum, recommended)) {
            var plan = model.plan(memory, positions, rates);
            line(memory == recommended ? "expect" : "", "--memory " + Units.option(memory) + ": "
                    + Units.percent(plan.residentBytes(), plan.weightBytes()) + " of the weights resident, "
                    + (reading(plan) == 0
                            ? "nothing to read"
                            : Units.bytes(reading(plan)) + " a token from disk")
                    + ", " + Units.seconds(plan.secondsPerSweep()) + " a token, limited by the "
                    + PlanView.limit(plan));
            var entry = new JsonObject();
            entry.add("memory_bytes", new JsonPrimitive(memory));
            entry.addProperty("resident_bytes", plan.residentBytes());
            entry.addProperty("disk_bytes_per_token", reading(plan));
            entry.addProperty("seconds_per_token", plan.secondsPerSweep());
            list.add(entry);
        }
        object.add("budgets", list);
    }

    /** The least, the recommended, and a few between. */
    private static TreeSet<Long> budgetsToTell(long minimum, long recommended) {
        var budgets = new TreeSet<Long>();
        long memory = recommended;
        while (memory > minimum + minimum / 2 && budgets.size() < MOST_BUDGETS_TO_TELL) {
            budgets.add(memory);
            memory = memory / 2 / MEMORY_STEP * MEMORY_STEP;
        }
        budgets.add(minimum);
        return budgets;
    }

    /** Bytes that a token takes from disk, those of experts as expected. */
    private static long reading(MemoryPlan plan) {
        return plan.bytesPerSweep() + plan.experts().bytesPerSweep();
    }
}
