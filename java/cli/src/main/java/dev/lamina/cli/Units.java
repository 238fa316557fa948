package dev.lamina.cli;

import java.util.Locale;

/** How sizes, rates and times are written for people. */
final class Units {
    private static final String[] DECIMAL = {"B", "kB", "MB", "GB", "TB"};
    private static final String[] BINARY = {"B", "KiB", "MiB", "GiB", "TiB"};

    private Units() {}

    /** A number of bytes on disk, such as {@code 13.5 GB}. */
    static String bytes(double bytes) {
        return scaled(bytes, 1000, DECIMAL);
    }

    /** A number of bytes in memory, such as {@code 512 MiB}. */
    static String memory(double bytes) {
        return scaled(bytes, 1024, BINARY);
    }

    /** A size as {@code --memory} takes it, rounded down: such as {@code 2GiB}, {@code 1500MiB} or {@code 700KiB}. */
    static String option(long bytes) {
        long mebibytes = bytes >> 20;
        if (mebibytes == 0) {
            return (bytes >> 10) + "KiB";
        }
        return mebibytes % 1024 == 0 ? mebibytes / 1024 + "GiB" : mebibytes + "MiB";
    }

    /** A rate, such as {@code 1.9 GB/s}. */
    static String rate(double bytes, double seconds) {
        return seconds <= 0 ? "-" : bytes(bytes / seconds) + "/s";
    }

    /** A share of a whole, such as {@code 42 %}. */
    static String percent(double part, double whole) {
        return whole <= 0 ? "0 %" : String.format(Locale.ROOT, "%.0f %%", 100 * part / whole);
    }

    /** A time, such as {@code 8.1 ms}, {@code 0.42 s} or {@code 2 min 5 s}. */
    static String seconds(double seconds) {
        if (seconds < 0.0995) {
            return String.format(Locale.ROOT, seconds < 0.00995 ? "%.2f ms" : "%.1f ms", seconds * 1000);
        }
        if (seconds < 60) {
            return String.format(Locale.ROOT, seconds < 9.95 ? "%.2f s" : "%.1f s", seconds);
        }
        long whole = Math.round(seconds);
        return whole < 3600
                ? whole / 60 + " min " + whole % 60 + " s"
                : whole / 3600 + " h " + whole % 3600 / 60 + " min";
    }

    /** A time that may be very short, such as {@code 0.012 ms} or {@code 12.3 ms}, from a second on as above. */
    static String shortTime(double seconds) {
        double millis = seconds * 1e3;
        if (millis >= 999.5) {
            return seconds(seconds);
        }
        return String.format(Locale.ROOT, millis < 0.0995 ? "%.3f ms" : millis < 9.95 ? "%.2f ms" : "%.1f ms", millis);
    }

    private static String scaled(double bytes, int step, String[] units) {
        double value = bytes;
        int unit = 0;
        while (value >= step * 0.9995 && unit < units.length - 1) {
            value /= step;
            unit++;
        }
        boolean whole = unit == 0 || value >= 99.95 || value == Math.rint(value);
        var format = whole ? "%.0f %s" : value >= 9.995 ? "%.1f %s" : "%.2f %s";
        return String.format(Locale.ROOT, format, value, units[unit]);
    }
}
