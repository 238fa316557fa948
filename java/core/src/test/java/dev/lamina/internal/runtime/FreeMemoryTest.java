package dev.lamina.internal.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.checkpoint.FastDisk;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** On made-up trees of proc and control groups. */
class FreeMemoryTest {
    private static final long MIB = 1 << 20;
    private static final long FALLBACK = 123 * MIB;
    private static final long AVAILABLE = 1L << 40;
    private static final String UNIFIED =
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
    private static final String LEGACY =
            "34 30 0:31 / /sys/fs/cgroup/memory rw,relatime shared:17 master:2 - cgroup cgroup rw,memory";

    @TempDir(factory = FastDisk.class)
    Path root;

    private void write(String path, Object content) throws IOException {
        Path file = root.resolve(path);
        Files.createDirectories(file.getParent());
        Files.writeString(file, content + "\n");
    }

    private void available(long bytes) throws IOException {
        write("proc/meminfo", "MemTotal:       99999999 kB\nMemFree:  1 kB\nMemAvailable:   " + bytes / 1024 + " kB");
    }

    private FreeMemory free() {
        return FreeMemory.of(root, FALLBACK);
    }

    private long bytes() {
        return free().bytes();
    }

    @Test
    void withoutAnyFileTheFallbackIsFree() {
        assertEquals(new FreeMemory(FALLBACK, "the machine"), free());
    }

    @Test
    void withoutGroupsTheMachineDecides() throws IOException {
        available(77 * MIB);
        assertEquals(new FreeMemory(77 * MIB, "the machine"), free());
    }

    @Test
    void theLeastOfNestedUnifiedLimitsDecides() throws IOException {
        var random = new Random(5);
        for (int round = 0; round < 300; round++) {
            available(AVAILABLE);
            write("proc/self/cgroup", "0::/a/b/c");
            write("proc/self/mountinfo", UNIFIED);
            long least = AVAILABLE;
            String by = "the machine";
            for (var group : new String[] {"/a/b/c", "/a/b", "/a", ""}) {
                var folder = "sys/fs/cgroup" + group;
                long max = random.nextInt(4) == 0 ? Long.MAX_VALUE : random.nextLong(AVAILABLE);
                long high = random.nextInt(2) == 0 ? Long.MAX_VALUE : random.nextLong(AVAILABLE);
                long current = random.nextLong(AVAILABLE);
                long inactive = random.nextLong(random.nextInt(10) == 0 ? 2 * AVAILABLE : AVAILABLE / 9);
                long slab = random.nextLong(AVAILABLE / 99);
                write(folder + "/memory.max", max == Long.MAX_VALUE ? "max" : max);
                write(folder + "/memory.high", high == Long.MAX_VALUE ? "max" : high);
                write(folder + "/memory.current", current);
                write(folder + "/memory.stat", "anon 5\nfile 7\nactive_file 9\ninactive_file " + inactive
                        + "\nslab_reclaimable " + slab + "\nworkingset 3");
                long limit = Math.min(max, high);
                long left = limit == Long.MAX_VALUE ? limit
                        : Math.max(0, limit - Math.max(0, current - inactive - slab));
                if (left < least) {
                    least = left;
                    by = "the control group /" + folder;
                }
            }
            assertEquals(new FreeMemory(least, by), free());
        }
    }

    @Test
    void legacyLimitsDecideToo() throws IOException {
        available(1000 * MIB);
        write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/outer/inner\n1:name=systemd:/y\n0::/z");
        write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + LEGACY.replace("rw,memory", "rw,cpu")
                .replace("cgroup/memory", "cgroup/cpu") + "\n" + LEGACY + "\n"
                + UNIFIED.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"));
        var outer = "sys/fs/cgroup/memory/outer";
        write(outer + "/memory.limit_in_bytes", 600 * MIB);
        write(outer + "/memory.usage_in_bytes", 500 * MIB);
        write(outer + "/memory.stat", "inactive_file 1\ntotal_inactive_file " + 100 * MIB);
        write(outer + "/inner/memory.limit_in_bytes", "9223372036854771712");
        write(outer + "/inner/memory.usage_in_bytes", 400 * MIB);
        assertEquals(new FreeMemory(200 * MIB, "the control group /" + outer), free());
        write(outer + "/inner/memory.limit_in_bytes", 550 * MIB);
        assertEquals(new FreeMemory(150 * MIB, "the control group /" + outer + "/inner"), free());
    }

