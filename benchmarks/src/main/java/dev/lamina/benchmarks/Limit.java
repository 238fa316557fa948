package dev.lamina.benchmarks;

import dev.lamina.ModelOptions;
import java.util.Locale;

/**
 * A rate at which files may be read at most, to stand in for a slower drive.
 *
 * @param bytesPerSecond the rate; 0: no limit
 */
record Limit(long bytesPerSecond) {
    static final Limit NONE = new Limit(0);

    /** Reads {@code "none"} or a rate such as {@code "550MB/s"}. */
    static Limit parse(String text) {
        var trimmed = text.strip();
        if (trimmed.equals("none")) {
            return NONE;
        }
        return new Limit(ModelOptions.parseSize(trimmed.replaceFirst("/s$", "")));
    }

    boolean isNone() {
        return bytesPerSecond == 0;
    }

    /** The lower of this rate and what a drive was measured to give, in bytes a second. */
    double orDrive(double measured) {
        return isNone() ? measured : Math.min(bytesPerSecond, measured);
    }

    /** What a reader of the output has to know: the figures are not those of the drive. */
    String note() {
        return isNone() ? "no limit: the drive itself"
                : "limited to " + this + ": stands in for " + standsFor() + ", which was not measured";
    }

    private String standsFor() {
        if (bytesPerSecond < 300e6) {
            return "a hard disk";
        }
        if (bytesPerSecond < 1e9) {
            return "a SATA SSD";
        }
        return "an NVMe drive of this rate";
    }

    @Override
    public String toString() {
        return isNone() ? "none" : String.format(Locale.ROOT, "%.0f MB/s", bytesPerSecond / 1e6);
    }
}
