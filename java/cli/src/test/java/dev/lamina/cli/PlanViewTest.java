package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.MemoryPlan;
import dev.lamina.Rates;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What people and scripts are told of panels that the host's processor computes. */
class PlanViewTest {
    private static MemoryPlan plan(MemoryPlan.OnHost onHost) {
        var gpu = new MemoryPlan.OfDevice("cuda:0", 4000, 0, 0, 0, 300, 1000, 1000);
        return new MemoryPlan(9000, "as asked", 10, 0, 0, 0, 0, 2, 100, 6000, List.of(gpu), 10_000, 7000, false,
                List.of(), List.of(), MemoryPlan.OfExperts.NONE, onHost, Rates.assumedOfGpu(), 1);
    }

    @Test
    void panelsOfTheHostAreTold() {
        var plan = plan(new MemoryPlan.OnHost(4, 4000, 20e9, 10e9));
        var lines = PlanView.lines(plan).stream().map(List::getLast).toList();
        assertTrue(lines.contains("copies 5 kB: 5,000 bytes"), lines.toString());
        assertTrue(lines.contains("computes 4 kB: 4,000 bytes, 4 panels, where they are, with the processor at 20 GB/s; "
                + "the bus gives 10 GB/s"), lines.toString());
        var json = PlanView.toJson(plan);
        assertEquals(5000, json.get("copied_bytes_per_sweep").getAsLong());
        assertEquals(4, json.get("host_computed_panels").getAsInt());
        assertEquals(4000, json.get("host_computed_bytes_per_sweep").getAsLong());
        assertEquals(20_000_000_000L, json.get("host_compute_bytes_per_second").getAsLong());
    }

    @Test
    void nothingIsToldWhereThereAreNone() {
        var plan = plan(MemoryPlan.OnHost.NONE);
        assertFalse(PlanView.lines(plan).toString().contains("where they are"));
        assertEquals(9000, plan.copiedBytesPerSweep());
        assertEquals(MemoryPlan.Limit.DISK, plan.limit());
        assertEquals(MemoryPlan.Limit.COMPUTE, plan(new MemoryPlan.OnHost(4, 4000, 1e3, 10e9)).limit());
    }
}
