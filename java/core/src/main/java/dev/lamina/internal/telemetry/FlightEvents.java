package dev.lamina.internal.telemetry;

import java.util.concurrent.atomic.AtomicReferenceArray;
import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import org.jspecify.annotations.Nullable;

/** Emits an event of the Java Flight Recorder for each thing it hears of. */
final class FlightEvents implements Telemetry {
    /** Reads of lanes beyond these are not told; no streamer has so many. */
    private static final int LANES = 1 << 12;

    private static final int SWEEP_LANES = Activity.values().length;

    private final PanelMap panels;
    private final AtomicReferenceArray<@Nullable Event> begun = new AtomicReferenceArray<>(SWEEP_LANES + LANES);

    FlightEvents(PanelMap panels) {
        this.panels = panels;
    }

    /** A read of weights. */
    @Name("dev.lamina.PanelRead")
    @Label("Panel Read")
    @Category("Lamina")
    @Description("A request of weights, a panel or a piece of one, or of rows of the embedding, was read from a file")
    @StackTrace(false)
    static final class PanelRead extends Event {
        @Label("Panel")
        @Description("Place of the panel in the read cycle; -1: rows of the embedding")
        int panel;

        @Label("Stage")
        String stage = "";

        @Label("File")
        String file = "";

        @Label("Reader")
        @Description("Number of the reader; requests of one reader do not overlap")
        int reader;

        @Label("Bytes")
        @Description("Bytes that came from the file, those read only for the sake of alignment included")
        @DataAmount
        long bytes;
    }

    /** A stall. */
    @Name("dev.lamina.PanelWait")
    @Label("Panel Wait")
    @Category("Lamina")
    @Description("The computation waited for a panel, or for rows of the embedding")
    @StackTrace(false)
    static final class PanelWait extends Event {
        @Label("Panel")
        @Description("Place of the panel in the read cycle; -1: rows of the embedding")
        int panel;

        @Label("Stage")
        String stage = "";
    }

    /** A computation. */
    @Name("dev.lamina.OpBatch")
    @Label("Op Batch")
    @Category("Lamina")
    @Description("The ops that a panel feeds were computed")
    @StackTrace(false)
    static final class OpBatch extends Event {
        @Label("Panel")
        @Description("Place of the panel in the read cycle; -1: the ops before the first panel")
        int panel;

        @Label("Stage")
        String stage = "";

        @Label("Rows")
        @Description("Token positions that were computed together")
        int rows;

        @Label("Bytes")
        @Description("Bytes of weights in the panel")
        @DataAmount
        long bytes;

        @Label("Disk Bytes")
        @Description("How many of them came from disk for this sweep: 0 where the panel stays in memory")
        @DataAmount
        long diskBytes;
    }

    /** A sweep. */
    @Name("dev.lamina.Sweep")
    @Label("Sweep")
    @Category("Lamina")
    @Description("One trip through all weights")
    @StackTrace(false)
    static final class Sweep extends Event {
        @Label("Sweep")
        @Description("Number of the sweep in its call, from 0")
        long sweep;

        @Label("Rows")
        @Description("Token positions that moved one step")
        int rows;

        @Label("Disk Bytes")
        @Description("Bytes of weights that came from disk for this sweep")
        @DataAmount
        long diskBytes;
    }

    /** A token. */
    @Name("dev.lamina.Token")
    @Label("Token")
    @Category("Lamina")
    @Description("A token was chosen from logits")
    @StackTrace(false)
    static final class Token extends Event {
        @Label("Prompt")
        @Description("Index of its prompt in the call")
        int prompt;

        @Label("Token")
        @Description("Its id")
        int token;
    }

    @Override
    public void begin(Activity activity, int lane) {
        int place = place(activity, lane);
        if (place >= begun.length()) {
            return;
        }
        var event = switch (activity) {
            case READ -> new PanelRead();
            case WAIT -> new PanelWait();
            case COMPUTE -> new OpBatch();
            case SWEEP -> new Sweep();
            case SAMPLE -> new Token();
            case COPY -> null;
        };
        if (event != null && event.isEnabled()) {
            event.begin();
            begun.setPlain(place, event);
        }
    }

    private static int place(Activity activity, int lane) {
        return activity == Activity.READ ? SWEEP_LANES + lane : activity.ordinal();
    }

    /** Takes back what was begun, if it is to be recorded. */
    private <E extends Event> @Nullable E ended(Class<E> type, Activity activity, int lane) {
        int place = place(activity, lane);
        var event = place < begun.length() ? begun.getPlain(place) : null;
        if (event == null) {
            return null;
        }
        begun.setPlain(place, null);
        event.end();
        return event.shouldCommit() ? type.cast(event) : null;
    }

    @Override
    public void read(int panel, int reader, long bytes, long startNanos, long endNanos) {
        var event = ended(PanelRead.class, Activity.READ, reader);
        if (event != null) {
            event.panel = panel;
            event.stage = panels.stageName(panel);
            event.file = panels.file(panel);
            event.reader = reader;
            event.bytes = bytes;
            event.commit();
        }
    }

    @Override
    public void waited(int panel, long startNanos, long endNanos) {
        var event = ended(PanelWait.class, Activity.WAIT, SWEEP_LANE);
        if (event != null) {
            event.panel = panel;
            event.stage = panels.stageName(panel);
            event.commit();
        }
    }

    @Override
    public void computed(int panel, int rows, long bytes, long diskBytes, long startNanos, long endNanos) {
        var event = ended(OpBatch.class, Activity.COMPUTE, SWEEP_LANE);
        if (event != null) {
            event.panel = panel;
            event.stage = panels.stageName(panel);
            event.rows = rows;
            event.bytes = bytes;
            event.diskBytes = diskBytes;
            event.commit();
        }
    }

    @Override
    public void swept(long sweep, int rows, long diskBytes, long startNanos, long endNanos) {
        var event = ended(Sweep.class, Activity.SWEEP, SWEEP_LANE);
        if (event != null) {
            event.sweep = sweep;
            event.rows = rows;
            event.diskBytes = diskBytes;
            event.commit();
        }
    }

    @Override
    public void sampled(int prompt, int token, long startNanos, long endNanos) {
        var event = ended(Token.class, Activity.SAMPLE, SWEEP_LANE);
        if (event != null) {
            event.prompt = prompt;
            event.token = token;
            event.commit();
        }
    }
}
