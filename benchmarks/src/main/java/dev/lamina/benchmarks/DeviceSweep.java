package dev.lamina.benchmarks;

import com.google.gson.GsonBuilder;
import dev.lamina.Generation;
import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import dev.lamina.Rates;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.FreeMemory;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Sweeps of one row through a large synthetic checkpoint on a device with memory of its own, under several budgets of
 * that memory, with the weights streamed from disk and from host memory. The yardstick is the slowest of what the disk,
 * the bus and the device need for their part of the bytes, each measured alone, before and after the sweeps.
 *
 * <pre>java --enable-native-access=ALL-UNNAMED -cp 'benchmarks/target/lamina-benchmarks.jar:benchmarks/target/lib/*'
 *     dev.lamina.benchmarks.DeviceSweep [--device cuda] [--mode exact] [--work FOLDER] [--size 40GB]
 *     [--budgets 4GiB,8GiB,24GiB] [--host-memory 2GiB] [--panel 8MiB] [--area 1GiB] [--sweeps 2] [--seconds 120]
 *     [--json FILE] [--commit TEXT]</pre>
 *
 * <p>Without {@code --size} the checkpoint is as large as the drive, the memory of the host and {@code --seconds} for
 * all reading and writing allow, 40 GB at most. {@code --host-memory} is the budget of the host while it streams from
 * disk, {@code --area} what the rates are measured with: a budget that does not fit beside it is left out. Where a case
 * fails, the report has those before it and says so.
 */
public final class DeviceSweep {
    private static final double BAR = 1.05;
    private static final int PROMPT_TOKEN = 1;

    /** What is tried first where the size is to be chosen, for the rate of the drive; smaller ones say nothing. */
    private static final long TRIAL_BYTES = 1_000_000_000L;

    private static final long MOST_BYTES = 40_000_000_000L;
    private static final long DISK_RESERVE = 4_000_000_000L;
    private static final double SHARE_OF_MEMORY = 0.6; // the rest: page-locked memory cannot be swapped out

    /** How often a checkpoint is written and read: writing is slower, and there are more sweeps than are counted. */
    private static final double WRITES = 2;

    private static final int UNCOUNTED_SWEEPS = 2; // one fills the memory, the next begins with a full ring

    /**
     * One budget and one source.
     *
     * @param deviceBudget bytes
     * @param source {@code "disk"} or {@code "host"}: where the weights are that are not on the device
     * @param hostBudget bytes
     * @param seconds of a sweep, the median
     * @param leastSeconds of the fastest one
     * @param mostSeconds of the slowest one
     * @param weightBytes that a sweep computes with
     * @param diskBytes that a sweep reads from disk
     * @param busBytes that a sweep copies to the device
     * @param diskRate of the best raw reader, in bytes a second; 0 where nothing should be read
     * @param busRate of the bus, in bytes a second
     * @param computeRate of the device, in bytes a second
     * @param floorSeconds the longest of what these three take for their bytes
     * @param limit which of them that is
     * @param ratio {@code seconds / floorSeconds}
     * @param bar that the ratio is to stay below
     * @param peakHostBytes most host memory that was held
     */
    record Case(long deviceBudget, String source, long hostBudget, double seconds, double leastSeconds,
            double mostSeconds, long weightBytes, long diskBytes, long busBytes, double diskRate, double busRate,
            double computeRate, double floorSeconds, String limit, double ratio, double bar, long peakHostBytes) {}

    /**
     * All of it.
     *
     * @param size bytes of the checkpoint that were asked for: the {@code --size} that gives the same one again
     * @param checkpointBytes that it has
     * @param failure what ended the measurement before all cases were there, or null
     */
    record Report(String program, String gpu, String date, String commit, String device, String mode, String reading,
            long size, long checkpointBytes, int sweeps, List<Case> cases, @Nullable String failure) {}

    private final Map<String, String> arguments = new HashMap<>(Map.ofEntries(
            Map.entry("--device", "cuda"), Map.entry("--mode", "exact"), Map.entry("--work", ""),
            Map.entry("--size", "auto"), Map.entry("--budgets", "4GiB,8GiB,24GiB"),
            Map.entry("--host-memory", "2GiB"), Map.entry("--panel", "8MiB"), Map.entry("--area", "1GiB"),
            Map.entry("--sweeps", "2"), Map.entry("--seconds", "120"), Map.entry("--json", ""),
            Map.entry("--commit", "")));

    private final List<Long> budgets;
    private final int sweeps;
    private final ModelOptions options;
    private @Nullable List<Integer> tokens; // what every case has to give

    private DeviceSweep(String... given) {
        for (int i = 0; i < given.length; i += 2) {
            if (!arguments.containsKey(given[i]) || i + 1 == given.length) {
                throw new IllegalArgumentException("there is no option " + given[i] + ", or it has no value; there are "
                        + arguments.keySet().stream().sorted().toList());
            }
            arguments.put(given[i], given[i + 1]);
        }
        budgets = Arrays.stream(of("--budgets").split(",")).map(ModelOptions::parseSize).toList();
        sweeps = Integer.parseInt(of("--sweeps"));
        options = ModelOptions.builder().device(of("--device"))
                .mode(ModelOptions.Mode.valueOf(of("--mode").toUpperCase(Locale.ROOT)))
                .panel(ModelOptions.parseSize(of("--panel"))).build();
    }

