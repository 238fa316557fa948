package dev.lamina.benchmarks;

import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.internal.runtime.Device;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * Compares a decode step that streams with the best raw read of as many bytes of the same files. In each round the step
 * and several raw readers take turns, in an order that rotates and is reversed every other round; the others wait
 * meanwhile.
 *
 * <pre>java --enable-native-access=ALL-UNNAMED -cp 'benchmarks/target/lamina-benchmarks.jar:benchmarks/target/lib/*'
 *     dev.lamina.benchmarks.StepAgainstRawRead MODEL [MEMORY [PAIRS [PANEL [PREFETCH]]]]</pre>
 */
public final class StepAgainstRawRead {
    private static final double SHARDS_BAR = 1.05;
    private static final double UNSPLIT_BAR = 1.15;
    private static final double CPU_BAR = 1.2;
    private static final double LEAST_BYTES = 4e9; // of weights, for the bars to mean something
    private static final double MOST_RESIDENT = 0.1;

    /** After a step the model fills its ring; a raw read must not share the drive with that. */
    private static final int SETTLE_MILLIS = 200; // without any work of the readers
    private static final int MOST_SETTLE_ROUNDS = 50;

    /** What the threads that read for Lamina are called, those of the kernel that work for them included. */
    private static final String[] READERS = {"lamina-reader", "iou-"};

    private final LanguageModel model;
    private final long bytes;
    private final Map<String, List<RawReader.Reading>> readings = new LinkedHashMap<>();
    private final List<Double> steps = new ArrayList<>();
    private final List<Double> cpuSeconds = new ArrayList<>();
    private String summed = ""; // the reader whose bytes are used: no yardstick, but what stands between

    private StepAgainstRawRead(LanguageModel model, long bytes) {
        this.model = model;
        this.bytes = bytes;
    }

    /** Runs the comparison. */
    public static void main(String[] arguments) throws IOException, InterruptedException {
        if (arguments.length < 1 || arguments.length > 5) {
            System.err.println("StepAgainstRawRead MODEL [MEMORY [PAIRS [PANEL [PREFETCH]]]]");
            System.exit(2);
        }
        var directory = Path.of(arguments[0]);
        var options = ModelOptions.builder()
                .memory(arguments.length > 1 ? arguments[1] : "512MiB")
                .panel(arguments.length > 3 ? ModelOptions.parseSize(arguments[3]) : 0)
                .prefetch(arguments.length > 4 ? Integer.parseInt(arguments[4]) : -1)
                .build();
        int pairs = arguments.length > 2 ? Integer.parseInt(arguments[2]) : 7;
        try (var model = LanguageModel.open(directory.toString(), options)) {
            long resident = Stepper.warmUp(model).residentBytes();
            long weights = model.info().weightBytes();
            System.out.printf(Locale.ROOT, "%s, %s, %s; a step streams %.2f GB of %.2f GB (%.1f %% resident)%n",
                    model.info().device(), model.info().reading(), model.info().split() ? "shard set" : "unsplit",
                    (weights - resident) / 1e9, weights / 1e9, 100.0 * resident / weights);
            if (resident == weights) {
                System.out.println("all weights stay in memory: there is nothing to compare");
                return;
            }
            if (weights < LEAST_BYTES || resident > MOST_RESIDENT * weights) {
                System.out.println("too small for a judgement: take a model of 4 GB or more, and a budget that holds "
                        + "at most a tenth of it");
            }
            var comparison = new StepAgainstRawRead(model, weights - resident);
            comparison.run(SyntheticCheckpoint.weightFiles(directory), pairs);
            comparison.print();
        }
    }

