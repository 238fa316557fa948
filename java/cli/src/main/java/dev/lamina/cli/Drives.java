package dev.lamina.cli;

import dev.lamina.ModelOptions;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.stream.DiskRate;
import dev.lamina.internal.stream.DriveProbe;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** How fast the folders of a model can be read: one, or several at the same time. */
record Drives(List<Drive> all) {
    private static final long PROBE_MEMORY = 64L << 20;
    private static final long MOST_BYTES_TO_READ = 4L << 30;
    private static final long ENOUGH_BYTES_TO_READ = 64L << 20;
    private static final double MOST_SECONDS_TO_READ = 2;

    /**
     * One folder.
     *
     * @param bytes of its weight files
     * @param reading how they are best read
     * @param bytesPerSecond the rate
     * @param certain whether enough was read to be sure of it
     */
    record Drive(Path folder, long bytes, DriveProbe.Choice reading, double bytesPerSecond, boolean certain) {}

    /** Measures the drives of a model. */
    static Drives measure(ModelFiles model, ModelOptions.Io io, HostMemory host)
            throws IOException, InterruptedException {
        var probe = new DriveProbe(host, PROBE_MEMORY, Device.cacheFolder().resolve(DriveProbe.FILE_NAME));
        var readings = new ArrayList<DriveProbe.Choice>();
        for (int i = 0; i < model.checkpoint().folders().size(); i++) {
            readings.add(probe.choose(model.checkpoint().files(i), io, true));
        }
        var drives = new ArrayList<Drive>();
        if (readings.size() == 1 && readings.getFirst().bytesPerSecond() > 0) {
            var reading = readings.getFirst();
            drives.add(new Drive(model.directory(), model.folderBytes(0), reading, reading.bytesPerSecond(), true));
            return new Drives(drives);
        }
        // all at the same time: they may share a bus, or be one drive
        try (var threads = Executors.newFixedThreadPool(readings.size())) {
            var measuring = new ArrayList<Future<DiskRate>>();
            for (int i = 0; i < readings.size(); i++) {
                var files = model.checkpoint().files(i);
                var method = readings.get(i).method();
                measuring.add(threads.submit(() ->
                        DiskRate.measure(files, method, 0, MOST_BYTES_TO_READ, MOST_SECONDS_TO_READ, host)));
            }
            for (int i = 0; i < readings.size(); i++) {
                var rate = measuring.get(i).get();
                drives.add(new Drive(model.checkpoint().folders().get(i), model.folderBytes(i), readings.get(i),
                        rate.bytesPerSecond(), rate.bytes() >= ENOUGH_BYTES_TO_READ));
            }
            return new Drives(drives);
        } catch (ExecutionException e) {
            if (e.getCause() instanceof RuntimeException failure) {
                throw failure;
            }
            throw new IOException(e.getCause().getMessage(), e.getCause());
        }
    }

    /** The rate of all together: reading ends when the slowest has read its part. */
    double bytesPerSecond() {
        double seconds = all.stream().mapToDouble(drive -> drive.bytes / drive.bytesPerSecond).max().orElseThrow();
        return all.stream().mapToLong(Drive::bytes).sum() / seconds;
    }
}