    private String of(String option) {
        return arguments.get(option);
    }

    /** Runs all cases. */
    public static void main(String[] arguments) throws IOException, InterruptedException {
        try {
            run(arguments);
        } catch (IllegalArgumentException e) {
            System.err.println(e.getMessage());
            System.exit(2);
        }
    }

    /** Runs all cases, prints the table and writes the JSON. */
    static void run(String... arguments) throws IOException, InterruptedException {
        new DeviceSweep(arguments).run();
    }

    private void run() throws IOException, InterruptedException {
        var work = SyntheticCheckpoint.workFolder(of("--work"));
        long size = size(work);
        var model = SyntheticCheckpoint.write(work, size);
        var measured = new Measured();
        String failure = null;
        try (var rates = new DeviceRates(of("--device"), options.mode() == ModelOptions.Mode.FAST,
                ModelOptions.parseSize(of("--area")), options.panel())) {
            measured.gpu = rates.info().name();
            for (long budget : budgets) {
                if (budget > rates.freeBytes()) {
                    System.out.printf(Locale.ROOT, "%d MiB on the device: not run, it has %d MiB free%n", budget >> 20,
                            rates.freeBytes() >> 20);
                    continue;
                }
                streamedFromDisk(model, budget, rates, measured);
                streamedFromHost(model, budget, rates, measured.cases);
            }
            if (measured.cases.isEmpty()) {
                throw new IllegalStateException("nothing was measured: the device has " + (rates.freeBytes() >> 20)
                        + " MiB free, which is less than each of --budgets " + of("--budgets"));
            }
        } catch (Throwable e) {
            failure = e.toString();
            throw e;
        } finally { // what was measured before something failed took minutes, and is not lost
            if (!measured.cases.isEmpty()) {
                report(new Report("DeviceSweep", measured.gpu, Instant.now().truncatedTo(ChronoUnit.SECONDS).toString(),
                        of("--commit"), of("--device"), of("--mode"), measured.reading, size,
                        SyntheticCheckpoint.bytes(SyntheticCheckpoint.weightFiles(model)), sweeps, measured.cases,
                        failure));
            }
        }
    }

    /** What the report is made of, as far as it is there. */
    private static final class Measured {
        private final List<Case> cases = new ArrayList<>();
        private String gpu = "";
        private String reading = "";
    }

    private void report(Report report) throws IOException {
        print(report);
        if (!of("--json").isEmpty()) {
            Files.writeString(Path.of(of("--json")),
                    new GsonBuilder().setPrettyPrinting().create().toJson(report) + "\n");
        }
    }

    /** Bytes of the checkpoint. */
    private long size(Path work) throws IOException, InterruptedException {
        if (!of("--size").equals("auto")) {
            return ModelOptions.parseSize(of("--size"));
        }
        var trial = SyntheticCheckpoint.write(work, TRIAL_BYTES);
        double rate;
        try (var opened = LanguageModel.open(trial.toString())) {
            rate = diskRate(trial, opened.info().reading());
        }
        SyntheticCheckpoint.delete(trial);
        double passes = WRITES + budgets.size() * (UNCOUNTED_SWEEPS + sweeps + 1); // the host's memory is filled once
        double allowed = Double.parseDouble(of("--seconds")) * rate / passes;
        long room = Files.getFileStore(work).getUsableSpace() - DISK_RESERVE;
        long memory = (long) (SHARE_OF_MEMORY * FreeMemory.now().bytes());
        long bytes = (long) Math.min(Math.min(MOST_BYTES, allowed), Math.min(room, memory));
        System.out.printf(Locale.ROOT, "the checkpoint has %.1f GB: %.2f GB/s from the drive are %.1f GB in the time "
                + "that there is, it has room for %.1f GB, the host's memory for %.1f GB%n", bytes / 1e9, rate / 1e9,
                allowed / 1e9, room / 1e9, memory / 1e9);
        if (bytes < TRIAL_BYTES) {
            throw new IllegalArgumentException(
                    "that is too small to be measured: give a --size, more --seconds or another --work");
        }
        return bytes;
    }

    private static double diskRate(Path model, String reading) throws IOException, InterruptedException {
        try (var cpu = Device.openCpu(1)) {
            return RawRate.measure(SyntheticCheckpoint.weightFiles(model), reading.startsWith("direct"), cpu);
        }
    }

    private void streamedFromDisk(Path model, long budget, DeviceRates rates, Measured measured)
            throws IOException, InterruptedException {
        var within = within(budget, ModelOptions.parseSize(of("--host-memory")));
        try (var opened = LanguageModel.open(model.toString(), within)) {
            measured.reading = opened.info().reading();
            double before = diskRate(model, measured.reading);
            var swept = sweep(opened, rates);
            double disk = (before + diskRate(model, measured.reading)) / 2;
            measured.cases.add(judge(swept, budget, within.memory(), "disk", disk));
        }
    }

