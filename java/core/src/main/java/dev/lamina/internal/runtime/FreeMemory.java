package dev.lamina.internal.runtime;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * What this process could take now without swapping and without meeting a limit. Caches that the kernel would give
 * back count as free.
 *
 * @param bytes how much
 * @param limitedBy what leaves no more: {@code "the machine"}, or a control group
 */
public record FreeMemory(long bytes, String limitedBy) {
    /**
     * What a chosen budget leaves of the free memory, at least: a budget counts neither the Java heap nor the tokenizer
     * and the code of the runtime, a few hundred MiB together, which grow after the budget was chosen.
     */
    private static final long LEAST_RESERVE = 512L << 20;

    /** What it leaves as a share: others start too, and the kernel needs some to work with. */
    private static final int RESERVE_SHARE = 10;

    private static final long MEBIBYTE = 1L << 20;
    private static final String MACHINE = "the machine";
    private static final long UNLIMITED = Long.MAX_VALUE;

    /** Files of the kernel are short; what is longer is something else. */
    private static final int MOST_FILE_BYTES = 4 << 20;

    /** The free memory of this process. */
    public static FreeMemory now() {
        var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        var free = of(Path.of("/"), system.getFreeMemorySize());
        return new FreeMemory(Math.min(free.bytes, system.getTotalMemorySize()), free.limitedBy);
    }

    /**
     * The budget for a model where nobody gives one: what is free less a reserve of the larger of a tenth and 512 MiB,
     * but of no more than half, so that a small machine has a budget too.
     *
     * @return whole MiB, in bytes
     */
    public long budget() {
        long reserve = Math.max(bytes / RESERVE_SHARE, LEAST_RESERVE);
        return Math.max(bytes - reserve, bytes / 2) / MEBIBYTE * MEBIBYTE;
    }

    /**
     * The least of what Linux calls available and of what each limit leaves that holds for the process: those of its
     * control group and of all groups around it, in either version of the interface.
     *
     * @param root folder in which {@code proc} and the mounts of the control groups are
     * @param fallback bytes that are free where the machine does not say
     */
    static FreeMemory of(Path root, long fallback) {
        var least = new FreeMemory(available(root, fallback), MACHINE);
        var groups = lines(root.resolve("proc/self/cgroup"));
        for (var line : lines(root.resolve("proc/self/mountinfo"))) {
            var mount = Mount.parse(line);
            var group = mount == null ? null : mount.find(groups);
            if (mount != null && group != null) {
                least = least(least, free(root, mount, group));
            }
        }
        return least;
    }

    private static FreeMemory least(FreeMemory a, FreeMemory b) {
        return b.bytes < a.bytes ? b : a;
    }

    private static long available(Path root, long fallback) {
        long kibibytes = value(lines(root.resolve("proc/meminfo")), "MemAvailable:");
        return kibibytes < 0 || kibibytes > UNLIMITED >> 10 ? fallback : kibibytes << 10;
    }

    /**
     * A mounted hierarchy of control groups that limits memory.
     *
     * @param unified whether it is of version 2
     * @param group the control group that is seen at its mount point
     * @param point where it is mounted
     */
    private record Mount(boolean unified, String group, String point) {
        /** Reads a line of mountinfo; null if it is about something else. */
        static @Nullable Mount parse(String line) {
            var fields = List.of(line.split(" "));
            int separator = fields.indexOf("-"); // after a varying number of optional fields
            if (separator < 5 || fields.size() < separator + 4) {
                return null;
            }
            boolean unified = fields.get(separator + 1).equals("cgroup2");
            boolean memory = fields.get(separator + 1).equals("cgroup")
                    && Arrays.asList(fields.get(separator + 3).split(",")).contains("memory");
            return unified || memory ? new Mount(unified, unescape(fields.get(3)), unescape(fields.get(4))) : null;
        }

        /** Space, tab, newline and backslash are written as octal numbers there. */
        private static String unescape(String field) {
            return field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
        }

        /** The control group of the process in this hierarchy; null if it is in none. */
        @Nullable String find(List<String> groups) {
            for (var line : groups) {
                var fields = line.split(":", 3); // number, controllers, path
                if (fields.length == 3 && (unified ? fields[1].isEmpty()
                        : Arrays.asList(fields[1].split(",")).contains("memory"))) {
                    return fields[2];
                }
            }
            return null;
        }

        /** The path of a control group below the mount point; that point itself where the group is not seen here. */
        String below(String path) {
            boolean inside = group.equals("/") || path.equals(group) || path.startsWith(group + "/");
            var rest = !inside ? "" : path.substring(group.equals("/") ? 0 : group.length());
            return Arrays.asList(rest.split("/")).contains("..") ? "" : rest;
        }
    }

    /** The least that is left in a control group and in those around it, up to the mount point. */
    private static FreeMemory free(Path root, Mount mount, String group) {
        var least = new FreeMemory(UNLIMITED, MACHINE);
        try {
            var top = root.resolve(mount.point.replaceFirst("^/+", "")).normalize();
            var folder = top.resolve(mount.below(group).replaceFirst("^/+", "")).normalize();
            for (; folder != null && folder.startsWith(top); folder = folder.getParent()) {
                long left = mount.unified ? leftUnified(folder) : leftLegacy(folder);
                least = least(least, new FreeMemory(left, "the control group /" + root.relativize(folder)));
            }
        } catch (InvalidPathException e) {
            // A name that this system cannot open: no limit can be read there.
        }
        return least;
    }

    private static long leftUnified(Path folder) {
        long limit = Math.min(limit(folder.resolve("memory.max")), limit(folder.resolve("memory.high")));
        var stat = lines(folder.resolve("memory.stat"));
        return left(limit, folder.resolve("memory.current"), value(stat, "inactive_file "),
                value(stat, "slab_reclaimable "));
    }

    private static long leftLegacy(Path folder) {
        return left(limit(folder.resolve("memory.limit_in_bytes")), folder.resolve("memory.usage_in_bytes"),
                value(lines(folder.resolve("memory.stat")), "total_inactive_file "), 0);
    }

    /** What is in use counts without caches that are easily given back; active pages are somebody's working set. */
    private static long left(long limit, Path usage, long inactive, long slab) {
        if (limit == UNLIMITED) {
            return UNLIMITED;
        }
        long used = Math.max(0, number(lines(usage).stream().findFirst().orElse("")));
        for (long cache : new long[] {inactive, slab}) {
            used -= Math.clamp(cache, 0, used);
        }
        return Math.max(0, limit - used);
    }

    private static long limit(Path file) {
        long bytes = number(lines(file).stream().findFirst().orElse(""));
        return bytes < 0 ? UNLIMITED : bytes; // "max", or no such file
    }

    /** The number of the line that begins with a key; -1 if there is none. */
    private static long value(List<String> lines, String key) {
        for (var line : lines) {
            if (line.startsWith(key)) {
                return number(line.substring(key.length()).replace("kB", ""));
            }
        }
        return -1;
    }

    private static long number(String text) {
        try {
            return Long.parseLong(text.strip());
        } catch (NumberFormatException e) {
            return -1;
        }
    }

    private static List<String> lines(Path file) {
        try (var stream = Files.newInputStream(file)) {
            return new String(stream.readNBytes(MOST_FILE_BYTES), StandardCharsets.UTF_8).lines().toList();
        } catch (IOException e) {
            return List.of(); // another system, or an older one
        }
    }
}
