package dev.lamina.benchmarks;

import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/**
 * Checks that a limited rate gives the tokens a second that a drive of that rate would: rate / bytes of a sweep. A
 * model in a folder of memory ({@code /dev/shm}) takes the place of drives that are faster than the one there is.
 *
 * <pre>java --enable-native-access=ALL-UNNAMED -cp 'benchmarks/target/lamina-benchmarks.jar:benchmarks/target/lib/*'
 *     dev.lamina.benchmarks.LimitedStep MODEL [MEMORY [RATE...]]</pre>
 */
public final class LimitedStep {
    private static final List<String> RATES = List.of("0.2GB/s", "0.55GB/s", "3.5GB/s");
    private static final int SWEEPS = 5;
    private static final double BAR = 0.05;

    private LimitedStep() {}

    /** Runs the check. */
    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length < 1) {
            System.err.println("LimitedStep MODEL [MEMORY [RATE...]]");
            System.exit(2);
        }
        var directory = Path.of(arguments[0]);
        var memory = arguments.length > 1 ? arguments[1] : "512MiB";
        var rates = arguments.length > 2 ? Arrays.asList(arguments).subList(2, arguments.length) : RATES;
        for (var rate : rates) {
            measure(directory, ModelOptions.parseSize(memory), Limit.parse(rate));
        }
    }

    private static void measure(Path directory, long memory, Limit limit) throws InterruptedException {
        var options = ModelOptions.builder().memory(memory).ioLimit(limit.bytesPerSecond()).build();
        try (var model = LanguageModel.open(directory.toString(), options); var stepper = new Stepper(model)) {
            long bytes = model.info().weightBytes() - Stepper.warmUp(model).residentBytes();
            double seconds = Medians.of(stepper.each(SWEEPS));
            double expected = limit.bytesPerSecond() / (double) bytes;
            System.out.printf(Locale.ROOT, "%s%n  a step streams %.2f GB: %.3f tokens/s, rate / bytes = %.3f, "
                    + "deviation %+.1f %% (bar: %.0f %%)%n", limit.note(), bytes / 1e9, 1 / seconds, expected,
                    100 * (1 / seconds / expected - 1), 100 * BAR);
        }
    }
}