    @Test
    void aContainerSeesItsOwnGroupAtTheMountPoint() throws IOException {
        available(1000 * MIB);
        write("sys/fs/cgroup/memory.max", 100 * MIB);
        write("sys/fs/cgroup/memory.current", 40 * MIB);
        write("sys/fs/cgroup/inner/memory.max", 90 * MIB);
        write("sys/fs/cgroup/inner/memory.current", 40 * MIB);
        for (var names : new String[][] {{"0::/", "/", "60"}, {"0::/docker/1", "/docker/1", "60"},
            {"0::/docker/1/inner", "/docker/1", "50"}, {"0::/inner", "/", "50"}, {"0::/../other", "/", "60"},
            {"0::/docker/12", "/docker/1", "60"}, {"0::/else", "/docker/1", "60"}}) {
            write("proc/self/cgroup", names[0]);
            write("proc/self/mountinfo", UNIFIED.replace(" / /sys", " " + names[1] + " /sys"));
            assertEquals(Long.parseLong(names[2]) * MIB, bytes(), names[0]);
        }
    }

    @Test
    void namesMayHoldSpaces() throws IOException {
        available(1000 * MIB);
        write("proc/self/cgroup", "0::/a group");
        write("proc/self/mountinfo", UNIFIED.replace("/sys/fs/cgroup", "/control\\040groups"));
        write("control groups/a group/memory.max", 100 * MIB);
        assertEquals(100 * MIB, bytes());
    }

    @Test
    void rubbishIsNoLimit() throws IOException {
        var random = new Random(8);
        var words = new String[] {"max", "", "-1", "0::/", "0::", "memory", ":", "/", "..", " - ", "cgroup2", "cgroup",
            "\0", "\u00fc", "99999999999999999999", "MemAvailable:", "kB", "\n", UNIFIED, LEGACY, "4:memory:/../..\0"};
        var files = new String[] {"proc/meminfo", "proc/self/cgroup", "proc/self/mountinfo",
            "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.high", "sys/fs/cgroup/memory.stat",
            "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory/memory.limit_in_bytes"};
        for (int round = 0; round < 500; round++) {
            for (var file : files) {
                var content = new StringBuilder();
                for (int i = random.nextInt(6); i > 0; i--) {
                    content.append(words[random.nextInt(words.length)]).append(random.nextBoolean() ? " " : "");
                }
                write(file, content);
                if (random.nextInt(8) == 0) {
                    var bytes = new byte[random.nextInt(100)];
                    random.nextBytes(bytes);
                    Files.write(root.resolve(file), bytes);
                }
            }
            assertEquals(FALLBACK, bytes());
        }
        available(1000 * MIB);
        write("proc/self/cgroup", "0::/");
        write("proc/self/mountinfo", UNIFIED);
        write("sys/fs/cgroup/memory.max", 100 * MIB);
        write("sys/fs/cgroup/memory.current", "much");
        assertEquals(100 * MIB, bytes());
        write("sys/fs/cgroup/memory.current", 200 * MIB);
        assertEquals(0, bytes());
    }

    @Test
    void aBudgetLeavesAReserve() {
        assertEquals(0, new FreeMemory(0, "").budget());
        assertEquals(50 * MIB, new FreeMemory(100 * MIB, "").budget());
        assertEquals(512 * MIB, new FreeMemory(1024 * MIB, "").budget());
        assertEquals(2048 * MIB - 512 * MIB, new FreeMemory(2048 * MIB, "").budget());
        assertEquals(90 * 1024 * MIB, new FreeMemory(100 * 1024 * MIB + 5, "").budget());
        var random = new Random(3);
        long last = 0;
        for (long free : random.longs(5000, 0, 1L << 42).sorted().toArray()) {
            long budget = new FreeMemory(free, "").budget();
            assertTrue(budget >= last && budget <= free, "more free memory is no smaller budget");
            assertTrue(budget % MIB == 0 && budget >= free / 2 - MIB);
            last = budget;
        }
    }

    @Test
    void thisMachineHasSome() {
        assertTrue(FreeMemory.now().bytes() > 0);
    }
}
