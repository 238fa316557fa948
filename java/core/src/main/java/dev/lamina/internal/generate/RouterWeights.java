package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.model.Matrix;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.stream.DataFile;
import dev.lamina.internal.stream.Extent;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Weights of routers in device memory: those that predictions use, in layers before the ones that they belong to. They
 * stream with their own layers all the same.
 */
final class RouterWeights implements AutoCloseable {
    private static final long ALIGNMENT = 64;
    private static final long PIECE = 512 << 10; // bytes that are read and copied at a time

    /** Budgets that cannot hold less are refused later, with the number of bytes that would do. */
    private static final long LARGEST_UNASKED = 16 << 20;

    private final Device device;
    private final MemorySegment memory;
    private final Map<Matrix, MemorySegment> slices = new HashMap<>();

    private RouterWeights(Device device, MemorySegment memory) {
        this.device = device;
        this.memory = memory;
    }

    /**
     * Reads the weights of some products.
     *
     * @param numbers number of each file, as {@link Extent#file} counts them
     * @param memory bytes that Lamina may still hold where they stay
     */
    static RouterWeights load(Processor processor, List<Op.Linear> products, Checkpoint checkpoint,
            List<DataFile> files, Map<Path, Integer> numbers, long memory) throws IOException {
        var device = processor.device();
        var extents = new ArrayList<Extent>();
        long bytes = 0;
        for (var product : products) {
            extents.addAll(extents(product, checkpoint, numbers));
            bytes += bytes(product, checkpoint);
        }
        if (bytes > LARGEST_UNASKED && bytes > memory) {
            throw new LaminaException(checkpoint.directory() + ": weights of routers take " + (bytes >> 20)
                    + " MiB where experts are predicted: raise --memory and --device-memory, or leave"
                    + " --predict-experts out.");
        }
        var weights = new RouterWeights(device, device.allocateOnDevice(Math.max(1, bytes)));
        try (var reading = extents.isEmpty() ? null : new TensorReading(files, extents, device)) {
            long offset = 0;
            for (var product : products) {
                var place = weights.memory.asSlice(offset, Schedule.bytes(product, checkpoint));
                for (long done = 0; done < place.byteSize();) {
                    var panel = reading.next();
                    long length = panel.memory().byteSize();
                    processor.queue().await(processor.queue().copyToDevice(place.asSlice(done, length),
                            panel.memory()));
                    panel.release();
                    done += length;
                }
                weights.slices.put(product.matrix(), place);
                offset += bytes(product, checkpoint);
            }
            return weights;
        } catch (Throwable e) {
            weights.close();
            throw e;
        }
    }

    private static List<Extent> extents(Op.Linear product, Checkpoint checkpoint, Map<Path, Integer> numbers) {
        var extents = new ArrayList<Extent>();
        long rowBytes = Schedule.bytes(product, checkpoint) / product.rows();
        long first = 0;
        for (var part : checkpoint.tensor(product.matrix().tensor()).parts()) {
            long from = Math.max(first, product.firstRow());
            long to = Math.min(first + part.bytes() / rowBytes, product.firstRow() + product.rows());
            if (from < to) {
                extents.addAll(TensorReading.pieces(new Extent(numbers.get(part.file()),
                        part.offset() + (from - first) * rowBytes, (to - from) * rowBytes), PIECE));
            }
            first += part.bytes() / rowBytes;
        }
        return extents;
    }

    private static long bytes(Op.Linear product, Checkpoint checkpoint) {
        return Math.ceilDiv(Schedule.bytes(product, checkpoint), ALIGNMENT) * ALIGNMENT;
    }

    /** The rows of a router's matrix that its product uses, one after the other, in device memory. */
    MemorySegment get(Matrix matrix) {
        return slices.get(matrix);
    }

    /** Bytes of device memory. */
    long bytes() {
        return memory.byteSize();
    }

    @Override
    public void close() {
        device.freeOnDevice(memory);
    }
}
