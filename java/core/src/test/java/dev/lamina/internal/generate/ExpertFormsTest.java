package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import dev.lamina.ModelOptions;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.SafetensorsFiles;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The same experts in the other forms in which they are published. */
class ExpertFormsTest {
    private static final float[] E2M1 = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

    @TempDir
    Path temporary;

    private JsonObject header;
    private ByteArrayOutputStream data;

    @BeforeEach
    void begin() {
        header = new JsonObject();
        data = new ByteArrayOutputStream();
    }

    private void add(String name, DType type, List<Long> shape, byte[] content) {
        var dimensions = new JsonArray();
        shape.forEach(dimensions::add);
        var offsets = new JsonArray();
        offsets.add(data.size());
        offsets.add(data.size() + content.length);
        var tensor = new JsonObject();
        tensor.addProperty("dtype", type.name());
        tensor.add("shape", dimensions);
        tensor.add("data_offsets", offsets);
        header.add(name, tensor);
        data.writeBytes(content);
    }

    private void copy(Checkpoint checkpoint, String name) throws IOException {
        var tensor = checkpoint.tensor(name);
        add(name, tensor.dtype(), tensor.shape(), SafetensorsFiles.content(tensor));
    }

    private float[] logits(Fixture fixture) throws IOException {
        Files.copy(fixture.directory().resolve("config.json"), temporary.resolve("config.json"));
        var json = header.toString().getBytes(StandardCharsets.UTF_8);
        Files.write(temporary.resolve("model.safetensors"), ByteBuffer.allocate(Long.BYTES + json.length + data.size())
                .order(ByteOrder.LITTLE_ENDIAN).putLong(json.length).put(json).put(data.toByteArray()).array());
        return ModesTest.logits(temporary, ModelOptions.defaults(), fixture.prompts().getLast().ids());
    }

    private static float[] expected(Fixture fixture) throws IOException {
        return ModesTest.logits(fixture.directory(), ModelOptions.defaults(), fixture.prompts().getLast().ids());
    }

    /** All gates and what they gate in one tensor, all ways back in another: as Qwen3.5 has them. */
    @ParameterizedTest
    @CsvSource({"qwen3_moe, mlp, gate_proj, up_proj, down_proj", "mixtral, block_sparse_moe, w1, w3, w2"})
    void fusedExpertsGiveTheSameBits(String name, String block, String gate, String up, String back)
            throws IOException {
        var fixture = Fixture.find(List.of(name)).getFirst();
        var checkpoint = Checkpoint.open(fixture.directory());
        for (var tensor : checkpoint.tensors()) {
            if (!tensor.name().contains(".experts.")) {
                add(tensor.name().replace(block, "mlp"), tensor.dtype(), tensor.shape(),
                        SafetensorsFiles.content(tensor));
            }
        }
        for (int layer = 0; layer < 2; layer++) {
            var published = "model.layers." + layer + "." + block + ".experts.";
            var shape = checkpoint.tensor(published + "0." + gate + ".weight").shape();
            var both = new ByteArrayOutputStream();
            var down = new ByteArrayOutputStream();
            long experts = 0;
            for (; checkpoint.find(published + experts + "." + gate + ".weight") != null; experts++) {
                for (var part : List.of(gate, up)) {
                    both.writeBytes(content(checkpoint, published + experts + "." + part));
                }
                down.writeBytes(content(checkpoint, published + experts + "." + back));
            }
            var fused = "model.layers." + layer + ".mlp.experts.";
            add(fused + "gate_up_proj", DType.BF16, List.of(experts, 2 * shape.get(0), shape.get(1)),
                    both.toByteArray());
            add(fused + "down_proj", DType.BF16, List.of(experts, shape.get(1), shape.get(0)), down.toByteArray());
        }
        assertArrayEquals(expected(fixture), logits(fixture));
    }

    private static byte[] content(Checkpoint checkpoint, String name) throws IOException {
        return SafetensorsFiles.content(checkpoint.tensor(name + ".weight"));
    }

    /** Widened and transposed, as people publish GPT-OSS for what has no MXFP4. */
    @Test
    void widenedExpertsGiveTheSameButForRounding() throws IOException {
        var fixture = Fixture.find(List.of("gpt_oss")).getFirst();
        var checkpoint = Checkpoint.open(fixture.directory());
        for (var tensor : checkpoint.tensors()) {
            if (tensor.name().endsWith("_blocks")) {
                widen(checkpoint, tensor.name().substring(0, tensor.name().length() - "_blocks".length()));
            } else if (!tensor.name().endsWith("_scales")) {
                copy(checkpoint, tensor.name());
            }
        }
        assertArrayEquals(expected(fixture), logits(fixture), 1e-4f);
    }

    private void widen(Checkpoint checkpoint, String name) throws IOException {
        var shape = checkpoint.tensor(name + "_blocks").shape();
        int experts = Math.toIntExact(shape.get(0));
        int rows = Math.toIntExact(shape.get(1));
        int columns = Math.toIntExact(shape.get(2) * 32);
        var elements = SafetensorsFiles.content(checkpoint.tensor(name + "_blocks"));
        var scales = SafetensorsFiles.content(checkpoint.tensor(name + "_scales"));
        var wide = ByteBuffer.allocate(experts * rows * columns * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
        for (int expert = 0; expert < experts; expert++) {
            for (int column = 0; column < columns; column++) {
                for (int row = 0; row < rows; row++) {
                    int element = (expert * rows + row) * columns + column;
                    int code = elements[element / 2] >> (4 * (element % 2)) & 15;
                    wide.putFloat(Math.scalb(E2M1[code], (scales[element / 32] & 255) - 127));
                }
            }
        }
        add(name, DType.F32, List.of((long) experts, (long) columns, (long) rows), wide.array());
    }
}
