package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.FastDisk;
import dev.lamina.internal.checkpoint.SafetensorsFiles;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.stream.Extent;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Panels of a shard set over several drives, and of rows that are used in another order than they lie in. */
class ScheduleTest {
    private static final int HEADS = 128;
    private static final int HEAD_ROWS = 128; // for keys, and as many for values
    private static final int LATENT = 512;

    @TempDir(factory = FastDisk.class)
    private Path temporary;

    /** A panel's rows of one matrix, and their bytes. */
    private record Piece(Schedule.Slice slice, Extent extent) {
        long bytes() {
            return slice.rows() * slice.rowBytes();
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"1,1", "3,1", "1,2,1"})
    void allDrivesAreReadInProportionEverywhere(String rates) throws IOException {
        for (var fixture : Fixture.find(List.of("llama32_tied", "mistral_swa"))) {
            var folders = ModesTest.split(fixture.directory(), temporary.resolve(fixture.toString()),
                    Stream.of(rates.split(",")).map(Long::valueOf).toList());
            var set = Checkpoint.open(folders);
            var program = Architectures.program(ModelConfig.load(folders.getFirst()), set);
            var numbers = new HashMap<Path, Integer>();
            set.files().forEach(file -> numbers.put(file, numbers.size()));
            boolean interleaved = false;
            for (long panel : new long[] {1, 700, 3000, 1 << 20}) {
                var schedule = Schedule.of(program, set, numbers, panel, new int[program.stages().size()]);
                for (var matrix : matrices(schedule).entrySet()) {
                    interleaved |= check(set, matrix.getKey(), matrix.getValue());
                }
            }
            assertTrue(interleaved, "nothing was cut");
        }
    }

    /** The pieces of each weight, in the order of reading. */
    private static Map<Op.Linear, List<Piece>> matrices(Schedule schedule) {
        var matrices = new HashMap<Op.Linear, List<Piece>>();
        for (var panel : schedule.panels()) {
            for (int i = panel.firstOp(); i < panel.firstOp() + panel.opCount(); i++) {
                var op = schedule.ops().get(i);
                if (op.op() instanceof Op.Linear linear) {
                    matrices.computeIfAbsent(linear, weight -> new ArrayList<>())
                            .add(new Piece(op.slice(), panel.extent()));
                }
            }
        }
        return matrices;
    }

    /** Whether there were several parts to take turns. */
    private static boolean check(Checkpoint set, Op.Linear linear, List<Piece> pieces) throws IOException {
        var tensor = set.tensor(linear.matrix().tensor());
        var content = SafetensorsFiles.content(tensor);
        var seen = new boolean[linear.out().width()];
        var total = new HashMap<Integer, Long>();
        var largest = new HashMap<Integer, Long>();
        pieces.forEach(piece -> {
            total.merge(piece.extent.file(), piece.bytes(), Long::sum);
            largest.merge(piece.extent.file(), piece.bytes(), Math::max);
        });
        assertEquals(tensor.parts().size(), total.size());
        var done = new HashMap<Integer, Long>();
        for (var piece : pieces) {
            var slice = piece.slice;
            for (int row = slice.firstRow(); row < slice.firstRow() + slice.rows(); row++) {
                assertTrue(!seen[row], "row " + row + " twice");
                seen[row] = true;
            }
            var bytes = ByteBuffer.allocate(Math.toIntExact(piece.bytes()));
            try (var file = FileChannel.open(set.files().get(piece.extent.file()))) {
                while (bytes.hasRemaining()
                        && file.read(bytes, piece.extent.offset() + slice.offset() + bytes.position()) > 0) {
                    continue;
                }
            }
            int from = Math.toIntExact(slice.firstRow() * slice.rowBytes());
            assertArrayEquals(Arrays.copyOfRange(content, from, from + bytes.capacity()), bytes.array());
            done.merge(piece.extent.file(), piece.bytes(), Long::sum);
            for (int a : total.keySet()) {
                for (int b : total.keySet()) {
                    // no drive is further ahead of another than half a panel of each
                    double ahead = (double) done.getOrDefault(a, 0L) / total.get(a)
                            - (double) done.getOrDefault(b, 0L) / total.get(b);
                    double most = 0.5 * largest.get(a) / total.get(a) + 0.5 * largest.get(b) / total.get(b);
                    assertTrue(a == b || ahead <= most + 1e-9, linear.matrix().tensor() + ": " + done + " of " + total);
                }
            }
        }
        for (boolean row : seen) {
            assertTrue(row);
        }
        return total.size() > 1 && pieces.size() > total.size();
    }

