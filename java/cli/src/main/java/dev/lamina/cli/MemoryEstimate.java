package dev.lamina.cli;

import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Stage;
import dev.lamina.internal.model.Value;
import dev.lamina.internal.stream.DataFile;
import dev.lamina.internal.stream.Extent;
import dev.lamina.internal.stream.IoMode;
import dev.lamina.internal.stream.Placement;
import dev.lamina.internal.stream.StreamOptions;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;

/**
 * What a model does with a memory budget, as far as can be told before it runs: panels are cut and placed as they will
 * be; activations are counted without the reuse of their memory, so that no figure is too good.
 */
final class MemoryEstimate implements AutoCloseable {
    private static final long DEFAULT_PANEL = 16L << 20;
    private static final int PANELS_IN_BUDGET = 16;

    private final ModelFiles model;
    private final Map<Path, Integer> numbers = new LinkedHashMap<>();
    private final List<DataFile> files = new ArrayList<>();
    private final long fixedBytes;

    private MemoryEstimate(ModelFiles model, int positions) {
        this.model = model;
        this.fixedBytes = fixedBytes(model, positions);
    }

    /**
     * Opens the weight files.
     *
     * @param positions of the KV cache
     */
    static MemoryEstimate open(ModelFiles model, int positions) throws IOException {
        var estimate = new MemoryEstimate(model, positions);
        try {
            for (var tensor : model.tensors()) {
                if (!estimate.numbers.containsKey(tensor.file())) {
                    estimate.numbers.put(tensor.file(), estimate.files.size());
                    estimate.files.add(DataFile.open(tensor.file(), IoMode.AUTO,
                            model.checkpoint().checksums(tensor.file())));
                }
            }
            return estimate;
        } catch (IOException | RuntimeException e) {
            estimate.close();
            throw e;
        }
    }

    /** Vectors, KV cache, and the activations of one row. */
    private static long fixedBytes(ModelFiles model, int positions) {
        var program = model.program();
        long vectors = program.vectors().stream()
                .map(model.checkpoint()::tensor)
                .mapToLong(tensor -> tensor.bytes() / tensor.dtype().bytes() * Float.BYTES)
                .sum();
        long activations = program.stages().stream().mapToLong(MemoryEstimate::activationBytes).max().orElse(0);
        long logits = 2L * Float.BYTES * program.vocabulary();
        return vectors + activations + logits + positions * model.kvBytesPerToken();
    }

    private static long activationBytes(Stage stage) {
        var values = new HashSet<Value>();
        for (Op op : stage.ops()) {
            Stream.concat(Stream.ofNullable(op.out()), op.reads().stream()).forEach(values::add);
        }
        return values.stream().mapToLong(value -> (long) Float.BYTES * value.width()).sum();
    }

    /** Whether all files can be read past the page cache. */
    boolean direct() {
        return files.stream().allMatch(DataFile::direct);
    }

    /** The weight files. */
    List<Path> paths() {
        return files.stream().map(DataFile::path).toList();
    }

    /** The least budget that can hold the model, to the next {@code step} bytes. */
    long minimum(long step) {
        long low = 0;
        long high = 1;
        while (!fits(high * step)) {
            high *= 2;
        }
        while (high - low > 1) {
            long middle = low + (high - low) / 2;
            if (fits(middle * step)) {
                high = middle;
            } else {
                low = middle;
            }
        }
        return high * step;
    }

    /** The least budget that holds all weights in memory, to the next {@code step} bytes. */
    long whole(long step) {
        long memory = Math.max(minimum(step), Math.ceilDiv(fixedBytes + model.sweepBytes(), step) * step);
        while (residentBytes(memory) < model.sweepBytes()) {
            memory += Math.max(step, memory / 256 / step * step);
        }
        return memory;
    }

    /** Bytes of weights that stay in memory under a budget that the model fits. */
    long residentBytes(long memory) {
        var panels = panels(memory);
        var placement = Placement.plan(memory, fixedBytes, files, panels, StreamOptions.defaults());
        return placement.resident().stream().mapToLong(i -> panels.get(i).bytes()).sum();
    }

    private boolean fits(long memory) {
        return Placement.minimum(fixedBytes, files, panels(memory), StreamOptions.defaults()) <= memory;
    }

    /** Cuts the matrices into row ranges, as it is done where no --panel is given. */
    private List<Extent> panels(long memory) {
        long panelBytes = Math.min(DEFAULT_PANEL, memory / PANELS_IN_BUDGET);
        var panels = new ArrayList<Extent>();
        for (Tensor tensor : model.matrices()) {
            int file = Objects.requireNonNull(numbers.get(tensor.file()));
            long rows = tensor.shape().getFirst();
            long rowBytes = tensor.bytes() / rows;
            long parts = Math.max(1, Math.ceilDiv(tensor.bytes(), Math.max(panelBytes, rowBytes)));
            long rowsEach = Math.ceilDiv(rows, parts);
            for (long first = 0; first < rows; first += rowsEach) {
                long count = Math.min(rowsEach, rows - first);
                panels.add(new Extent(file, tensor.offset() + first * rowBytes, count * rowBytes));
            }
        }
        return panels;
    }

    @Override
    public void close() throws IOException {
        for (var file : files) {
            file.close();
        }
    }
}
