package dev.lamina.benchmarks;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.ModelConfig;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;

/**
 * Writes the weights of a Llama-shaped checkpoint (f16 or bf16) as a GGUF file: matrices in f16, vectors in f32. Its
 * vocabulary is one character a token, see {@link LlamaCpp}.
 */
final class GgufFile {
    private static final int MAGIC = 0x46554747; // "GGUF"
    private static final int VERSION = 3;
    private static final int ALIGNMENT = 32;
    private static final int TYPE_F32 = 0; // of tensors
    private static final int TYPE_F16 = 1;
    private static final int VALUE_U32 = 4; // of metadata
    private static final int VALUE_I32 = 5;
    private static final int VALUE_F32 = 6;
    private static final int VALUE_BOOL = 7;
    private static final int VALUE_STRING = 8;
    private static final int VALUE_ARRAY = 9;
    private static final int MOST_ROWS = 1 << 22;

    /**
     * A tensor to write.
     *
     * @param heads for queries and keys, whose pairs of elements llama.cpp rotates are neighbours: the heads whose rows
     *     are put in that order; 0 for others
     */
    private record Entry(String name, Tensor source, int heads) {
        boolean matrix() {
            return source.shape().size() == 2;
        }

        int rows() {
            return matrix() ? Math.toIntExact(source.shape().getFirst()) : 1;
        }

        int columns() {
            return Math.toIntExact(source.shape().getLast());
        }

        long bytes() {
            return (long) rows() * columns() * (matrix() ? Short.BYTES : Float.BYTES);
        }

        /** The row of the source that becomes row i: of each head, rows 0, d / 2, 1, d / 2 + 1 .. */
        int sourceRow(int i) {
            if (heads == 0) {
                return i;
            }
            int dim = rows() / heads;
            int inHead = i % dim;
            return i - inHead + (inHead % 2) * (dim / 2) + inHead / 2;
        }
    }

    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private final DataOutputStream out = new DataOutputStream(bytes);

    private GgufFile() {}

    /**
     * Writes a file.
     *
     * @param directory of the checkpoint
     * @param target the file, which must not exist
     */
    static void write(Path directory, Path target) throws IOException {
        new GgufFile().writeTo(directory, target);
    }

