package dev.lamina.internal.generate;

import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.stream.DataFile;
import dev.lamina.internal.stream.Extent;
import dev.lamina.internal.stream.Panel;
import dev.lamina.internal.stream.ResidentPanels;
import dev.lamina.internal.stream.StreamOptions;
import dev.lamina.internal.stream.Streamer;
import dev.lamina.internal.telemetry.Telemetry;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;

/** Reads some ranges of files one after the other, while a model is opened. */
final class TensorReading implements AutoCloseable {
    private static final StreamOptions READING =
            StreamOptions.defaults().withPrefetch(8).withReaders(2).withRowCacheBytes(0);

    private final ResidentPanels none;
    private final Streamer streamer;

    /** The pieces of a range, of so many bytes each but for the last. */
    static List<Extent> pieces(Extent extent, long bytes) {
        var pieces = new ArrayList<Extent>();
        for (long done = 0; done < extent.bytes(); done += bytes) {
            pieces.add(new Extent(extent.file(), extent.offset() + done, Math.min(bytes, extent.bytes() - done)));
        }
        return pieces;
    }

    /** Begins to read; there is one range at least. */
    TensorReading(List<DataFile> files, List<Extent> extents, HostMemory memory) {
        none = new ResidentPanels(files, extents, new BitSet(), memory);
        try {
            streamer = new Streamer(files, extents, none, READING, memory, Telemetry.NONE);
        } catch (Throwable e) {
            none.close();
            throw e;
        }
    }

    /** The next range, to be released. */
    Panel next() throws IOException {
        try {
            return streamer.next();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new InterruptedIOException("interrupted while the model was opened");
        }
    }

    @Override
    public void close() {
        streamer.close();
        none.close();
    }
}
