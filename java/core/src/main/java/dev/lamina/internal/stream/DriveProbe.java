package dev.lamina.internal.stream;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import dev.lamina.ModelOptions.Io;
import dev.lamina.internal.checkpoint.DurableFiles;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.runtime.ReadRing;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Finds out how the files of a drive are best read: tries what there is on the drive itself, once, and remembers the
 * answer for each drive in a file.
 *
 * @param host where to allocate; the kind of memory makes a difference
 * @param memory bytes that a probe may take
 * @param file where answers are remembered; null: nowhere
 */
public record DriveProbe(HostMemory host, long memory, @Nullable Path file) {
    /** Name of the file of answers in a cache folder. */
    public static final String FILE_NAME = "drives.json";

    private static final System.Logger LOG = System.getLogger(DriveProbe.class.getName());

    /** Files of less than this tell nothing about a drive, and need no speed. */
    private static final long ENOUGH_BYTES = 256L << 20;

    private static final long TRIAL_BYTES = 96L << 20;
    private static final double TRIAL_SECONDS = 0.15;
    private static final double PROBE_SECONDS = 2;
    private static final int ROUNDS = 3;

    /** Ways within this share of the best rate are as good: the one that takes the least of the processor is chosen. */
    private static final double AS_GOOD = 0.95;

    private static final long MOST_FILE_BYTES = 1 << 20;

    private static final List<ReadMethod> CANDIDATES = List.of(
            ReadMethod.DEFAULT,
            new ReadMethod(IoMode.CHANNEL, 2, 1, 8 << 20),
            new ReadMethod(IoMode.PREAD, 1, 1, 8 << 20),
            new ReadMethod(IoMode.PREAD, 2, 1, 8 << 20),
            new ReadMethod(IoMode.PREAD, 4, 1, 4 << 20),
            new ReadMethod(IoMode.URING, 1, 2, 8 << 20),
            new ReadMethod(IoMode.URING, 1, 4, 4 << 20),
            new ReadMethod(IoMode.URING, 1, 8, 2 << 20),
            new ReadMethod(IoMode.URING, 1, 16, 1 << 20));

    /** Where a choice comes from. */
    public enum Origin {
        /** Measured now. */
        MEASURED,
        /** Measured before, on the same drive. */
        REMEMBERED,
        /** Not measured: there is too little to read. */
        ASSUMED
    }

    /**
     * How the files of a drive are read, and why.
     *
     * @param method how
     * @param bytesPerSecond the rate that was measured so; 0: not known
     * @param cpuSecondsPerGigabyte what the reading threads took of the processor; 0: not known
     * @param origin where it comes from
     * @param reason for people, one line
     */
    public record Choice(ReadMethod method, double bytesPerSecond, double cpuSecondsPerGigabyte, Origin origin,
            String reason) {
        /** The same where files in so many folders of the drive are read at the same time. */
        public Choice shared(int folders) {
            return new Choice(method, bytesPerSecond / folders, cpuSecondsPerGigabyte, origin, reason);
        }

        /** For people, such as {@code "direct: uring, 8 reads of 2 MiB under way"}. */
        public String summary() {
            return method.mode().direct() ? "direct: " + method : "buffered: " + reason;
        }
    }

    /**
     * Chooses how to read files.
     *
     * @param files of one drive, that exist
     * @param asked what the user asked for
     * @param anew whether to measure even if an answer is remembered
     * @throws NoDirectReadsException the file system refuses what was asked for
     * @throws IOException a file cannot be read, or the system has not what was asked for
     * @throws InterruptedException the caller was interrupted
     */
    public Choice choose(List<Path> files, Io asked, boolean anew) throws IOException, InterruptedException {
        return choose(files, asked, anew, refusedRing());
    }

    /** Why the system gives no io_uring now; null if it does. */
    private static @Nullable String refusedRing() {
        try {
            ReadRing.open(1).close();
            return null;
        } catch (IOException e) {
            return e.getMessage();
        }
    }

