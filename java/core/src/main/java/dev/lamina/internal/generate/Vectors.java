package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.model.Vector;
import dev.lamina.internal.runtime.Device;
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

    private static final int COPIES = 2; // while they are loaded

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
     * @param numbers number of each file, as {@link Extent#file} counts them
     * @param memory bytes of host memory that Lamina may hold
     */
    static Vectors load(Processor processor, Program program, Checkpoint checkpoint, List<DataFile> files,
            Map<Path, Integer> numbers, long memory) throws IOException {
        var device = processor.device();
        var stored = program.vectors().stream()
                .flatMap(vector -> vector.parts().stream())
                .filter(Vector.Stored.class::isInstance)
                .map(part -> checkpoint.tensor(((Vector.Stored) part).tensor()))
                .toList();
        var floats = new ArrayList<Long>();
        for (var vector : program.vectors()) {
            floats.add(vector.parts().stream().mapToLong(part -> floats(part, checkpoint)).sum());
        }
        var extents = stored.stream()
                .map(tensor -> new Extent(numbers.get(tensor.file()), tensor.offset(), tensor.bytes()))
                .toList();
        long most = floats.stream().mapToLong(Vectors::bytes).sum();
        if (most > LARGEST_UNASKED && COPIES * most > memory) {
            throw new LaminaException(checkpoint.directory() + ": norms, biases and scales take " + (most >> 20)
                    + "MiB, and twice as much while they are loaded: raise --memory.");
        }
        var host = device.allocate(Math.max(1, floats.stream().mapToLong(Vectors::bytes).sum()));
        try {
            var vectors = new Vectors(device, device.allocateOnDevice(host.byteSize()));
            try {
                vectors.fill(program, checkpoint, floats, host, files, extents);
                processor.queue().await(processor.queue().copyToDevice(vectors.memory, host));
                return vectors;
            } catch (Throwable e) {
                vectors.close();
                throw e;
            }
        } finally {
            device.free(host);
        }
    }

    private void fill(Program program, Checkpoint checkpoint, List<Long> floats, MemorySegment host,
            List<DataFile> files, List<Extent> extents) throws IOException {
        try (var reading = extents.isEmpty() ? null : new TensorReading(files, extents, device)) {
            long offset = 0;
            for (int i = 0; i < floats.size(); i++) {
                var vector = program.vectors().get(i);
                long bytes = floats.get(i) * Float.BYTES;
                var whole = host.asSlice(offset, bytes);
                long at = 0;
                for (var part : vector.parts()) {
                    var place = whole.asSlice(at, floats(part, checkpoint) * Float.BYTES);
                    switch (part) {
                        case Vector.Given given -> {
                            for (int j = 0; j < given.values().size(); j++) {
                                place.setAtIndex(ValueLayout.JAVA_FLOAT, j, given.values().get(j));
                            }
                        }
                        case Vector.Stored stored -> {
                            var panel = reading.next();
                            widen(panel.memory(), checkpoint.tensor(stored.tensor()).dtype(), stored.change(), place);
                            panel.release();
                        }
                    }
                    at += place.byteSize();
                }
                slices.put(vector.name(), memory.asSlice(offset, bytes));
                offset += bytes(floats.get(i));
            }
            program.ops().forEach(op -> {
                if (op instanceof Op.Experts experts && experts.bias() != null) {
                    var slice = slices.get(experts.bias());
                    onHost.put(experts.bias(), host.asSlice(slice.address() - memory.address(), slice.byteSize())
                            .toArray(ValueLayout.JAVA_FLOAT));
                }
            });
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
