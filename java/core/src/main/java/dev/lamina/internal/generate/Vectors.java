package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.model.Vector;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.DataFile;
import dev.lamina.internal.stream.Extent;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** The vectors of a program, such as norms and biases: read once, widened to f32, kept in device memory. */
final class Vectors implements AutoCloseable {
    private static final ValueLayout.OfShort SHORT =
            ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfFloat FLOAT =
            ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** Budgets that cannot hold less are refused later, with the number of bytes that would do. */
    private static final long LARGEST_UNASKED = 16 << 20;

    /** Most numbers that are read, widened and copied at a time. */
    private static final int PIECE = 1 << 17;

    /** More host memory than is taken beside the vectors themselves while they are loaded. */
    static final long STAGING = 16 << 20;

    private final Device device;
    private final MemorySegment memory;
    private final Map<String, MemorySegment> slices = new HashMap<>();
    private final Map<String, float[]> onHost = new HashMap<>(); // what experts are chosen with

    private Vectors(Device device, MemorySegment memory) {
        this.device = device;
        this.memory = memory;
    }

    /**
     * Reads the vectors of a program.
     *
     * @param staging what they pass through
     * @param numbers number of each file, as {@link Extent#file} counts them
     * @param memory bytes that Lamina may hold where they stay
     */
    static Vectors load(Processor processor, HostMemory staging, Program program, Checkpoint checkpoint,
            List<DataFile> files, Map<Path, Integer> numbers, long memory) throws IOException {
        var device = processor.device();
        long bytes = 0;
        var extents = new ArrayList<Extent>();
        for (var vector : program.vectors()) {
            bytes += bytes(vector.parts().stream().mapToLong(part -> floats(part, checkpoint)).sum());
            for (var part : vector.parts()) {
                if (part instanceof Vector.Stored stored) {
                    var tensor = checkpoint.tensor(stored.tensor());
                    var extent = new Extent(numbers.get(tensor.file()), tensor.offset(), tensor.bytes());
                    extents.addAll(TensorReading.pieces(extent, (long) PIECE * tensor.dtype().bytes()));
                }
            }
        }
        boolean unified = device.info().unified();
        if (bytes > LARGEST_UNASKED && bytes + (unified ? STAGING : 0) > memory) {
            var more = ", and " + (STAGING >> 20) + " MiB more while they are loaded: raise --memory.";
            throw new LaminaException(checkpoint.directory() + ": norms, biases and scales take " + (bytes >> 20)
                    + " MiB" + (unified ? more : " of each GPU: raise --device-memory."));
        }
        var vectors = new Vectors(device, device.allocateOnDevice(Math.max(1, bytes)));
        try {
            var buffer = staging.allocate(Math.clamp(bytes, 1, (long) Float.BYTES * PIECE));
            try {
                var passage = new Passage(processor.queue(), vectors.memory, buffer);
                vectors.fill(program, checkpoint, passage, staging, files, extents);
            } finally {
                staging.free(buffer);
            }
            return vectors;
        } catch (Throwable e) {
            vectors.close();
            throw e;
        }
    }

    private void fill(Program program, Checkpoint checkpoint, Passage passage, HostMemory staging,
            List<DataFile> files, List<Extent> extents) throws IOException {
        try (var reading = extents.isEmpty() ? null : new TensorReading(files, extents, staging)) {
            long offset = 0;
            for (var vector : program.vectors()) {
                long at = offset;
                for (var part : vector.parts()) {
                    long left = floats(part, checkpoint) * Float.BYTES;
                    for (int done = 0; left > 0; done += PIECE) {
                        var place = passage.next(at, Math.min((long) Float.BYTES * PIECE, left));
                        switch (part) {
                            case Vector.Given given -> give(given.values(), done, place);
                            case Vector.Stored stored -> {
                                var type = checkpoint.tensor(stored.tensor()).dtype();
                                var panel = reading.next();
                                widen(panel.memory(), type, stored.change(), place);
                                panel.release();
                            }
                        }
                        at += place.byteSize();
                        left -= place.byteSize();
                    }
                }
                slices.put(vector.name(), memory.asSlice(offset, at - offset));
                offset += bytes((at - offset) / Float.BYTES);
            }
            passage.flush();
            program.ops().forEach(op -> {
                if (op instanceof Op.Experts experts && experts.bias() != null) {
                    onHost.put(experts.bias(), passage.toHost(get(experts.bias())));
                }
            });
        }
    }

    private static void give(List<Float> values, int first, MemorySegment out) {
        for (int i = 0; i < out.byteSize() / Float.BYTES; i++) {
            out.setAtIndex(ValueLayout.JAVA_FLOAT, i, values.get(first + i));
        }
    }

    /** The way to the device, through a buffer: numbers are written in the order in which they lie there. */
    private static final class Passage {
        private final Queue queue;
        private final MemorySegment memory;
        private final MemorySegment buffer;
        private long start; // of what is in the buffer, on the device
        private long filled;

        Passage(Queue queue, MemorySegment memory, MemorySegment buffer) {
            this.queue = queue;
            this.memory = memory;
            this.buffer = buffer;
        }

        /** Room for the next numbers. */
        MemorySegment next(long offset, long bytes) {
            if (offset + bytes - start > buffer.byteSize()) {
                flush();
                start = offset;
            }
            filled = offset + bytes - start;
            return buffer.asSlice(offset - start, bytes);
        }

        void flush() {
            if (filled > 0) {
                queue.await(queue.copyToDevice(memory.asSlice(start, filled), buffer.asSlice(0, filled)));
            }
            filled = 0;
        }

        /** A vector that is there. */
        float[] toHost(MemorySegment vector) {
            var values = new float[Math.toIntExact(vector.byteSize() / Float.BYTES)];
            for (int done = 0; done < values.length;) {
                int count = (int) Math.min(values.length - done, buffer.byteSize() / Float.BYTES);
                var part = buffer.asSlice(0, (long) Float.BYTES * count);
                queue.await(queue.copyToHost(part, vector.asSlice((long) Float.BYTES * done, part.byteSize())));
                MemorySegment.copy(part, ValueLayout.JAVA_FLOAT, 0, values, done, count);
                done += count;
            }
            return values;
        }
    }

    private static long floats(Vector.Part part, Checkpoint checkpoint) {
        return switch (part) {
            case Vector.Given given -> given.values().size();
            case Vector.Stored stored -> {
                var tensor = checkpoint.tensor(stored.tensor());
                yield tensor.bytes() / tensor.dtype().bytes();
            }
        };
    }

    /** Bytes that a vector takes here: each begins at a multiple of 64. */
    private static long bytes(long floats) {
        return Math.ceilDiv(floats * Float.BYTES, 64) * 64;
    }

    private static void widen(MemorySegment stored, DType dtype, Vector.Change change, MemorySegment out) {
        for (long i = 0; i < out.byteSize() / Float.BYTES; i++) {
            float x = element(stored, dtype, i);
            out.setAtIndex(ValueLayout.JAVA_FLOAT, i, switch (change) {
                case NONE -> x;
                case PLUS_ONE -> 1 + x;
                case NEGATIVE_EXP -> (float) -StrictMath.exp(x);
            });
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
    MemorySegment get(String name) {
        return slices.get(name);
    }

    /** The same, or null where there is no name. */
    @Nullable MemorySegment getOrNull(@Nullable String name) {
        return name == null ? null : get(name);
    }

    /** A vector that experts are chosen with. */
    float[] onHost(String name) {
        return onHost.get(name);
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
