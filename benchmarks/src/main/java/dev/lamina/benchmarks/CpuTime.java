package dev.lamina.benchmarks;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** CPU time of the threads of this process, by name, as Linux counts it. */
final class CpuTime {
    private static final Path TASKS = Path.of("/proc/self/task");

    private CpuTime() {}

    /**
     * CPU seconds that all live threads with such names have used, those of the kernel on their behalf included.
     *
     * @param prefixes of names, of which the kernel keeps 15 characters
     * @return seconds; NaN on systems that do not tell
     */
    static double of(String... prefixes) {
        if (!Files.isReadable(TASKS.resolve(ProcessHandle.current().pid() + "/schedstat"))) {
            return Double.NaN;
        }
        long nanos = 0;
        try (var tasks = Files.list(TASKS)) {
            for (var task : tasks.toList()) {
                nanos += nanos(task, prefixes);
            }
        } catch (IOException e) {
            return Double.NaN;
        }
        return nanos / 1e9;
    }

    private static long nanos(Path task, String... prefixes) {
        try {
            var name = Files.readString(task.resolve("comm"));
            for (var prefix : prefixes) {
                if (name.startsWith(prefix)) {
                    var fields = Files.readString(task.resolve("schedstat"));
                    return Long.parseLong(fields.substring(0, fields.indexOf(' ')));
                }
            }
        } catch (IOException e) {
            // The thread has ended since the list was made.
        }
        return 0;
    }
}
