package dev.lamina.cli;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import dev.lamina.Profile;
import dev.lamina.Rates;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/**
 * A profile as a table and as JSON.
 *
 * @param profile what was done
 * @param rates what the same files can be read with, or may be under {@code --io-limit}; null: not known
 */
record ProfileReport(Profile profile, @Nullable Rates rates) {
    private static final String LAYER = "layer.";

    /** Stalls of less than this share of the time are no reason to look at the disk. */
    private static final double MANY_STALLS = 0.1;

    /** Reads that reach less than this share of what the drive can do are slow. */
    private static final double SLOW_READS = 0.7;

    /** Sweeps that compute for less than this share of the time are too short to say what limits. */
    private static final double LITTLE_COMPUTING = 0.5;

    /** What limits the speed. */
    private enum Limit { DISK, COMPUTE, OVERHEAD }

    private List<String> columns() {
        return List.of("per sweep", "weights", "resident", "read", "in", "rate",
                isLimited() ? "of limit" : "of probe", "wait", "copy", "compute", "rate");
    }

    private boolean isLimited() {
        return rates != null && rates.disk() == Rates.Origin.LIMIT;
    }

    /**
     * The table, and a sentence that says what limits. Times and bytes are means of a sweep.
     *
     * @param allStages whether to list each layer, and not equal ones together
     */
    String text(boolean allStages) {
        if (profile.sweeps() == 0) {
            return "profile: no sweep was completed";
        }
        var rows = new ArrayList<List<String>>();
        rows.add(columns());
        var stages = allStages ? profile.stages() : grouped(profile.stages());
        stages.forEach(stage -> rows.add(cells(stage)));
        rows.add(cells(profile.total()));
        return title() + "\n" + aligned(rows) + shares() + "\n" + advice();
    }

    /** Layers that follow one another and have weights of the same size are one row. */
    private static List<Profile.Stage> grouped(List<Profile.Stage> stages) {
        var rows = new ArrayList<Profile.Stage>();
        int first = 0;
        for (int i = 1; i <= stages.size(); i++) {
            if (i < stages.size() && alike(stages.get(first), stages.get(i))) {
                continue;
            }
            var sum = stages.get(first);
            for (int j = first + 1; j < i; j++) {
                sum = sum.plus(stages.get(j), "layers " + number(stages.get(first)) + "-" + number(stages.get(j)));
            }
            rows.add(sum);
            first = i;
        }
        return rows;
    }

    private static boolean alike(Profile.Stage one, Profile.Stage other) {
        return one.name().startsWith(LAYER) && other.name().startsWith(LAYER)
                && one.weightBytes() == other.weightBytes();
    }

    private static String number(Profile.Stage layer) {
        return layer.name().substring(LAYER.length()).replaceFirst("^0+(?=.)", "");
    }

    private List<String> cells(Profile.Stage stage) {
        double n = profile.sweeps();
        double readRate = stage.readSeconds() > 0 ? stage.readBytes() / stage.readSeconds() : 0;
        var name = stage.name().startsWith(LAYER) ? "layer " + number(stage) : stage.name();
        return List.of(name,
                stage.weightBytes() == 0 ? "-" : Units.bytes(stage.weightBytes() / n),
                stage.weightBytes() == 0 ? "-"
                        : Units.percent(stage.weightBytes() - stage.diskBytes(), stage.weightBytes()),
                stage.readBytes() == 0 ? "-" : Units.bytes(stage.readBytes() / n),
                time(stage.readSeconds()),
                readRate == 0 ? "-" : Units.bytes(readRate) + "/s",
                readRate == 0 || rates == null ? "-" : Units.percent(readRate, rates.diskBytesPerSecond()),
                time(stage.waitSeconds()),
                time(stage.copySeconds()),
                time(stage.computeSeconds()),
                stage.weightBytes() == 0 ? "-" : Units.rate(stage.weightBytes(), stage.computeSeconds()));
    }

    private String time(double seconds) {
        return seconds == 0 ? "-" : Units.shortTime(seconds / profile.sweeps());
    }

    private static String aligned(List<List<String>> rows) {
        var widths = new int[rows.getFirst().size()];
        rows.forEach(row -> Arrays.setAll(widths, i -> Math.max(widths[i], row.get(i).length())));
        var text = new StringBuilder();
        for (var row : rows) {
            text.append(String.format("%-" + widths[0] + "s", row.getFirst()));
            for (int i = 1; i < widths.length; i++) {
                text.append(String.format("%" + (widths[i] + 2) + "s", row.get(i)));
            }
            text.append('\n');
        }
        return text.toString();
    }