    private void streamedFromHost(Path model, long budget, DeviceRates rates, List<Case> cases) {
        long whole;
        try (var opened = LanguageModel.open(model.toString(), within(budget, 0))) {
            whole = opened.memoryNeeds(positions()).whole();
        }
        if (whole > FreeMemory.now().bytes()) {
            System.out.printf(Locale.ROOT, "%d MiB on the device, the rest from host memory: not run, the host would "
                    + "have to have %d MiB free%n", budget >> 20, whole >> 20);
            return;
        }
        try (var opened = LanguageModel.open(model.toString(), within(budget, whole))) {
            cases.add(judge(sweep(opened, rates), budget, whole, "host", Double.POSITIVE_INFINITY));
        }
    }

    /** How a model is opened; 0 for the host: what is free. */
    private ModelOptions within(long deviceBudget, long hostBudget) {
        return options.toBuilder().memory(hostBudget).deviceMemory(deviceBudget).context(positions()).build();
    }

    private int positions() {
        return UNCOUNTED_SWEEPS + sweeps;
    }

    /**
     * What was measured of an open model.
     *
     * @param seconds of each sweep
     * @param weightBytes that a sweep computes with
     * @param diskBytes that a sweep read
     * @param busBytes that a sweep copied to the device
     * @param busRate in bytes a second
     * @param computeRate in bytes a second
     * @param peakHostBytes most host memory that was held
     */
    private record Swept(List<Double> seconds, long weightBytes, long diskBytes, long busBytes, double busRate,
            double computeRate, long peakHostBytes) {}

    private Swept sweep(LanguageModel model, DeviceRates rates) {
        generate(model, 1, new ArrayList<>());
        double bus = rates.bus();
        double compute = rates.compute();
        var ends = new ArrayList<Long>();
        var answer = generate(model, sweeps + 1, ends);
        bus = (bus + rates.bus()) / 2;
        compute = (compute + rates.compute()) / 2;
        if (tokens != null && !tokens.equals(answer.ids())) {
            throw new IllegalStateException("with this budget and source the tokens are " + answer.ids() + ", not "
                    + tokens);
        }
        tokens = answer.ids();
        var seconds = new ArrayList<Double>();
        for (int i = 0; i < sweeps; i++) {
            seconds.add((ends.get(i + 1) - ends.get(i)) / 1e9);
        }
        var stats = answer.stats();
        long copied = model.plan(0, positions(), Rates.assumed()).copiedBytesPerSweep();
        return new Swept(seconds, model.info().weightBytes(), stats.diskBytes() / stats.sweeps(), copied, bus, compute,
                stats.peakHostBytes());
    }

    private static Case judge(Swept swept, long budget, long hostBudget, String source, double diskRate) {
        double disk = swept.diskBytes / diskRate;
        double bus = swept.busBytes / swept.busRate;
        double compute = swept.weightBytes / swept.computeRate;
        double floor = Math.max(disk, Math.max(bus, compute));
        double median = Medians.of(swept.seconds);
        return new Case(budget, source, hostBudget, median, Collections.min(swept.seconds),
                Collections.max(swept.seconds), swept.weightBytes, swept.diskBytes, swept.busBytes,
                Double.isInfinite(diskRate) ? 0 : diskRate, swept.busRate, swept.computeRate, floor,
                floor == disk ? "disk" : floor == bus ? "bus" : "compute", median / floor, BAR, swept.peakHostBytes);
    }

    /** Generates so many tokens, each with a sweep of one row, and notes when each was there. */
    private static Generation generate(LanguageModel model, int count, List<Long> ends) {
        var greedy = GenerationOptions.builder().maxTokens(count).greedy().ignoreEos(true).build();
        return model.generate(Prompt.ids(PROMPT_TOKEN), greedy, new GenerationListener() {
            @Override
            public void text(String piece) {}

            @Override
            public void token(int prompt, int id) {
                ends.add(System.nanoTime());
            }
        });
    }

    private static void print(Report report) {
        System.out.printf(Locale.ROOT, "%s, %s, mode %s; %s; %.1f GB, sweeps of one row, medians of %d%n",
                report.device, report.gpu, report.mode, report.reading, report.checkpointBytes / 1e9, report.sweeps);
        System.out.println("   device from    s a sweep   least    most   disk GB  GB/s    bus GB  GB/s  "
                + "compute GB  GB/s  limit    ratio");
        for (var each : report.cases) {
            System.out.printf(Locale.ROOT, "%5d MiB %-4s %10.3f %7.3f %7.3f %9.3f %5.2f %9.3f %5.1f %11.3f %5.0f  %-7s "
                    + "%6.3f%n", each.deviceBudget >> 20, each.source, each.seconds, each.leastSeconds,
                    each.mostSeconds, each.diskBytes / 1e9, each.diskRate / 1e9, each.busBytes / 1e9,
                    each.busRate / 1e9, each.weightBytes / 1e9, each.computeRate / 1e9, each.limit, each.ratio);
        }
        System.out.printf(Locale.ROOT, "ratio: to the longest of what disk, bus and device need alone (bar: %.2f)%n",
                BAR);
    }
}