    Choice choose(List<Path> files, Io asked, boolean anew, @Nullable String noRing)
            throws IOException, InterruptedException {
        if (asked == Io.BUFFERED) {
            return new Choice(ReadMethod.BUFFERED, 0, 0, Origin.ASSUMED, "as asked");
        }
        var candidates = CANDIDATES.stream().filter(method -> isAsked(method.mode(), asked)).toList();
        try {
            DataFile.open(files.getFirst(), candidates.getFirst().mode(), 0, null).close();
        } catch (NoDirectReadsException e) {
            if (asked != Io.AUTO) {
                throw e;
            }
            return new Choice(ReadMethod.BUFFERED, 0, 0, Origin.ASSUMED,
                    "the file system refuses direct reads (" + e.reason() + ")");
        }
        if (noRing != null) {
            if (asked == Io.URING) {
                throw new IOException("--io uring is not possible here: " + noRing + ". Use --io auto or --io pread");
            }
            candidates = candidates.stream().filter(method -> method.mode() != IoMode.URING).toList();
        }
        var key = key(files.getFirst(), asked);
        var known = anew ? null : remembered(key);
        if (known != null && candidates.contains(known.method)) {
            return known;
        }
        long total = 0;
        for (Path path : files) {
            total += Files.size(path);
        }
        if (total < ENOUGH_BYTES) {
            return new Choice(candidates.getFirst(), 0, 0, Origin.ASSUMED, "too little to measure");
        }
        var fitting = candidates.stream().filter(this::fits).toList();
        var choice = measure(files, fitting.isEmpty() ? candidates.subList(0, 1) : fitting, asked, noRing);
        if (fitting.size() == candidates.size()) { // with more memory another one might be better
            remember(key, choice);
        }
        return choice;
    }

    private boolean fits(ReadMethod method) {
        return (long) method.readers() * method.depth() * method.requestBytes() <= memory;
    }

    private static boolean isAsked(IoMode mode, Io asked) {
        return switch (asked) {
            case CHANNEL -> mode == IoMode.CHANNEL;
            case PREAD, GDS -> mode == IoMode.PREAD; // what a GPU does not read, the host does
            case URING -> mode == IoMode.URING;
            case AUTO, DIRECT, BUFFERED -> true;
        };
    }

    /** The medians of a few rounds, in which all ways take turns on parts of the files that none has read before. */
    private Choice measure(List<Path> files, List<ReadMethod> candidates, Io asked, @Nullable String noRing)
            throws IOException, InterruptedException {
        var rates = new LinkedHashMap<ReadMethod, List<DiskRate>>();
        var failures = new ArrayList<String>();
        if (noRing != null) {
            failures.add(IoMode.URING + ": " + noRing);
        }
        candidates.forEach(method -> rates.put(method, new ArrayList<>()));
        long from = 0;
        long start = System.nanoTime();
        for (int round = 0; round < ROUNDS && (round == 0 || secondsSince(start) < PROBE_SECONDS); round++) {
            for (var trial : List.copyOf(rates.entrySet())) {
                try {
                    var rate = DiskRate.measure(files, trial.getKey(), from, TRIAL_BYTES, TRIAL_SECONDS, host);
                    from += rate.bytes();
                    trial.getValue().add(rate);
                } catch (IOException e) { // such as a system that gives less io_uring than this asks for
                    rates.remove(trial.getKey());
                    failures.add(trial.getKey().mode() + ": " + e.getMessage());
                    if (rates.isEmpty()) {
                        throw e;
                    }
                }
            }
        }
        double best = rates.values().stream().mapToDouble(DriveProbe::rate).max().orElseThrow();
        Map.Entry<ReadMethod, List<DiskRate>> chosen = null;
        for (var each : rates.entrySet()) {
            if (rate(each.getValue()) >= AS_GOOD * best
                    && (chosen == null || cpu(each.getValue()) < cpu(chosen.getValue()))) {
                chosen = each;
            }
        }
        if (chosen == null) {
            throw new IllegalStateException("no way to read " + files);
        }
        var reason = new StringBuilder(asked == Io.AUTO || asked == Io.DIRECT
                ? "the least work for the processor within 5 % of the best rate" : "as asked").append("; measured: ");
        var told = new ArrayList<String>();
        for (IoMode mode : IoMode.values()) {
            rates.entrySet().stream().filter(each -> each.getKey().mode() == mode)
                    .mapToDouble(each -> rate(each.getValue())).max()
                    .ifPresent(rate -> told.add(String.format(Locale.ROOT, "%s %.2f GB/s", mode, rate / 1e9)));
        }
        told.addAll(failures.stream().distinct().toList());
        return new Choice(chosen.getKey(), rate(chosen.getValue()), cpu(chosen.getValue()), Origin.MEASURED,
                reason.append(String.join(", ", told)).toString());
    }

