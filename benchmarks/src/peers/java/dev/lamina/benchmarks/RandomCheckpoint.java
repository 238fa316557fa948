package dev.lamina.benchmarks;

import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.SafetensorsLayout;
import dev.lamina.internal.checkpoint.SafetensorsLayout.Entry;
import dev.lamina.internal.checkpoint.SafetensorsWriter;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;

/**
 * A Llama with random weights in bf16. They have magnitudes of two binary orders that f16 holds too, so that a
 * conversion changes no weight, and are as small as keeps activations near 1.
 */
enum RandomCheckpoint {
    /** 0.30 GB. */
    SMALL("300MB", 1024, 2816, 10, 16, 8),
    /** 2.08 GB. */
    LARGE("2GB", 2048, 8192, 16, 32, 8);

    private static final int VOCABULARY = 32000;
    private static final int HEAD_DIM = 64;

    private final String size;
    private final int hidden;
    private final int intermediate;
    private final int layers;
    private final int heads;
    private final int kvHeads;

    RandomCheckpoint(String size, int hidden, int intermediate, int layers, int heads, int kvHeads) {
        this.size = size;
        this.hidden = hidden;
        this.intermediate = intermediate;
        this.layers = layers;
        this.heads = heads;
        this.kvHeads = kvHeads;
    }

    /** What it is asked for by. */
    String size() {
        return size;
    }

    /** Writes it into a folder. */
    void write(Path directory) throws IOException {
        Files.writeString(directory.resolve("config.json"), String.format(Locale.ROOT, """
                {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
                 "hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d,
                 "num_key_value_heads": %d, "vocab_size": %d, "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
                 "rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16"}
                """, hidden, intermediate, layers, heads, kvHeads, VOCABULARY));
        var layout = SafetensorsLayout.packed(tensors());
        var random = new SplittableRandom(1);
        try (var writer = SafetensorsWriter.create(directory.resolve("model.safetensors"), layout)) {
            for (int i = 0; i < layout.entries().size(); i++) {
                writeTensor(writer, i, layout.entries().get(i), random);
            }
            writer.commit();
        }
    }

    private List<Entry> tensors() {
        var tensors = new ArrayList<Entry>();
        tensors.add(matrix("model.embed_tokens", VOCABULARY, hidden));
        for (int i = 0; i < layers; i++) {
            var layer = "model.layers." + i + ".";
            tensors.add(vector(layer + "input_layernorm"));
            tensors.add(matrix(layer + "self_attn.q_proj", heads * HEAD_DIM, hidden));
            tensors.add(matrix(layer + "self_attn.k_proj", kvHeads * HEAD_DIM, hidden));
            tensors.add(matrix(layer + "self_attn.v_proj", kvHeads * HEAD_DIM, hidden));
            tensors.add(matrix(layer + "self_attn.o_proj", hidden, heads * HEAD_DIM));
            tensors.add(vector(layer + "post_attention_layernorm"));
            tensors.add(matrix(layer + "mlp.gate_proj", intermediate, hidden));
            tensors.add(matrix(layer + "mlp.up_proj", intermediate, hidden));
            tensors.add(matrix(layer + "mlp.down_proj", hidden, intermediate));
        }
        tensors.add(vector("model.norm"));
        return tensors;
    }

    private Entry vector(String name) {
        return new Entry(name + ".weight", DType.BF16, List.of((long) hidden));
    }

    private static Entry matrix(String name, int rows, int columns) {
        return new Entry(name + ".weight", DType.BF16, List.of((long) rows, (long) columns));
    }

    private static void writeTensor(SafetensorsWriter writer, int index, Entry tensor, SplittableRandom random)
            throws IOException {
        boolean vector = tensor.shape().size() == 1;
        // Magnitudes of 2^e to 2^(e + 1) have a root mean square of 1.5 * 2^e.
        int exponent = Math.getExponent(1 / Math.sqrt(tensor.shape().getLast()) / 1.5);
        int high = Float.floatToIntBits((float) Math.scalb(1.0, exponent)) >> 16;
        var block = ByteBuffer.allocate(1 << 20).order(ByteOrder.LITTLE_ENDIAN);
        long bytes = tensor.bytes();
        for (long at = 0; at < bytes; at += block.limit()) {
            block.clear().limit((int) Math.min(block.capacity(), bytes - at));
            while (block.hasRemaining()) {
                if (vector) {
                    block.putShort((short) 0x3f80); // 1
                } else {
                    int bits = random.nextInt();
                    block.putShort((short) (high | (bits & 0x807f))); // a random sign and fraction
                }
            }
            writer.write(index, at, block.flip());
        }
    }
}
