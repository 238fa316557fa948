package dev.lamina.internal.generate;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.DataFile;
import dev.lamina.internal.stream.Extent;
import dev.lamina.internal.stream.ResidentPanels;
import dev.lamina.internal.stream.StreamOptions;
import dev.lamina.internal.stream.Streamer;
import dev.lamina.internal.telemetry.Telemetry;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The small tensors of a model, norms and biases: read once, widened to f32, kept in device memory. */
final class Vectors implements AutoCloseable {
    private static final ValueLayout.OfShort SHORT =
            ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfFloat FLOAT =
            ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private static final StreamOptions READING =
            StreamOptions.defaults().withPrefetch(8).withReaders(2).withRowCacheBytes(0);

    private final Device device;
    private final MemorySegment memory;
    private final Map<String, MemorySegment> slices = new HashMap<>();

    private Vectors(Device device, MemorySegment memory) {
        this.device = device;
        this.memory = memory;
    }

    /**
     * Reads the vectors of a program.
     *
     * @param numbers number of each file, as {@link Extent#file} counts them
     */
    static Vectors load(Processor processor, Program program, Checkpoint checkpoint, List<DataFile> files,
            Map<Path, Integer> numbers) throws IOException {
        var device = processor.device();
        var tensors = program.stages().stream()
                .flatMap(stage -> stage.tensors().stream())
                .filter(program.vectors()::contains)
                .map(checkpoint::tensor)
                .toList();
        long bytes = tensors.stream().mapToLong(Vectors::bytes).sum();
        var extents = tensors.stream()
                .map(tensor -> new Extent(numbers.get(tensor.file()), tensor.offset(), tensor.bytes()))
                .toList();
        var host = device.allocate(bytes);
        try {
            return load(device, processor.queue(), tensors, files, extents, host);
        } finally {
            device.free(host);
        }
    }

    private static Vectors load(Device device, Queue queue, List<Tensor> tensors, List<DataFile> files,
            List<Extent> extents, MemorySegment host) throws IOException {
        var vectors = new Vectors(device, device.allocateOnDevice(host.byteSize()));
        try (var none = new ResidentPanels(files, extents, new BitSet(), device);
                var streamer = new Streamer(files, extents, none, READING, device, Telemetry.NONE)) {
            long offset = 0;
            for (var tensor : tensors) {
                var stored = streamer.next();
                widen(stored.memory(), tensor.dtype(), host.asSlice(offset, floats(tensor) * Float.BYTES));
                stored.release();
                vectors.slices.put(tensor.name(), vectors.memory.asSlice(offset, floats(tensor) * Float.BYTES));
                offset += bytes(tensor);
            }
            queue.await(queue.copyToDevice(vectors.memory, host));
            return vectors;
        } catch (InterruptedException e) {
            vectors.close();
            Thread.currentThread().interrupt();
            throw new InterruptedIOException("interrupted while the model was opened");
        } catch (Throwable e) {
            vectors.close();
            throw e;
        }
    }

    private static long floats(Tensor tensor) {
        return tensor.bytes() / tensor.dtype().bytes();
    }

    /** Bytes that a vector takes here: each begins at a multiple of 64. */
    private static long bytes(Tensor tensor) {
        return Math.ceilDiv(floats(tensor) * Float.BYTES, 64) * 64;
    }

    private static void widen(MemorySegment stored, DType dtype, MemorySegment out) {
        for (long i = 0; i < out.byteSize() / Float.BYTES; i++) {
            out.setAtIndex(ValueLayout.JAVA_FLOAT, i, element(stored, dtype, i));
        }
    }

    private static float element(MemorySegment stored, DType dtype, long index) {
        return switch (dtype) {
            case F32 -> stored.getAtIndex(FLOAT, index);
            case F16 -> Float.float16ToFloat(stored.getAtIndex(SHORT, index));
            case BF16 -> Float.intBitsToFloat(stored.getAtIndex(SHORT, index) << 16);
            default -> throw new IllegalArgumentException("a vector of type " + dtype);
        };
    }

    /** A vector, in device memory. */
    MemorySegment get(String tensor) {
        return slices.get(tensor);
    }

    /** Bytes that all of them take. */
    long bytes() {
        return memory.byteSize();
    }

    @Override
    public void close() {
        device.freeOnDevice(memory);
    }
}
