package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.FastDisk;
import dev.lamina.internal.checkpoint.SafetensorsFiles;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.model.Router;
import dev.lamina.internal.model.Stage;
import dev.lamina.internal.model.Value;
import dev.lamina.internal.model.Vector;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.stream.DataFile;
import dev.lamina.internal.stream.IoMode;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Vectors that are larger than what is read of them at a time. */
class VectorsTest {
    private static final int LARGE = 5_000_001; // numbers of tensors: so many in bf16 ...
    private static final int MEDIUM = 300_001; // f32
    private static final int SMALL = 3; // f16
    private static final int GIVEN = 200_000;
    private static final String JOINED = "joined";

    @TempDir(factory = FastDisk.class)
    private Path temporary;

    /** Memory of a device, and the most bytes of it that were taken. */
    private static final class Counted implements HostMemory {
        private final HostMemory memory;
        private long live;
        private long peak;

        Counted(HostMemory memory) {
            this.memory = memory;
        }

        @Override
        public synchronized MemorySegment allocate(long bytes) {
            live += bytes;
            peak = Math.max(peak, live);
            return memory.allocate(bytes);
        }

        @Override
        public synchronized void free(MemorySegment segment) {
            live -= segment.byteSize();
            memory.free(segment);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"cpu", "cuda-emulated"})
    void theyAreNotInMemoryTwiceWhileTheyLoad(String device) throws IOException {
        if (!device.equals("cpu")) {
            Emulation.assume();
        }
        var file = write();
        var given = IntStream.range(0, GIVEN).mapToObj(i -> i / 7f).toList();
        var program = program(List.of(
                new Vector("small", List.of(new Vector.Stored("small", Vector.Change.PLUS_ONE))),
                new Vector("large", List.of(new Vector.Stored("large", Vector.Change.NONE))),
                new Vector(JOINED, List.of(new Vector.Stored("medium", Vector.Change.NONE), new Vector.Given(given),
                        new Vector.Stored("small", Vector.Change.NONE)))));
        long bytes = Float.BYTES * (SMALL + LARGE + MEDIUM + GIVEN + SMALL);
        long least = device.equals("cpu") ? bytes + Vectors.STAGING + 256 : bytes + 256;
        try (var processor = Processor.open(device, 1, false).getFirst();
                var data = DataFile.open(file, IoMode.BUFFERED, 0, null)) {
            var staging = new Counted(processor.device());
            try (var vectors = load(processor, staging, program, data, least)) {
                assertEquals(0, staging.live);
                assertTrue(staging.peak <= Vectors.STAGING && staging.peak < bytes,
                        staging.peak + " bytes to load " + bytes);
                assertArrayEquals(new float[] {1, 1.5f, 2}, values(processor, vectors.get("small")));
                var large = values(processor, vectors.get("large"));
                assertEquals(LARGE, large.length);
                for (int i = 0; i < LARGE; i++) {
                    assertEquals(i % 251, large[i]);
                }
                var joined = values(processor, vectors.get(JOINED));
                assertEquals(MEDIUM + GIVEN + SMALL, joined.length);
                for (int i = 0; i < joined.length; i++) {
                    int beyond = i - MEDIUM - GIVEN;
                    assertEquals(i < MEDIUM ? i / 3f : beyond < 0 ? given.get(i - MEDIUM) : beyond / 2f, joined[i]);
                }
                assertArrayEquals(joined, vectors.onHost(JOINED));
            }
            var message = assertThrows(LaminaException.class,
                    () -> load(processor, staging, program, data, least - 512)).getMessage();
            assertTrue(message.contains(device.equals("cpu") ? "raise --memory" : "raise --device-memory"), message);
        }
    }

    private Vectors load(Processor processor, HostMemory staging, Program program, DataFile file, long memory)
            throws IOException {
        return Vectors.load(processor, staging, program, Checkpoint.open(temporary), List.of(file),
                Map.of(file.path(), 0), memory);
    }

    private static float[] values(Processor processor, MemorySegment vector) {
        var host = processor.device().allocate(vector.byteSize());
        try {
            processor.queue().await(processor.queue().copyToHost(host, vector));
            return host.toArray(ValueLayout.JAVA_FLOAT);
        } finally {
            processor.device().free(host);
        }
    }

    /** One that chooses experts by the last of its vectors. */
    private static Program program(List<Vector> vectors) {
        var value = new Value(0, 1, Value.Rows.ALL, null, 0);
        var router = new Router(1, Router.Scoring.SIGMOID, 1, 1, Router.GroupScore.LARGEST, false, 1);
        var head = new Stage("head", List.of(), List.of(new Op.Experts(value, router, JOINED, List.of(), null)));
        return new Program("test", List.of(head), List.of(value), List.of(), List.of(), "none", 1, 1, value, vectors, 1);
    }

    private Path write() throws IOException {
        int small = LARGE * Short.BYTES;
        int medium = small + SMALL * Short.BYTES;
        int end = medium + MEDIUM * Float.BYTES;
        var header = """
                {"large": {"dtype": "BF16", "shape": [%d], "data_offsets": [0, %d]},
                "small": {"dtype": "F16", "shape": [%d], "data_offsets": [%d, %d]},
                "medium": {"dtype": "F32", "shape": [%d], "data_offsets": [%d, %d]}}"""
                .formatted(LARGE, small, SMALL, small, medium, MEDIUM, medium, end);
        var content = SafetensorsFiles.file(header, end);
        var data = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).position(content.length - end);
        for (int i = 0; i < LARGE; i++) {
            data.putShort((short) (Float.floatToRawIntBits(i % 251) >> 16));
        }
        for (int i = 0; i < SMALL; i++) {
            data.putShort(Float.floatToFloat16(i / 2f));
        }
        for (int i = 0; i < MEDIUM; i++) {
            data.putFloat(i / 3f);
        }
        var file = temporary.resolve("model.safetensors");
        Files.write(file, content);
        return file;
    }
}
