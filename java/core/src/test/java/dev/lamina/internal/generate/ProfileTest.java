package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.GenerationStats;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Profile;
import dev.lamina.Prompt;
import dev.lamina.SweepProgress;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a profile and the events of the flight recorder say of a model is what its figures say. */
class ProfileTest {
    private static final Path MODEL = Path.of("src/test/resources/fixtures/chat_qwen2");
    private static final GenerationOptions GREEDY =
            GenerationOptions.builder().maxTokens(5).greedy().ignoreEos(true).build();
    private static final ModelOptions PARTLY_RESIDENT =
            ModelOptions.builder().memory("700KiB").panel(4096).prefetch(1).profile(true).build();

    @TempDir
    Path temporary;

    private static LanguageModel open(ModelOptions options) {
        return LanguageModel.open(MODEL.toString(), options);
    }

    @Test
    void profilesAddUpToTheFiguresOfTheirCalls() {
        try (var model = open(PARTLY_RESIDENT)) {
            long weights = model.info().weightBytes();
            var before = model.profile();
            for (int call = 0; call < 2; call++) {
                var stats = model.generate("Hello, how are you?", GREEDY).stats();
                var profile = model.profile().since(before);
                before = model.profile();
                assertEquals(stats.sweeps(), profile.sweeps());
                assertEquals(stats.promptTokens() + stats.generatedTokens() - 1, profile.rows());
                assertEquals(5, profile.tokens());
                var total = profile.total();
                assertEquals(weights * stats.sweeps(), total.weightBytes());
                assertEquals(stats.diskBytes(), total.diskBytes());
                assertEquals(stats.diskWaitSeconds(), total.waitSeconds(), 1e-6);
                assertTrue(total.readBytes() > 0 && total.readSeconds() > 0, total.toString());
                assertTrue(total.computeSeconds() + total.copySeconds() <= profile.sweepSeconds(), profile.toString());
                if (call == 1) {
                    assertEquals((weights - stats.residentBytes()) * stats.sweeps(), total.diskBytes());
                }
            }
            assertEquals("embedding", before.stages().getFirst().name());
            assertEquals("head", before.stages().getLast().name());
            assertEquals(model.info().layers() + 2, before.stages().size());
            assertTrue(before.stages().stream().skip(1).allMatch(stage -> stage.computeSeconds() > 0),
                    before.toString());
            assertTrue(before.stages().getLast().copySeconds() > 0);
        }
    }

    @Test
    void progressTellsWhatCameFromDisk() {
        try (var model = open(PARTLY_RESIDENT)) {
            model.generate("Hello", GREEDY);
            var all = new ArrayList<SweepProgress>();
            var stats = model.generate("Hello", GREEDY, new GenerationListener() {
                @Override
                public void text(String piece) {}

                @Override
                public void progress(SweepProgress progress) {
                    all.add(progress);
                }
            }).stats();
            for (var progress : all) {
                assertEquals(stats.residentBytes(), progress.residentBytes());
                if (progress.bytesDone() == progress.bytesTotal()) {
                    assertEquals(progress.bytesTotal() - progress.residentBytes(), progress.diskBytes());
                }
            }
        }
    }

    @Test
    void thePageOfAModelReplacesAnOlderOne() throws IOException {
        var file = Files.writeString(temporary.resolve("page.html"), "old");
        try (var model = open(PARTLY_RESIDENT)) {
            model.generate("Hello", GREEDY);
            model.writeTimeline(file);
            assertTrue(Files.readString(file).contains("\"title\":\"chat_qwen2\""));
            var error = assertThrows(LaminaException.class, () -> model.writeTimeline(temporary));
            assertTrue(error.getMessage().contains("is a folder"), error.getMessage());
            assertThrows(LaminaException.class, () -> model.writeTimeline(temporary.resolve("no/page.html")));
        }
        try (var files = Files.list(temporary)) {
            assertEquals(List.of(file), files.toList(), "no temporary file is left");
        }
    }

    @Test
    void withoutTheOptionThereIsNoProfile() {
        try (var model = open(ModelOptions.defaults())) {
            for (var error : List.of(assertThrows(LaminaException.class, model::profile),
                    assertThrows(LaminaException.class, () -> model.writeTimeline(temporary.resolve("page"))))) {
                assertTrue(error.getMessage().contains("ModelOptions.profile"), error.getMessage());
            }
        }
    }

