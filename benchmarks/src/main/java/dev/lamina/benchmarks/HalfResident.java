package dev.lamina.benchmarks;

import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Locale;

/**
 * Shows what memory is worth: steps of one model opened twice, once with no weights in memory and once with half of
 * them, in turn; then with all of them, when nothing may be read.
 *
 * <pre>java --enable-native-access=ALL-UNNAMED -cp 'benchmarks/target/lamina-benchmarks.jar:benchmarks/target/lib/*'
 *     dev.lamina.benchmarks.HalfResident MODEL [PAIRS]</pre>
 */
public final class HalfResident {
    private static final double BAR = 0.55;

    private HalfResident() {}

    /** Runs the comparison. */
    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length < 1 || arguments.length > 2) {
            System.err.println("HalfResident MODEL [PAIRS]");
            System.exit(2);
        }
        var directory = Path.of(arguments[0]);
        int pairs = arguments.length > 1 ? Integer.parseInt(arguments[1]) : 7;
        try (var none = open(directory, 0);
                var half = open(directory, 0.5);
                var streamed = new Stepper(none);
                var halved = new Stepper(half)) {
            var streamedSeconds = new ArrayList<Double>();
            var halvedSeconds = new ArrayList<Double>();
            for (int pair = 0; pair < pairs; pair++) {
                streamedSeconds.add(streamed.sweeps(1));
                halvedSeconds.add(halved.sweeps(1));
                System.out.printf(Locale.ROOT, "%2d:  streamed %.3f s  half resident %.3f s%n", pair + 1,
                        streamedSeconds.getLast(), halvedSeconds.getLast());
            }
            System.out.printf(Locale.ROOT, "medians: %.3f s and %.3f s; half resident / streamed: %.3f (bar: %.2f)%n",
                    Medians.of(streamedSeconds), Medians.of(halvedSeconds),
                    Medians.of(halvedSeconds) / Medians.of(streamedSeconds), BAR);
        }
        try (var all = open(directory, 1)) {
            var stats = Stepper.warmUp(all);
            System.out.printf(Locale.ROOT, "all resident: %d bytes of weights were read in %d sweeps (bar: 0), "
                    + "%.2f tokens/s%n", stats.diskBytes(), stats.sweeps(), stats.tokensPerSecond());
        }
    }

    /** Opens a model with a share of its weights in memory, and fills that. */
    private static LanguageModel open(Path directory, double share) {
        var defaults = ModelOptions.defaults();
        long memory = Budgets.forShare(directory, defaults, share, Stepper.positions());
        var model = LanguageModel.open(directory.toString(), defaults.toBuilder().memory(memory).build());
        try {
            long resident = Stepper.warmUp(model).residentBytes();
            System.out.printf(Locale.ROOT, "budget %d MiB: %.1f %% resident%n", memory >> 20,
                    100.0 * resident / model.info().weightBytes());
            return model;
        } catch (RuntimeException e) {
            model.close();
            throw e;
        }
    }
}
