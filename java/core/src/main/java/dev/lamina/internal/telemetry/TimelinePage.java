package dev.lamina.internal.telemetry;

import com.google.gson.Gson;
import dev.lamina.internal.telemetry.Recorder.Swept;
import dev.lamina.internal.telemetry.Telemetry.Activity;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/** Makes the page of a timeline: {@code timeline.html} with data in it. */
final class TimelinePage implements Spans.Visitor {
    /** Blocks of a page; where there are more spans, neighbours become one block. */
    static final int MOST_BLOCKS = 60_000;

    /** Nanoseconds of the page's unit of time. */
    private static final int UNIT = 100;

    private final PanelMap panels;
    private final List<Swept> sweeps;
    private final long from;
    private final long to;
    private final Map<Lane, List<Block>> lanes = new TreeMap<>();

    /** What is drawn in one row. */
    private record Lane(Activity activity, int number) implements Comparable<Lane> {
        @Override
        public int compareTo(Lane other) {
            int byActivity = activity.compareTo(other.activity);
            return byActivity != 0 ? byActivity : Integer.compare(number, other.number);
        }
    }

    /**
     * Spans of one lane.
     *
     * @param panel the first panel
     * @param count spans in it
     */
    private record Block(int panel, int count, long bytes, long start, long end) {}

    TimelinePage(PanelMap panels, List<Swept> sweeps, long from, long to) {
        this.panels = panels;
        this.sweeps = sweeps;
        this.from = from;
        this.to = to;
    }

    @Override
    public void span(Activity activity, int lane, int panel, long bytes, long start, long end) {
        lanes.computeIfAbsent(new Lane(activity, lane), key -> new ArrayList<>())
                .add(new Block(panel, 1, bytes, Math.max(start, from), Math.min(end, to)));
    }

    String html(String title) {
        String template;
        try (var in = TimelinePage.class.getResourceAsStream("timeline.html")) {
            if (in == null) {
                throw new IllegalStateException("timeline.html is missing in this build");
            }
            template = new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        coarsen();
        return template.replace("\"DATA\"", data(title)); // the names in it are escaped for HTML too
    }

    /** Joins neighbours of the same stage, over ever longer gaps, until there are few enough blocks. */
    private void coarsen() {
        long longest = Math.max(UNIT, to - from);
        for (long gap = UNIT; blocks() > MOST_BLOCKS; gap *= 4) {
            boolean anyStage = gap > longest;
            for (var lane : lanes.values()) {
                join(lane, gap, anyStage);
            }
        }
    }

    private int blocks() {
        return lanes.values().stream().mapToInt(List::size).sum();
    }

    private void join(List<Block> lane, long gap, boolean anyStage) {
        int last = 0;
        for (int i = 1; i < lane.size(); i++) {
            var before = lane.get(last);
            var next = lane.get(i);
            boolean sameStage = panels.stage(before.panel) == panels.stage(next.panel);
            if (next.start - before.end <= gap && (anyStage || sameStage)) {
                lane.set(last, new Block(before.panel, before.count + next.count, before.bytes + next.bytes,
                        before.start, Math.max(before.end, next.end)));
            } else {
                lane.set(++last, next);
            }
        }
        lane.subList(Math.min(last + 1, lane.size()), lane.size()).clear();
    }

    private String data(String title) {
        var fields = new LinkedHashMap<String, Object>();
        fields.put("title", title);
        fields.put("stages", panels.stages());
        fields.put("units", Math.ceilDiv(to - from, (long) UNIT));
        fields.put("unit", UNIT / 1e9);
        fields.put("firstPanels", firstPanels());
        fields.put("sweeps", sweeps.stream()
                .map(sweep -> List.of(sweep.number(), sweep.rows(), units(sweep.start()), units(sweep.end())))
                .toList());
        var json = new Gson().toJson(fields); // as it is made, it escapes what HTML takes for its own
        var all = new StringBuilder(json).replace(json.length() - 1, json.length(), ",\"lanes\":[");
        for (var lane : lanes.entrySet()) {
            all.append(all.charAt(all.length() - 1) == '[' ? "" : ",").append("\n{\"kind\":\"")
                    .append(lane.getKey().activity.name().toLowerCase(Locale.ROOT))
                    .append("\",\"number\":").append(lane.getKey().number).append(",\"blocks\":[");
            appendBlocks(lane.getValue(), all);
            all.append("]}");
        }
        return all.append("]}").toString();
    }

    /** For each stage the first of its panels; of those without any, that of the stage after it. */
    private int[] firstPanels() {
        var first = new int[panels.stages().size()];
        int panel = 0;
        for (int stage = 0; stage < first.length; stage++) {
            first[stage] = panel;
            while (panel < panels.stageOf().length && panels.stageOf()[panel] == stage) {
                panel++;
            }
        }
        return first;
    }

    /** Five numbers each: units since the end of the one before, units it took, first panel, spans, bytes. */
    private void appendBlocks(List<Block> blocks, StringBuilder all) {
        long at = 0;
        for (var block : blocks) {
            long start = units(block.start);
            long end = units(block.end);
            all.append(all.charAt(all.length() - 1) == '[' ? "" : ",").append(start - at).append(',')
                    .append(end - start).append(',').append(block.panel).append(',').append(block.count).append(',')
                    .append(block.bytes);
            at = end;
        }
    }

    private long units(long nanos) {
        return Math.clamp((nanos - from) / UNIT, 0, Math.max(0, (to - from) / UNIT));
    }
}
