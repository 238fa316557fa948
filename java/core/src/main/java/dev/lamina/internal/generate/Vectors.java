package dev.lamina.internal.generate;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.DataFile;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** The small tensors of a model, norms and biases: read once, widened to f32, kept in device memory. */
final class Vectors implements AutoCloseable {
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Device device;
    private final MemorySegment memory;
    private final Map<String, MemorySegment> slices = new HashMap<>();

    private Vectors(Device device, MemorySegment memory) {
        this.device = device;
        this.memory = memory;
    }

    /** Reads the vectors of a program. */
    static Vectors load(Device device, Queue queue, Program program, Checkpoint checkpoint, Map<Path, DataFile> files)
            throws IOException {
        long bytes = 0;
        for (var name : program.vectors()) {
            bytes += bytes(checkpoint.tensor(name));
        }
        var vectors = new Vectors(device, device.allocateOnDevice(Math.max(bytes, 1)));
        var host = device.allocate(Math.max(bytes, 1));
        try {
            long offset = 0;
            for (var stage : program.stages()) {
                for (var name : stage.tensors()) {
                    if (program.vectors().contains(name)) {
                        var tensor = checkpoint.tensor(name);
                        widen(tensor, files.get(tensor.file()), device, host.asSlice(offset, bytes(tensor)));
                        vectors.slices.put(name, vectors.memory.asSlice(offset, floats(tensor) * Float.BYTES));
                        offset += bytes(tensor);
                    }
                }
            }
            queue.await(queue.copyToDevice(vectors.memory, host));
            return vectors;
        } catch (IOException | RuntimeException e) {
            vectors.close();
            throw e;
        } finally {
            device.free(host);
        }
    }

    private static long floats(Tensor tensor) {
        return tensor.bytes() / tensor.dtype().bytes();
    }

    /** Bytes that a vector takes here: each begins at a multiple of 64. */
    private static long bytes(Tensor tensor) {
        return Math.ceilDiv(floats(tensor) * Float.BYTES, 64) * 64;
    }

    private static void widen(Tensor tensor, DataFile file, Device device, MemorySegment out) throws IOException {
        var stored = device.allocate(tensor.bytes());
        try {
            file.read(stored, tensor.offset());
            for (long i = 0; i < floats(tensor); i++) {
                out.setAtIndex(ValueLayout.JAVA_FLOAT, i, element(stored, tensor.dtype(), i));
            }
        } finally {
            device.free(stored);
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