    private String title() {
        var total = profile.total();
        double seconds = profile.sweepSeconds() + profile.sampleSeconds();
        return String.format(Locale.ROOT,
                "profile of %d %s, %d %s, %d %s in %s: %.2f tokens/s, %s of the weights resident",
                profile.sweeps(), profile.sweeps() == 1 ? "sweep" : "sweeps",
                profile.rows(), profile.rows() == 1 ? "row" : "rows",
                profile.tokens(), profile.tokens() == 1 ? "token" : "tokens", Units.shortTime(seconds),
                profile.tokens() / seconds,
                Units.percent(total.weightBytes() - total.diskBytes(), total.weightBytes()));
    }

    private String shares() {
        var total = profile.total();
        double all = profile.sweepSeconds();
        double rest = Math.max(0, all - total.waitSeconds() - total.computeSeconds() - total.copySeconds());
        return "a sweep takes " + Units.shortTime(all / profile.sweeps()) + ": "
                + Units.percent(total.computeSeconds(), all) + " computing, "
                + Units.percent(total.waitSeconds(), all) + " waiting for the disk (stalls), "
                + (total.copySeconds() == 0 ? "" : Units.percent(total.copySeconds(), all) + " copying, ")
                + Units.percent(rest, all) + " other"
                + (rates == null ? ""
                        : (isLimited() ? "; reads are held to " : "; the probe read ") + PlanView.diskRate(rates));
    }

    private Limit limit() {
        var total = profile.total();
        if (total.waitSeconds() >= MANY_STALLS * profile.sweepSeconds()) {
            return Limit.DISK;
        }
        return total.computeSeconds() >= LITTLE_COMPUTING * profile.sweepSeconds() ? Limit.COMPUTE : Limit.OVERHEAD;
    }

    private String advice() {
        var total = profile.total();
        return "limit: " + switch (limit()) {
            case DISK -> {
                boolean slow = rates != null && !isLimited()
                        && total.readBytes() < SLOW_READS * rates.diskBytesPerSecond() * total.readSeconds();
                yield "the disk" + (isLimited() ? ", or --io-limit" : "") + ". More --memory helps: "
                        + Units.bytes((double) total.diskBytes() / profile.sweeps())
                        + " come from disk in each sweep."
                        + (slow ? " Reads are slower than the drive allows: try a larger --prefetch or --panel, or"
                                + " 'lamina split'." : "");
            }
            case COMPUTE -> "the processor and its memory. " + (total.diskBytes() == 0
                    ? "Nothing is read from disk any more." : "The disk keeps up: more --memory would not help.")
                    + " More --threads help where cores are idle; prompts that run together share a sweep.";
            case OVERHEAD -> "none of these: the sweeps are so short that what happens around them counts.";
        };
    }

    /** All of it for scripts: sums over all sweeps, in bytes and seconds. */
    JsonObject json() {
        var json = new JsonObject();
        json.addProperty("sweeps", profile.sweeps());
        json.addProperty("rows", profile.rows());
        json.addProperty("tokens", profile.tokens());
        json.addProperty("sweep_seconds", profile.sweepSeconds());
        json.addProperty("sample_seconds", profile.sampleSeconds());
        if (rates != null) {
            json.addProperty(isLimited() ? "limit_bytes_per_second" : "probe_bytes_per_second",
                    Math.round(rates.diskBytesPerSecond()));
        }
        if (profile.sweeps() > 0) {
            json.addProperty("limit", limit().name().toLowerCase(Locale.ROOT));
        }
        json.add("total", json(profile.total()));
        var stages = new JsonArray();
        profile.stages().forEach(stage -> stages.add(json(stage)));
        json.add("stages", stages);
        return json;
    }

    private static JsonObject json(Profile.Stage stage) {
        var json = new JsonObject();
        json.addProperty("stage", stage.name());
        json.addProperty("weight_bytes", stage.weightBytes());
        json.addProperty("disk_bytes", stage.diskBytes());
        json.addProperty("read_bytes", stage.readBytes());
        json.addProperty("read_seconds", stage.readSeconds());
        json.addProperty("wait_seconds", stage.waitSeconds());
        json.addProperty("copy_seconds", stage.copySeconds());
        json.addProperty("compute_seconds", stage.computeSeconds());
        return json;
    }
}
