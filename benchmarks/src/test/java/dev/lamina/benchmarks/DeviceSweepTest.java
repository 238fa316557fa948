package dev.lamina.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.internal.runtime.Device;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The figures fit together, on a device whose times mean nothing. */
class DeviceSweepTest {
    private static final String DEVICE = "cuda-emulated";
    private static final long SIZE = 4_000_000;

    @TempDir
    private Path work;

    private static void needsTheBackend() {
        try {
            Device.open(DEVICE, 1, false).close();
        } catch (LaminaException e) {
            Assumptions.assumeFalse(String.valueOf(e.getMessage()).contains("this build has no"), e.getMessage());
            throw e;
        }
    }

    @Test
    void figuresFitTogether() throws IOException, InterruptedException {
        needsTheBackend();
        var model = SyntheticCheckpoint.write(work, SIZE);
        long least;
        long weights;
        var options = ModelOptions.builder().device(DEVICE).panel(64 << 10).context(4).deviceMemory(2 << 20).build();
        try (var opened = LanguageModel.open(model.toString(), options)) {
            least = opened.memoryNeeds(4).least();
            weights = opened.info().weightBytes();
        }
        var json = work.resolve("report.json");
        DeviceSweep.run("--device", DEVICE, "--work", work.toString(), "--size", String.valueOf(SIZE), "--budgets",
                "2MiB,3MiB", "--host-memory", String.valueOf(least + (1 << 20)), "--panel", "64KiB", "--area", "256KiB",
                "--json", json.toString(), "--commit", "none");

        var report = new Gson().fromJson(Files.readString(json), DeviceSweep.Report.class);
        assertEquals("DeviceSweep", report.program());
        assertEquals("none", report.commit());
        assertEquals(SIZE, report.size());
        assertEquals(SIZE, report.checkpointBytes(), 0.05 * SIZE);
        assertNull(report.failure());
        assertEquals(List.of("2 disk", "2 host", "3 disk", "3 host"),
                report.cases().stream().map(each -> (each.deviceBudget() >> 20) + " " + each.source()).toList());
        for (var each : report.cases()) {
            assertEquals(weights, each.weightBytes());
            assertTrue(each.busBytes() > 0 && each.busBytes() < weights, each.toString());
            assertEquals(each.source().equals("disk"), each.diskBytes() > 0, each.toString());
            assertTrue(each.diskBytes() <= each.busBytes(), each.toString());
            assertTrue(each.leastSeconds() > 0 && each.leastSeconds() <= each.seconds()
                    && each.seconds() <= each.mostSeconds(), each.toString());
            double disk = each.diskBytes() == 0 ? 0 : each.diskBytes() / each.diskRate();
            double bus = each.busBytes() / each.busRate();
            double compute = each.weightBytes() / each.computeRate();
            assertEquals(Math.max(disk, Math.max(bus, compute)), each.floorSeconds(), 1e-9);
            assertEquals(each.floorSeconds(), switch (each.limit()) {
                case "disk" -> disk;
                case "bus" -> bus;
                default -> compute;
            }, 1e-9);
            assertEquals(each.seconds() / each.floorSeconds(), each.ratio(), 1e-9);
            assertTrue(each.peakHostBytes() > 0 && each.peakHostBytes() <= each.hostBudget(), each.toString());
        }
        for (int i = 0; i < 2; i++) { // more of it stays on the device
            assertTrue(report.cases().get(i + 2).busBytes() < report.cases().get(i).busBytes(), report.toString());
        }
    }

    @Test
    void whatWasMeasuredBeforeAFailureIsReported() throws IOException {
        needsTheBackend();
        var json = work.resolve("report.json");
        var failure = assertThrows(LaminaException.class, () -> run(json, "2MiB,1KiB", "256KiB", "fast"));

        var report = new Gson().fromJson(Files.readString(json), DeviceSweep.Report.class);
        assertEquals(List.of("disk", "host"), report.cases().stream().map(DeviceSweep.Case::source).toList());
        assertEquals("fast", report.mode());
        assertEquals(failure.toString(), report.failure());
    }

    @Test
    void aBudgetHasToFitBesideWhatTheRatesAreMeasuredWith() {
        needsTheBackend();
        long free;
        try (var device = Device.open(DEVICE, 1, false)) {
            free = device.info().freeBytes();
        }
        var json = work.resolve("report.json");
        var failure = assertThrows(IllegalStateException.class,
                () -> run(json, String.valueOf(free - (128 << 10)), "256KiB", "exact"));
        assertTrue(String.valueOf(failure.getMessage()).contains("nothing was measured"), failure.getMessage());
        assertTrue(Files.notExists(json));
    }

    private void run(Path json, String budgets, String area, String mode) throws IOException, InterruptedException {
        DeviceSweep.run("--device", DEVICE, "--mode", mode, "--work", work.toString(), "--size", String.valueOf(SIZE),
                "--budgets", budgets, "--host-memory", "3MiB", "--panel", "64KiB", "--area", area, "--json",
                json.toString());
    }

    @Test
    void anUnknownOptionIsNamed() {
        var unknown = assertThrows(IllegalArgumentException.class, () -> DeviceSweep.run("--sizes", "1GB"));
        assertTrue(String.valueOf(unknown.getMessage()).contains("--sizes"), unknown.getMessage());
        assertThrows(IllegalArgumentException.class, () -> DeviceSweep.run("--size"));
    }
}