    private static double secondsSince(long start) {
        return (System.nanoTime() - start) / 1e9;
    }

    private static double rate(List<DiskRate> rates) {
        return median(rates.stream().mapToDouble(DiskRate::bytesPerSecond).toArray());
    }

    private static double cpu(List<DiskRate> rates) {
        return median(rates.stream().mapToDouble(DiskRate::cpuSecondsPerGigabyte).toArray());
    }

    private static double median(double[] values) {
        Arrays.sort(values);
        return values[values.length / 2];
    }

    // ---- the memory

    /** What tells the drive of a file from others, for people too. */
    public static String drive(Path path) throws IOException {
        var store = Files.getFileStore(path);
        return store.name() + " (" + store.type() + ")";
    }

    private static String key(Path path, Io asked) throws IOException {
        return drive(path) + ", " + System.getProperty("os.name") + " "
                + System.getProperty("os.version") + ", " + (asked == Io.DIRECT ? Io.AUTO : asked);
    }

    private @Nullable Choice remembered(String key) {
        try {
            var entry = load().getAsJsonObject(key);
            if (entry == null) {
                return null;
            }
            var method = new ReadMethod(IoMode.valueOf(entry.get("mode").getAsString()),
                    entry.get("readers").getAsInt(), entry.get("depth").getAsInt(),
                    entry.get("request_bytes").getAsInt());
            double rate = entry.get("bytes_per_second").getAsDouble();
            double cpu = entry.get("cpu_seconds_per_gb").getAsDouble();
            if (!(rate > 0 && cpu >= 0 && rate + cpu < Double.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("no rates: " + rate + " and " + cpu);
            }
            return new Choice(method, rate, cpu, Origin.REMEMBERED, entry.get("reason").getAsString());
        } catch (RuntimeException e) { // somebody else wrote it: it is measured again
            LOG.log(System.Logger.Level.DEBUG, "what " + file + " says of " + key + " is not usable", e);
            return null;
        }
    }

    private JsonObject load() {
        try {
            if (file == null || !Files.isRegularFile(file) || Files.size(file) > MOST_FILE_BYTES) {
                return new JsonObject();
            }
            return JsonParser.parseString(Files.readString(file)).getAsJsonObject();
        } catch (IOException | JsonParseException | IllegalStateException e) {
            LOG.log(System.Logger.Level.DEBUG, "cannot read " + file, e);
            return new JsonObject();
        }
    }

    /** Failing to remember costs another measurement, and nothing else. */
    private void remember(String key, Choice choice) {
        if (file == null) {
            return;
        }
        var entry = new JsonObject();
        entry.addProperty("mode", choice.method.mode().name());
        entry.addProperty("readers", choice.method.readers());
        entry.addProperty("depth", choice.method.depth());
        entry.addProperty("request_bytes", choice.method.requestBytes());
        entry.addProperty("bytes_per_second", choice.bytesPerSecond);
        entry.addProperty("cpu_seconds_per_gb", choice.cpuSecondsPerGigabyte);
        entry.addProperty("reason", choice.reason);
        var all = load();
        all.add(key, entry);
        try {
            Files.createDirectories(file.toAbsolutePath().getParent());
            DurableFiles.write(file, new Gson().newBuilder().setPrettyPrinting().create().toJson(all).getBytes());
        } catch (IOException e) {
            LOG.log(System.Logger.Level.DEBUG, "cannot write " + file, e);
        }
    }
}
