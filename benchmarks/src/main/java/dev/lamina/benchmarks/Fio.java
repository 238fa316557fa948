package dev.lamina.benchmarks;

import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;

/** The reader that others measure drives with; each reading is a process of its own, which times itself. */
final class Fio implements RawReader {
    /** Lamina and the other readers read into huge pages. fio takes such memory only from what is set aside for it. */
    private static final String HUGE_PAGES = "--iomem=shmhuge";

    private final List<Path> files;
    private final boolean huge;

    /** Reads files with reads of 8 MiB, 8 in flight, past the page cache; into huge pages, if any are set aside. */
    Fio(List<Path> files) throws InterruptedException {
        this.files = files;
        this.huge = hasHugePages();
    }

    private static boolean hasHugePages() throws InterruptedException {
        try {
            run(List.of("fio", "--name=try", "--ioengine=null", "--rw=read", "--size=8M", "--bs=8M", "--iodepth=8",
                    HUGE_PAGES, "--output-format=json"));
            return true;
        } catch (IOException e) {
            return false;
        }
    }

    /** Whether there is such a program. */
    static boolean isThere() {
        try {
            return run(List.of("fio", "--version")).startsWith("fio");
        } catch (IOException e) {
            return false;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return false;
        }
    }

    @Override
    public String name() {
        return huge ? "fio 8x8M" : "fio 8x8M into ordinary pages";
    }

    @Override
    public Reading read(long bytes) throws IOException, InterruptedException {
        var names = files.stream().map(file -> file.toString().replace(":", "\\:")).collect(Collectors.joining(":"));
        var output = run(List.of("fio", "--name=read", "--filename=" + names, "--rw=read", "--direct=1",
                "--ioengine=io_uring", "--bs=8M", "--iodepth=8", "--file_service_type=sequential", "--io_size=" + bytes,
                huge ? HUGE_PAGES : "--iomem=malloc", "--output-format=json"));
        var json = output.substring(output.indexOf('{'), output.lastIndexOf('}') + 1);
        var job = JsonParser.parseString(json).getAsJsonObject()
                .getAsJsonArray("jobs").get(0).getAsJsonObject();
        var read = job.getAsJsonObject("read");
        double seconds = read.get("runtime").getAsDouble() / 1e3;
        double busy = (job.get("usr_cpu").getAsDouble() + job.get("sys_cpu").getAsDouble()) / 100;
        return new Reading(read.get("io_bytes").getAsLong(), seconds, busy * seconds);
    }

    private static String run(List<String> command) throws IOException, InterruptedException {
        var process = new ProcessBuilder(command).redirectErrorStream(true).start();
        var output = new String(process.getInputStream().readAllBytes());
        if (process.waitFor() != 0) {
            throw new IOException("fio failed: " + output);
        }
        return output;
    }

    @Override
    public void close() {}
}