    /** {@code kv_b_proj} of DeepSeek V3: its rows for keys and for values alternate, and are used group by group. */
    @ParameterizedTest
    @CsvSource({"BF16, 4194304, 8", "BF16, 8388608, 4", "BF16, 20000000, 2", "BF16, 40000000, 1",
        "F8_E4M3, 2097152, 8", "F8_E4M3, 8388608, 2", "F8_E4M3, 20000000, 1"})
    void rowsOfLatentAttentionAreReadInFewPanels(String type, long panel, int panels) throws IOException {
        var bytes = new long[2];
        var file = deepseek(type, bytes);
        var checkpoint = Checkpoint.open(temporary);
        var program = Architectures.program(ModelConfig.load(temporary), checkpoint);
        var schedule = Schedule.of(program, checkpoint, Map.of(file, 0), panel, new int[program.stages().size()]);
        var extents = schedule.panels().stream()
                .filter(each -> schedule.ops().subList(each.firstOp(), each.firstOp() + each.opCount()).stream()
                        .anyMatch(op -> op.slice() != null && op.slice().matrix().tensor().contains("kv_b_proj")))
                .map(Schedule.Panel::extent)
                .toList();
        assertEquals(panels, extents.size());
        long offset = bytes[0];
        for (var extent : extents) {
            assertEquals(offset, extent.offset());
            assertTrue(extent.bytes() <= panel);
            offset += extent.bytes();
        }
        assertEquals(bytes[1], offset);
        assertEquals(Schedule.weightBytes(program, checkpoint), schedule.denseBytes());
    }

    /** Writes one layer of such a model, without content; the rows of {@code kv_b_proj} lie from ... to. */
    private Path deepseek(String type, long[] fromTo) throws IOException {
        int hidden = 256;
        var tensors = new LinkedHashMap<String, int[]>();
        tensors.put("model.embed_tokens.weight", new int[] {64, hidden});
        tensors.put("lm_head.weight", new int[] {64, hidden});
        tensors.put("model.norm.weight", new int[] {hidden});
        var layer = "model.layers.0.";
        tensors.put(layer + "input_layernorm.weight", new int[] {hidden});
        tensors.put(layer + "post_attention_layernorm.weight", new int[] {hidden});
        tensors.put(layer + "mlp.down_proj.weight", new int[] {hidden, 128});
        tensors.put(layer + "mlp.gate_proj.weight", new int[] {128, hidden});
        tensors.put(layer + "mlp.up_proj.weight", new int[] {128, hidden});
        tensors.put(layer + "self_attn.kv_a_layernorm.weight", new int[] {LATENT});
        tensors.put(layer + "self_attn.kv_b_proj.weight", new int[] {HEADS * 2 * HEAD_ROWS, LATENT});
        tensors.put(layer + "self_attn.o_proj.weight", new int[] {hidden, HEADS * HEAD_ROWS});
        tensors.put(layer + "self_attn.kv_a_proj_with_mqa.weight", new int[] {LATENT + 64, hidden});
        tensors.put(layer + "self_attn.q_proj.weight", new int[] {HEADS * (HEAD_ROWS + 64), hidden});
        var header = new JsonObject();
        long offset = 0;
        for (var tensor : tensors.entrySet()) {
            boolean quantized = type.startsWith("F8") && tensor.getKey().contains("_proj");
            if (tensor.getKey().contains("kv_b_proj")) {
                fromTo[0] = offset;
            }
            offset = describe(header, offset, tensor.getKey(), quantized ? type : "BF16", tensor.getValue());
            if (tensor.getKey().contains("kv_b_proj")) {
                fromTo[1] = offset;
            }
        }
        if (type.startsWith("F8")) {
            for (var name : List.copyOf(header.keySet())) {
                if (name.contains("_proj")) {
                    var blocks = IntStream.of(tensors.get(name)).map(length -> Math.ceilDiv(length, 128)).toArray();
                    offset = describe(header, offset, name + "_scale_inv", "F32", blocks);
                }
            }
        }
        var text = header.toString().getBytes(StandardCharsets.UTF_8);
        long start = Long.BYTES + text.length;
        fromTo[0] += start;
        fromTo[1] += start;
        var file = temporary.resolve("model.safetensors");
        try (var written = new RandomAccessFile(file.toFile(), "rw")) {
            written.writeLong(Long.reverseBytes(text.length));
            written.write(text);
            written.setLength(start + offset);
        }
        Files.writeString(temporary.resolve("config.json"), """
                {"architectures": ["DeepseekV3ForCausalLM"], "hidden_size": %d, "intermediate_size": 128,
                "num_attention_heads": %d, "num_hidden_layers": 1, "first_k_dense_replace": 1, "vocab_size": 64,
                "n_routed_experts": 1, "num_experts_per_tok": 1, "moe_intermediate_size": 1, "n_group": 1, "topk_group": 1,
                "q_lora_rank": null, "kv_lora_rank": %d, "qk_nope_head_dim": %d, "qk_rope_head_dim": 64,
                "v_head_dim": %d}""".formatted(hidden, HEADS, LATENT, HEAD_ROWS, HEAD_ROWS));
        return file;
    }

    private static long describe(JsonObject header, long offset, String name, String type, int[] shape) {
        long elementBytes = switch (type) {
            case "F8_E4M3" -> 1;
            case "BF16" -> 2;
            default -> 4;
        };
        long end = offset + IntStream.of(shape).asLongStream().reduce(elementBytes, Math::multiplyExact);
        header.add(name, JsonParser.parseString("{'dtype': '%s', 'shape': %s, 'data_offsets': [%d, %d]}"
                .formatted(type, Arrays.toString(shape), offset, end)));
        return end;
    }
}
