package dev.lamina.internal.telemetry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class RecorderTest {
    private static final String HOSTILE = "</script><script>alert('&')</script>\u2028<!--\"";

    private static final PanelMap PANELS = new PanelMap(List.of("embedding", "layer.000", "layer.001", "head"),
            new int[] {1, 1, 2, 2, 3}, List.of("a", "b"), new int[] {0, 0, 1, 1, 1}, 1);

    /** A sweep of five panels: each is read by one of two readers, waited for, computed. Returns when it ends. */
    private static long sweep(Recorder recorder, long start) {
        long now = start;
        for (int panel = 0; panel < 5; panel++) {
            recorder.read(panel, panel % 2, 1000, now, now + 400);
            recorder.waited(panel, now + 100, now + 400);
            recorder.computed(panel, 1, 900, panel == 0 ? 0 : 900, now + 400, now + 1000);
            now += 1000;
        }
        recorder.copied(4, 64, now, now + 50);
        recorder.swept(0, 1, 3600, start, now + 50);
        recorder.sampled(0, 7, now + 50, now + 150);
        return now + 150;
    }

    @Test
    void aPageIsMadeOfACopyAndSpansGoOn() {
        var spans = new Spans();
        for (int i = 0; i < Spans.MOST + 5; i++) {
            spans.add(Telemetry.Activity.READ, 0, i, 1, i, i + 1);
        }
        var copy = new Spans(spans);
        spans.add(Telemetry.Activity.READ, 0, -7, 1, Spans.MOST + 5, Spans.MOST + 6);
        var panels = new ArrayList<Integer>();
        copy.visit(Long.MIN_VALUE, Long.MAX_VALUE, (activity, lane, panel, bytes, start, end) -> panels.add(panel));
        assertEquals(IntStream.range(5, Spans.MOST + 5).boxed().toList(), panels);
        assertEquals(6, copy.completeFrom());
    }

    @Test
    void sumsAreThoseOfItsStages() {
        var recorder = new Recorder(PANELS);
        recorder.read(Telemetry.LOOKUP, 0, 10, 0, 20);
        recorder.waited(Telemetry.LOOKUP, 0, 20);
        long now = sweep(recorder, 1000);
        var first = recorder.profile();
        sweep(recorder, now);
        var second = recorder.profile().since(first);
        assertEquals(List.of("embedding", "layer.000", "layer.001", "head"),
                first.stages().stream().map(stage -> stage.name()).toList());
        assertEquals(10, first.stages().getFirst().readBytes());
        for (var profile : List.of(first, second)) {
            assertEquals(1, profile.sweeps());
            assertEquals(1, profile.rows());
            assertEquals(1, profile.tokens());
            assertEquals(5050e-9, profile.sweepSeconds(), 1e-12);
            assertEquals(100e-9, profile.sampleSeconds(), 1e-12);
            var layer = profile.stages().get(1);
            assertEquals(1800, layer.weightBytes());
            assertEquals(900, layer.diskBytes());
            assertEquals(2000, layer.readBytes());
            assertEquals(800e-9, layer.readSeconds(), 1e-12);
            assertEquals(600e-9, layer.waitSeconds(), 1e-12);
            assertEquals(1200e-9, layer.computeSeconds(), 1e-12);
            assertEquals(50e-9, profile.stages().getLast().copySeconds(), 1e-12);
            assertEquals(4500, profile.total().weightBytes());
            assertEquals(3600, profile.total().diskBytes());
        }
        assertEquals(0, second.stages().getFirst().readBytes());
    }

    @Test
    void readsThatOverlapCountOnce() {
        var recorder = new Recorder(PANELS);
        recorder.read(0, 0, 100, 0, 1000);
        recorder.read(1, 1, 100, 500, 1200);
        recorder.read(2, 0, 100, 1000, 1300);
        assertEquals(1200e-9, recorder.profile().stages().get(1).readSeconds(), 1e-12);
        assertEquals(100e-9, recorder.profile().stages().get(2).readSeconds(), 1e-12);
        assertEquals(1300e-9, recorder.profile().total().readSeconds(), 1e-12);
    }

    private static JsonObject data(String page) {
        int begin = page.indexOf("const data = ") + "const data = ".length();
        return JsonParser.parseString(page.substring(begin, page.indexOf(";\n", begin))).getAsJsonObject();
    }

    private static JsonObject lane(JsonObject data, String kind, int number) {
        return data.getAsJsonArray("lanes").asList().stream().map(JsonElement::getAsJsonObject)
                .filter(lane -> lane.get("kind").getAsString().equals(kind) && lane.get("number").getAsInt() == number)
                .findFirst().orElseThrow();
    }

    private static int blocks(JsonObject data) {
        return data.getAsJsonArray("lanes").asList().stream()
                .mapToInt(lane -> lane.getAsJsonObject().getAsJsonArray("blocks").size() / 5).sum();
    }

    @Test
    void thePageShowsTheLastSweepsAndNeedsNothingElse() {
        var panels = new PanelMap(List.of("embedding", HOSTILE, "layer.001", "head"), PANELS.stageOf(),
                PANELS.files(), PANELS.fileOf(), 1);
        var recorder = new Recorder(panels);
        long now = 12_345_000;
        for (int i = 0; i < 5; i++) {
            now = sweep(recorder, now);
        }
        var page = recorder.timeline(HOSTILE);
        assertTrue(page.startsWith("<!DOCTYPE html>") && page.endsWith("</html>\n"));
        for (var tag : List.of("<script>", "</script>", "<style>", "</style>", "<!--")) {
            assertEquals(tag.equals("<!--") ? 0 : 1, page.split(tag, -1).length - 1, tag);
        }
        for (var reference : List.of("http:", "https:", "//www", "src=", "href=", "url(", "import ")) {
            assertFalse(page.contains(reference), reference);
        }
        assertFalse(page.contains("\u2028"), "a line separator would end a string of an old browser");
        var data = data(page);
        assertEquals(HOSTILE, data.get("title").getAsString());
        assertEquals(HOSTILE, data.getAsJsonArray("stages").get(1).getAsString());
        assertEquals("[0,0,2,4]", data.get("firstPanels").toString());
        assertEquals("[[3,1,0,50],[4,1,51,102],[5,1,103,153]]", data.get("sweeps").toString());
        assertEquals(154, data.get("units").getAsLong());
        assertTrue(lane(data, "read", 0).get("blocks").toString().startsWith("[0,4,0,1,1000,16,4,2,1,1000,"),
                page);
        assertTrue(lane(data, "wait", 0).get("blocks").toString().startsWith("[1,3,0,1,0,7,3,1,1,0,"), page);
        assertTrue(lane(data, "compute", 0).get("blocks").toString().startsWith("[4,6,0,1,900,4,6,1,1,900,"), page);
        assertEquals(15, lane(data, "copy", 0).getAsJsonArray("blocks").size());
        assertEquals(10, lane(data, "sample", 0).getAsJsonArray("blocks").size(), "those between the sweeps");
    }

    @Test
    void withoutASweepThePageIsEmpty() {
        var data = data(new Recorder(PANELS).timeline("nothing"));
        assertEquals("[]", data.get("sweeps").toString());
        assertEquals(0, blocks(data));
    }

    @Test
    void thePageStaysSmall() {
        // one sweep as of a model of 400 GB, in panels of 8 MiB, read by 8 readers
        int count = 50_000;
        var stageOf = new int[count];
        for (int i = 0; i < count; i++) {
            stageOf[i] = 1 + 2 * i / count;
        }
        var recorder = new Recorder(new PanelMap(PANELS.stages(), stageOf, List.of("a"), new int[count], 0));
        for (int sweep = 0; sweep < 3; sweep++) {
            long start = sweep * count * 3_000_000L;
            for (int panel = 0; panel < count; panel++) {
                long now = start + panel * 3_000_000L;
                recorder.read(panel, panel % 8, 4_000_000, now - 15_000_000, now + 1_000_000);
                recorder.read(panel, (panel + 4) % 8, 4_000_000, now - 15_000_000, now + 1_000_000);
                recorder.waited(panel, now, now + 1_000_000);
                recorder.computed(panel, 1, 8_000_000, 8_000_000, now + 1_000_000, now + 2_500_000);
            }
            recorder.swept(sweep, 1, count * 8_000_000L, start, start + count * 3_000_000L);
        }
        var page = recorder.timeline("huge");
        assertTrue(page.length() < 4_000_000, () -> page.length() + " characters");
        var data = data(page);
        assertTrue(blocks(data) <= TimelinePage.MOST_BLOCKS && blocks(data) > TimelinePage.MOST_BLOCKS / 20,
                () -> blocks(data) + " blocks");
        assertEquals(1, data.getAsJsonArray("sweeps").size(), "only the last one is kept whole");
        double bytes = 0;
        var blocks = lane(data, "compute", 0).getAsJsonArray("blocks");
        for (int i = 4; i < blocks.size(); i += 5) {
            bytes += blocks.get(i).getAsDouble();
        }
        assertEquals(count * 8e6, bytes, 1, "joined blocks have the bytes of all");
    }

    @Test
    void ofASweepThatIsTooLongTheEndIsShown() {
        var recorder = new Recorder(PANELS);
        int count = Spans.MOST + 1000;
        for (int i = 0; i < count; i++) {
            recorder.computed(i % 5, 1, 1, 0, 1000L * i, 1000L * i + 900);
        }
        recorder.swept(0, 1, 0, 0, 1000L * count);
        var data = data(recorder.timeline("long"));
        assertEquals(10L * Spans.MOST, data.get("units").getAsDouble(), 20);
        assertTrue(blocks(data) > 0);
    }
}