    private void run(List<Path> files, int pairs) throws IOException, InterruptedException {
        boolean direct = model.info().reading().startsWith("direct");
        if (!direct) {
            System.out.println("no direct reads: the page cache forgets the files before each turn");
        }
        try (var device = Device.openCpu(1); var stepper = new Stepper(model)) {
            var readers = RawReader.openBest(files, direct, device);
            try {
                if (direct) {
                    readers.add(RawReader.open(RawReader.Mode.SUMMED, files, 8 << 20, 1, Limit.NONE, device));
                    summed = readers.getLast().name();
                }
                if (direct && Fio.isThere()) {
                    readers.add(new Fio(files));
                }
                for (int pair = 0; pair < pairs; pair++) {
                    System.out.printf("%2d:", pair + 1);
                    for (int i = 0; i <= readers.size(); i++) {
                        int turn = Math.floorMod(pair % 2 == 0 ? pair + i : pair - i, readers.size() + 1);
                        if (!direct) {
                            for (var file : files) {
                                PageCache.drop(file);
                            }
                        }
                        if (turn == readers.size()) {
                            step(stepper);
                        } else {
                            read(readers.get(turn));
                        }
                    }
                    System.out.println();
                }
            } finally {
                for (var reader : readers) {
                    reader.close();
                }
            }
        }
    }

    private void step(Stepper stepper) throws InterruptedException {
        double before = CpuTime.of(READERS);
        double seconds = stepper.sweeps(1);
        settle();
        // Two sweeps ran; the ring was full before, and is full again.
        cpuSeconds.add((CpuTime.of(READERS) - before) / 2);
        steps.add(seconds);
        System.out.printf(Locale.ROOT, "  STEP %.3f s (%.2f GB/s)", seconds, bytes / 1e9 / seconds);
    }

    /** Waits until the readers do nothing any more, which shows in their CPU time where the system tells it. */
    private static void settle() throws InterruptedException {
        double before;
        double now = CpuTime.of(READERS);
        int rounds = 0;
        do {
            before = now;
            Thread.sleep(SETTLE_MILLIS);
            now = CpuTime.of(READERS);
        } while (now > before && ++rounds < MOST_SETTLE_ROUNDS);
    }

    private void read(RawReader reader) throws IOException, InterruptedException {
        var reading = reader.read(bytes);
        readings.computeIfAbsent(reader.name(), name -> new ArrayList<>()).add(reading);
        System.out.printf(Locale.ROOT, "  %s %.2f GB/s", reader.name(), reading.rate() / 1e9);
    }

    private void print() {
        System.out.println("medians:");
        double gigabytes = bytes / 1e9;
        double step = Medians.of(steps);
        double stepCpu = Medians.of(cpuSeconds) / gigabytes;
        line("step", step, stepCpu);
        String best = "";
        double bestSeconds = Double.POSITIVE_INFINITY;
        double bestCpu = Double.NaN;
        double summedSeconds = Double.NaN;
        double summedCpu = Double.NaN;
        for (var reader : readings.entrySet()) {
            double seconds = Medians.of(reader.getValue().stream().map(reading -> bytes / reading.rate()).toList());
            double cpu = Medians.of(reader.getValue().stream()
                    .map(reading -> reading.cpuSeconds() * 1e9 / reading.bytes()).toList());
            line(reader.getKey(), seconds, cpu);
            if (reader.getKey().equals(summed)) {
                summedSeconds = seconds;
                summedCpu = cpu;
            } else if (seconds < bestSeconds) {
                best = reader.getKey();
                bestSeconds = seconds;
                bestCpu = cpu;
            }
        }
        System.out.printf(Locale.ROOT, "step / best raw read (%s): %.3f (bar: %.2f)%n", best, step / bestSeconds,
                model.info().split() ? SHARDS_BAR : UNSPLIT_BAR);
        System.out.printf(Locale.ROOT, "CPU of the readers / CPU of that raw read, for each GB: %.2f (bar: %.2f)%n",
                stepCpu / bestCpu, CPU_BAR);
        if (!summed.isEmpty()) {
            System.out.printf(Locale.ROOT, "against the raw read whose bytes are added up (%s): step %.3f, CPU %.2f%n",
                    summed, step / summedSeconds, stepCpu / summedCpu);
        }
    }

    private void line(String name, double seconds, double cpuPerGigabyte) {
        System.out.printf(Locale.ROOT, "  %-14s %.3f s  %.2f GB/s  reading takes %.3f CPU s/GB%n", name, seconds,
                bytes / 1e9 / seconds, cpuPerGigabyte);
    }
}