    @Test
    void aProfileOfAnotherModelIsRefused() {
        var other = new Profile(0, 0, 0, 0, 0, List.of());
        try (var model = open(PARTLY_RESIDENT)) {
            assertThrows(IllegalArgumentException.class, () -> model.profile().since(other));
        }
    }

    @Test
    void eventsAddUpToTheFigures() throws IOException {
        var file = temporary.resolve("events.jfr");
        GenerationStats stats;
        long weights;
        List<Integer> ids;
        try (var recording = new Recording(); var model = open(PARTLY_RESIDENT.toBuilder().profile(false).build())) {
            weights = model.info().weightBytes();
            recording.start();
            var answers = model.generate(List.of(Prompt.text("Hello"), Prompt.text("How are you?")), GREEDY);
            recording.stop();
            recording.dump(file);
            stats = answers.getFirst().stats();
            ids = new ArrayList<>();
            for (int i = 0; i < 5; i++) {
                for (var answer : answers) {
                    ids.add(answer.ids().get(i));
                }
            }
        }
        var events = RecordingFile.readAllEvents(file);
        var sweeps = named(events, "Sweep");
        assertEquals(stats.sweeps(), sweeps.size());
        assertEquals(stats.diskBytes(), sum(sweeps, "diskBytes"));
        var batches = named(events, "OpBatch");
        assertEquals(weights * stats.sweeps(), sum(batches, "bytes"));
        assertEquals(stats.diskBytes(), sum(batches, "diskBytes"));
        var last = sweeps.getLast();
        var inLast = batches.stream().filter(batch -> !batch.getStartTime().isBefore(last.getStartTime())).toList();
        assertEquals(weights - stats.residentBytes(), sum(inLast, "diskBytes"), "a sweep reads W - R");
        assertEquals(weights - stats.residentBytes(), last.getLong("diskBytes"));
        assertTrue(inLast.stream().allMatch(batch -> batch.getInt("rows") == 2));
        assertTrue(batches.stream().anyMatch(batch -> batch.getString("stage").equals("layer.001")));
        var tokens = named(events, "Token");
        assertEquals(ids, tokens.stream().map(token -> token.getInt("token")).toList());
        assertEquals(List.of(0, 1), tokens.stream().limit(2).map(token -> token.getInt("prompt")).toList());
    }

    @Test
    void readsAreEventsToo() throws IOException {
        for (var memory : List.of("64MiB", "700KiB")) {
            var file = temporary.resolve(memory + ".jfr");
            GenerationStats stats;
            try (var recording = new Recording()) {
                recording.start();
                try (var model = open(PARTLY_RESIDENT.toBuilder().memory(memory).build())) {
                    stats = model.generate("Hello", GREEDY).stats();
                }
                recording.stop();
                recording.dump(file);
            }
            var events = RecordingFile.readAllEvents(file);
            var reads = named(events, "PanelRead");
            long afterwards = sum(reads, "bytes") - stats.diskBytes() - stats.embeddingBytes() - stats.paddingBytes()
                    - stats.unusedReadAheadBytes();
            long ring = 2 * (4096 + 2 * 4096);
            assertTrue(afterwards >= 0 && afterwards <= (memory.equals("64MiB") ? 0 : ring), afterwards + " bytes");
            assertTrue(reads.stream().anyMatch(read -> read.getInt("panel") == -1
                    && read.getString("stage").equals("embedding")));
            assertTrue(reads.stream().allMatch(read -> read.getString("file").endsWith("model.safetensors")));
            for (int reader = 0; reader < 4; reader++) {
                int number = reader;
                var lane = reads.stream().filter(read -> read.getInt("reader") == number).toList();
                for (int i = 1; i < lane.size(); i++) {
                    assertFalse(lane.get(i).getStartTime().isBefore(lane.get(i - 1).getEndTime()), "they overlap");
                }
            }
            double waited = named(events, "PanelWait").stream().mapToLong(wait -> wait.getDuration().toNanos()).sum();
            assertTrue(waited > 0, "the first rows of the embedding at least");
        }
    }

    private static List<RecordedEvent> named(List<RecordedEvent> events, String name) {
        return events.stream()
                .filter(event -> event.getEventType().getName().equals("dev.lamina." + name))
                .sorted(Comparator.comparing(RecordedEvent::getStartTime))
                .toList();
    }

    private static long sum(List<RecordedEvent> events, String field) {
        return events.stream().mapToLong(event -> event.getLong(field)).sum();
    }
}
