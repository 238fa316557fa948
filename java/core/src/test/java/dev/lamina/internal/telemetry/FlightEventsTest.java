package dev.lamina.internal.telemetry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.telemetry.Telemetry.Activity;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FlightEventsTest {
    @TempDir
    Path temporary;

    private final Telemetry events = Telemetry.flightEvents(new PanelMap(List.of("embedding", "layer.000"),
            new int[] {1, 1}, List.of("shard a", "shard b"), new int[] {0, 1}, 1));

    private List<RecordedEvent> record(Runnable work) throws IOException {
        var file = temporary.resolve("events.jfr");
        try (var recording = new Recording()) {
            recording.start(); // as it is: the events need no setting to be on
            work.run();
            recording.stop();
            recording.dump(file);
        }
        return RecordingFile.readAllEvents(file).stream()
                .filter(event -> event.getEventType().getName().startsWith("dev.lamina."))
                .toList();
    }

    @Test
    void eachThingIsAnEvent() throws IOException {
        assertInstanceOf(FlightEvents.class, events);
        var recorded = record(() -> {
            events.begin(Activity.SWEEP, Telemetry.SWEEP_LANE);
            events.begin(Activity.READ, 3);
            events.begin(Activity.READ, 4);
            events.read(1, 3, 4096, 0, 1);
            events.read(Telemetry.LOOKUP, 4, 512, 0, 1);
            events.begin(Activity.WAIT, Telemetry.SWEEP_LANE);
            events.waited(1, 0, 1);
            events.begin(Activity.COMPUTE, Telemetry.SWEEP_LANE);
            events.computed(1, 2, 4000, 3000, 0, 1);
            events.begin(Activity.COPY, Telemetry.SWEEP_LANE);
            events.copied(1, 5, 0, 1);
            events.swept(6, 2, 3000, 0, 1);
            events.begin(Activity.SAMPLE, Telemetry.SWEEP_LANE);
            events.sampled(1, 77, 0, 1);
        });
        assertEquals(List.of("PanelRead", "PanelRead", "PanelWait", "OpBatch", "Sweep", "Token"),
                recorded.stream().map(event -> event.getEventType().getName().substring("dev.lamina.".length()))
                        .toList());
        for (var event : recorded) {
            assertFalse(event.getDuration().isNegative(), event.toString());
            assertEquals(Thread.currentThread().getName(), event.getThread().getJavaName());
            assertEquals(List.of("Lamina"), event.getEventType().getCategoryNames());
            assertNotNull(event.getEventType().getDescription());
            event.getFields().forEach(field -> assertNotNull(field.getLabel(), field.getName()));
        }
        var read = recorded.getFirst();
        assertEquals(1, read.getInt("panel"));
        assertEquals("layer.000", read.getString("stage"));
        assertEquals("shard b", read.getString("file"));
        assertEquals(3, read.getInt("reader"));
        assertEquals(4096, read.getLong("bytes"));
        assertEquals("embedding", recorded.get(1).getString("stage"));
        assertEquals(1, recorded.get(2).getInt("panel"));
        assertEquals(2, recorded.get(3).getInt("rows"));
        assertEquals(4000, recorded.get(3).getLong("bytes"));
        assertEquals(3000, recorded.get(3).getLong("diskBytes"));
        assertEquals(6, recorded.get(4).getLong("sweep"));
        assertEquals(3000, recorded.get(4).getLong("diskBytes"));
        assertEquals(77, recorded.get(5).getInt("token"));
        assertFalse(read.getStartTime().isBefore(recorded.get(4).getStartTime()), "the sweep began before");
    }

    @Test
    void whatBeganBeforeTheRecordingIsNoEvent() throws IOException {
        events.begin(Activity.SAMPLE, Telemetry.SWEEP_LANE);
        assertEquals(List.of(), record(() -> events.sampled(0, 1, 0, 1)));
    }

    @Test
    void whatFailedIsForgottenWhenTheNextBegins() throws IOException {
        var recorded = record(() -> {
            for (int i = 0; i < 3; i++) {
                events.begin(Activity.SWEEP, Telemetry.SWEEP_LANE);
            }
            events.swept(2, 1, 0, 0, 1);
            events.swept(3, 1, 0, 0, 1);
            events.begin(Activity.READ, 1 << 20);
            events.read(0, 1 << 20, 1, 0, 1);
        });
        assertEquals(1, recorded.size());
    }
}
