package dev.lamina.cli;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import com.sun.management.OperatingSystemMXBean;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.bindings.NativeLibrary;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.FreeMemory;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.stream.DataFile;
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
    private static final int POSITIONS = 4096;
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
        long free = FreeMemory.bytes();
        line("memory", Units.memory(free) + " free of " + Units.memory(total) + "; --memory is "
                + Units.memory(free / 2) + " where it is not given");
        fields.addProperty("memory_total_bytes", total);
        fields.addProperty("memory_free_bytes", free);
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
        int positions = options.context() > 0 ? options.context() : Math.min(POSITIONS, program.contextLimit());
        var drives = Drives.measure(model, options.io(), host);
        double rate = drives(drives, options.ioLimit(), object);
        var folders = model.checkpoint().folders();
        var anyMemory = options.toBuilder().memory(ANY_MEMORY).shards(folders).build();
        try (var opened = LanguageModel.open(model.directory().toString(), anyMemory)) {
            budgets(opened, options.memory(), model.sweepBytes(), positions, rate, object);
        }
        fields.add("model", object);
    }

    /** Tells how the drives are read, and how fast all together. Returns bytes per second. */
    private double drives(Drives drives, long limit, JsonObject object) {
        boolean several = drives.all().size() > 1;
        double rate = drives.bytesPerSecond();
        boolean limited = limit > 0 && limit < rate;
        var limitation = limited ? ", limited to " + Units.bytes(limit) + "/s by --io-limit" : "";
        var list = new JsonArray();
        for (var drive : drives.all()) {
            var reading = drive.reading();
            boolean direct = reading.method().mode().direct();
            line("reading", reading.method() + " (" + reading.reason() + ")");
            line("disk", Units.bytes(drive.bytesPerSecond()) + "/s"
                    + (several ? " from " + drive.folder() + ", which holds " + Units.bytes(drive.bytes()) : limitation)
                    + (direct ? "" : ", through the page cache: the disk may be slower")
                    + (drive.certain() ? "" : ", too little to be sure"));
            var way = new JsonObject();
            way.addProperty("mode", reading.method().mode().toString());
            way.addProperty("readers", reading.method().readers());
            way.addProperty("depth", reading.method().depth());
            way.addProperty("request_bytes", reading.method().requestBytes());
            way.addProperty("cpu_seconds_per_gb", reading.cpuSecondsPerGigabyte());
            way.addProperty("reason", reading.reason());
            var entry = new JsonObject();
            entry.addProperty("folder", drive.folder().toString());
            entry.addProperty("bytes", drive.bytes());
            entry.addProperty("direct_io", direct);
            entry.add("reading", way);
            entry.addProperty("disk_bytes_per_second", Math.round(drive.bytesPerSecond()));
            list.add(entry);
        }
        if (several) {
            line("together", Units.bytes(rate) + "/s, as the model is cut" + limitation);
        }
        object.add("folders", list);
        object.addProperty("disk_bytes_per_second", Math.round(rate));
        return limited ? limit : rate;
    }

    private void budgets(LanguageModel model, long asked, long sweepBytes, int positions, double rate,
            JsonObject object) {
        long free = FreeMemory.bytes();
        var needs = model.memoryNeeds(positions);
        long minimum = needs.least();
        long whole = needs.whole();
        long usable = asked > 0 ? asked : free / 4 * 3 / MEMORY_STEP * MEMORY_STEP;
        long recommended = Math.min(whole, usable);
        boolean fits = minimum <= usable;
        line("fits", fits
                ? "yes: --memory " + Units.option(minimum) + " is the least for " + positions + " positions, "
                        + Units.option(whole) + " holds all weights"
                : "no: at least --memory " + Units.option(minimum) + " is needed for " + positions + " positions, and "
                        + (asked > 0 ? "--memory " + Units.option(asked) + " is given"
                                : Units.memory(free) + " is free"));
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
            long resident = model.residentBytes(memory, positions);
            long read = sweepBytes - resident;
            double seconds = read / rate;
            line(memory == recommended ? "expect" : "", "--memory " + Units.option(memory) + ": "
                    + Units.percent(resident, sweepBytes) + " of the weights resident, "
                    + (read == 0
                            ? "nothing to read: the processor is the limit"
                            : Units.bytes(read) + " a token from disk, " + Units.seconds(seconds)
                            + " a token or more"));
            var entry = new JsonObject();
            entry.add("memory_bytes", new JsonPrimitive(memory));
            entry.addProperty("resident_bytes", resident);
            entry.addProperty("disk_bytes_per_token", read);
            entry.addProperty("seconds_per_token", seconds);
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
}