    private void writeTo(Path directory, Path target) throws IOException {
        var config = ModelConfig.load(directory);
        if (!config.strings("architectures").contains("LlamaForCausalLM") || config.object("rope_scaling") != null) {
            throw new IOException(directory + " is not a Llama without rope scaling, which the comparison needs");
        }
        var checkpoint = Checkpoint.open(directory);
        int hidden = config.requireInt("hidden_size", 1, MOST_ROWS);
        int layers = config.requireInt("num_hidden_layers", 1, 1000);
        int heads = config.requireInt("num_attention_heads", 1, 1024);
        int kvHeads = config.intOr("num_key_value_heads", heads, 1, 1024);
        int vocabulary = config.requireInt("vocab_size", 1, MOST_ROWS);
        var tensors = entries(checkpoint, layers, heads, kvHeads);

        number(MAGIC);
        number(VERSION);
        longNumber(tensors.size());
        longNumber(18);
        string("general.architecture", "llama");
        u32("general.file_type", 1); // mostly f16
        u32("llama.block_count", layers);
        u32("llama.context_length", config.requireInt("max_position_embeddings", 1, Integer.MAX_VALUE));
        u32("llama.embedding_length", hidden);
        u32("llama.feed_forward_length", config.requireInt("intermediate_size", 1, MOST_ROWS));
        u32("llama.attention.head_count", heads);
        u32("llama.attention.head_count_kv", kvHeads);
        u32("llama.rope.dimension_count", config.intOr("head_dim", hidden / heads, 2, 1024));
        f32("llama.attention.layer_norm_rms_epsilon", (float) config.positiveOr("rms_norm_eps", 1e-6));
        f32("llama.rope.freq_base", (float) config.positiveOr("rope_theta", 10000));
        string("tokenizer.ggml.model", "llama");
        tokens(vocabulary);
        u32("tokenizer.ggml.eos_token_id", vocabulary - 1);
        bool("tokenizer.ggml.add_bos_token", false);
        bool("tokenizer.ggml.add_space_prefix", false);

        long offset = 0;
        for (var tensor : tensors) {
            text(tensor.name());
            number(tensor.matrix() ? 2 : 1);
            longNumber(tensor.columns()); // the innermost dimension comes first
            if (tensor.matrix()) {
                longNumber(tensor.rows());
            }
            number(tensor.matrix() ? TYPE_F16 : TYPE_F32);
            longNumber(offset);
            offset = align(offset + tensor.bytes());
        }
        try (var file = FileChannel.open(target, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            long data = align(bytes.size());
            writeFully(file, ByteBuffer.wrap(bytes.toByteArray()), 0);
            for (var tensor : tensors) {
                copy(tensor, file, data);
                data = align(data + tensor.bytes());
            }
        }
    }

    private static List<Entry> entries(Checkpoint checkpoint, int layers, int heads, int kvHeads) {
        var entries = new ArrayList<Entry>();
        entries.add(new Entry("token_embd.weight", checkpoint.tensor("model.embed_tokens.weight"), 0));
        for (int i = 0; i < layers; i++) {
            var from = "model.layers." + i + ".";
            var to = "blk." + i + ".";
            entries.add(entry(checkpoint, to + "attn_norm", from + "input_layernorm", 0));
            entries.add(entry(checkpoint, to + "attn_q", from + "self_attn.q_proj", heads));
            entries.add(entry(checkpoint, to + "attn_k", from + "self_attn.k_proj", kvHeads));
            entries.add(entry(checkpoint, to + "attn_v", from + "self_attn.v_proj", 0));
            entries.add(entry(checkpoint, to + "attn_output", from + "self_attn.o_proj", 0));
            entries.add(entry(checkpoint, to + "ffn_norm", from + "post_attention_layernorm", 0));
            entries.add(entry(checkpoint, to + "ffn_gate", from + "mlp.gate_proj", 0));
            entries.add(entry(checkpoint, to + "ffn_up", from + "mlp.up_proj", 0));
            entries.add(entry(checkpoint, to + "ffn_down", from + "mlp.down_proj", 0));
        }
        entries.add(entry(checkpoint, "output_norm", "model.norm", 0));
        if (checkpoint.find("lm_head.weight") != null) { // else the embedding is the head, there as here
            entries.add(entry(checkpoint, "output", "lm_head", 0));
        }
        return entries;
    }

    private static Entry entry(Checkpoint checkpoint, String to, String from, int heads) {
        return new Entry(to + ".weight", checkpoint.tensor(from + ".weight"), heads);
    }

    /** Writes a tensor, converted, from the byte {@code at} on. */
    private static void copy(Entry tensor, FileChannel target, long at) throws IOException {
        var source = tensor.source();
        if (source.dtype() != DType.F16 && source.dtype() != DType.BF16) {
            throw new IOException(source.name() + " is " + source.dtype() + "; the comparison needs F16 or BF16");
        }
        int columns = tensor.columns();
        var in = ByteBuffer.allocateDirect(columns * Short.BYTES).order(ByteOrder.LITTLE_ENDIAN);
        int rowBytes = columns * (tensor.matrix() ? Short.BYTES : Float.BYTES);
        int rowsAtOnce = Math.clamp((1 << 22) / rowBytes, 1, tensor.rows());
        var converted = ByteBuffer.allocateDirect(rowsAtOnce * rowBytes).order(ByteOrder.LITTLE_ENDIAN);
        try (var file = FileChannel.open(source.file(), StandardOpenOption.READ)) {
            for (int row = 0; row < tensor.rows(); row++) {
                in.clear();
                long position = source.offset() + (long) tensor.sourceRow(row) * in.capacity();
                while (in.hasRemaining()) {
                    if (file.read(in, position + in.position()) < 0) {
                        throw new IOException(source.file() + " ends early");
                    }
                }
                for (int i = 0; i < columns; i++) {
                    short bits = in.getShort(i * Short.BYTES);
                    float value = source.dtype() == DType.F16
                            ? Float.float16ToFloat(bits)
                            : Float.intBitsToFloat(bits << 16);
                    if (tensor.matrix()) {
                        converted.putShort(Float.floatToFloat16(value));
                    } else {
                        converted.putFloat(value);
                    }
                }
                if (!converted.hasRemaining() || row == tensor.rows() - 1) {
                    int length = converted.position();
                    writeFully(target, converted.flip(), at);
                    at += length;
                    converted.clear();
                }
            }
        }
    }

    private static void writeFully(FileChannel file, ByteBuffer data, long at) throws IOException {
        while (data.hasRemaining()) {
            at += file.write(data, at);
        }
    }

    private static long align(long offset) {
        return Math.ceilDiv(offset, ALIGNMENT) * ALIGNMENT;
    }

    // -- metadata ----------------------------------------------------------------------------------------------------

    private void tokens(int count) throws IOException {
        array("tokenizer.ggml.tokens", VALUE_STRING, count);
        for (int id = 0; id < count; id++) {
            text(Character.toString(LlamaCpp.FIRST_CODE_POINT + id));
        }
        array("tokenizer.ggml.scores", VALUE_F32, count);
        for (int id = 0; id < count; id++) {
            number(0);
        }
        array("tokenizer.ggml.token_type", VALUE_I32, count);
        for (int id = 0; id < count; id++) {
            number(1); // a normal one
        }
    }

    private void array(String key, int type, int count) throws IOException {
        text(key);
        number(VALUE_ARRAY);
        number(type);
        longNumber(count);
    }

    private void string(String key, String value) throws IOException {
        text(key);
        number(VALUE_STRING);
        text(value);
    }

    private void u32(String key, int value) throws IOException {
        text(key);
        number(VALUE_U32);
        number(value);
    }

    private void f32(String key, float value) throws IOException {
        text(key);
        number(VALUE_F32);
        number(Float.floatToIntBits(value));
    }

    private void bool(String key, boolean value) throws IOException {
        text(key);
        number(VALUE_BOOL);
        out.writeByte(value ? 1 : 0);
    }

    private void text(String value) throws IOException {
        var utf8 = value.getBytes(StandardCharsets.UTF_8);
        longNumber(utf8.length);
        out.write(utf8);
    }

    private void number(int value) throws IOException {
        out.writeInt(Integer.reverseBytes(value));
    }

    private void longNumber(long value) throws IOException {
        out.writeLong(Long.reverseBytes(value));
    }
}
