package dev.lamina.benchmarks;

import com.google.gson.Gson;
import dev.lamina.ModelOptions;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.SafetensorsLayout;
import dev.lamina.internal.checkpoint.SafetensorsLayout.Entry;
import dev.lamina.internal.checkpoint.SafetensorsWriter;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.shard.SplitOptions;
import dev.lamina.internal.shard.Splitter;
import dev.lamina.internal.shard.StageTensors;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;

/**
 * Models of any size that say nothing: random bf16 weights in the shapes of published Llamas, for measurements of which
 * only the number of bytes matters. A checkpoint is named by its size and written once; whoever asks again gets it.
 *
 * <pre>java -cp 'benchmarks/target/lamina-benchmarks.jar:benchmarks/target/lib/*'
 *     dev.lamina.benchmarks.SyntheticCheckpoint write WORK SIZE | split WORK SIZE | delete WORK</pre>
 */
public final class SyntheticCheckpoint {
    private static final String PREFIX = "lamina-synthetic-";
    private static final String SHARDS = "-shards";
    private static final String PARTIAL = ".partial";

    /** Published checkpoints come in files of a few GB. */
    private static final long FILE_BYTES = 2L << 30;

    private static final int BLOCK_BYTES = 8 << 20;
    private static final double DEVIATION = 0.02; // as models are initialised: activations stay finite
    private static final short ONE = 0x3f80;

    private SyntheticCheckpoint() {}

    /**
     * The shape of a model.
     *
     * @param tied whether the embedding serves as head: as published, small models do and large ones do not
     */
    record Shape(int layers, int hidden, int intermediate, int vocabulary, boolean tied) {
        private static final int SMALLEST = 256;
        private static final int LARGEST = 8192;
        private static final int VOCABULARY = 32_000;
        private static final int MULTIPLE = 64; // of the width of an MLP

        /** The shape of about so many bytes: the widest that still has as many layers as models of its width do. */
        static Shape of(long bytes) {
            int hidden = LARGEST;
            while (hidden > SMALLEST && layers(bytes, hidden) < hidden / 512) {
                hidden /= 2;
            }
            int layers = Math.toIntExact(Math.max(1, layers(bytes, hidden)));
            // The MLP takes up what whole layers leave over, so that the size is met.
            double mlp = (double) (bytes - tables(hidden)) / layers - attention(hidden);
            long intermediate = Math.max(1, Math.round(mlp / (6.0 * hidden * MULTIPLE))) * MULTIPLE;
            return new Shape(layers, hidden, Math.toIntExact(intermediate), vocabulary(hidden), tied(hidden));
        }

        private static long layers(long bytes, int hidden) {
            double layer = attention(hidden) + 21.0 * hidden * hidden; // an MLP is 3.5 times as wide as the rest
            return Math.round((bytes - tables(hidden)) / layer);
        }

        private static int vocabulary(int hidden) {
            return Math.min(VOCABULARY, 16 * hidden);
        }

        private static boolean tied(int hidden) {
            return hidden < 2048;
        }

        private static long tables(int hidden) {
            return (tied(hidden) ? 2L : 4L) * vocabulary(hidden) * hidden;
        }

        private static long attention(int hidden) {
            return 4L * hidden * hidden + 4L * hidden * kvHeads(hidden) * headDim(hidden);
        }

        private static int headDim(int hidden) {
            return hidden < 1024 ? 64 : 128;
        }

        private static int kvHeads(int hidden) {
            return hidden / headDim(hidden) / 4;
        }

        private String config() {
            return """
                    {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
                     "hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d,
                     "num_attention_heads": %d, "num_key_value_heads": %d, "head_dim": %d,
                     "vocab_size": %d, "tie_word_embeddings": %b, "max_position_embeddings": 131072,
                     "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "bos_token_id": 1, "eos_token_id": 2}
                    """.formatted(hidden, intermediate, layers, hidden / headDim(hidden), kvHeads(hidden),
                    headDim(hidden), vocabulary, tied);
        }

        /** All tensors in the order of a model's definition. */
        private List<Entry> tensors() {
            long width = hidden;
            long kvWidth = (long) kvHeads(hidden) * headDim(hidden);
            var tensors = new ArrayList<Entry>();
            tensors.add(matrix("model.embed_tokens", vocabulary, width));
            for (int layer = 0; layer < layers; layer++) {
                var name = "model.layers." + layer + ".";
                tensors.add(matrix(name + "self_attn.q_proj", width, width));
                tensors.add(matrix(name + "self_attn.k_proj", kvWidth, width));
                tensors.add(matrix(name + "self_attn.v_proj", kvWidth, width));
                tensors.add(matrix(name + "self_attn.o_proj", width, width));
                tensors.add(matrix(name + "mlp.gate_proj", intermediate, width));
                tensors.add(matrix(name + "mlp.up_proj", intermediate, width));
                tensors.add(matrix(name + "mlp.down_proj", width, intermediate));
                tensors.add(norm(name + "input_layernorm"));
                tensors.add(norm(name + "post_attention_layernorm"));
            }
            tensors.add(norm("model.norm"));
            if (!tied) {
                tensors.add(matrix("lm_head", vocabulary, width));
            }
            return tensors;
        }

        private static Entry matrix(String name, long rows, long columns) {
            return new Entry(name + ".weight", DType.BF16, List.of(rows, columns));
        }

        private Entry norm(String name) {
            return new Entry(name + ".weight", DType.BF16, List.of((long) hidden));
        }
    }

    /** Writes, splits or deletes checkpoints. */
    public static void main(String[] arguments) throws IOException {
        switch (arguments.length == 0 ? "" : String.join(" ", arguments[0], String.valueOf(arguments.length))) {
            case "write 3" -> System.out.println(write(Path.of(arguments[1]), ModelOptions.parseSize(arguments[2])));
            case "split 3" -> System.out.println(
                    split(write(Path.of(arguments[1]), ModelOptions.parseSize(arguments[2]))));
            case "delete 2" -> deleteAll(Path.of(arguments[1]));
            default -> {
                System.err.println("SyntheticCheckpoint write WORK SIZE | split WORK SIZE | delete WORK");
                System.exit(2);
            }
        }
    }

    /** The folder that a parameter names, or the one for temporary files where it is empty. */
    static Path workFolder(String parameter) {
        return Path.of(parameter.isEmpty() ? System.getProperty("java.io.tmpdir") : parameter).toAbsolutePath();
    }

    /** Returns the checkpoint of about so many bytes in a work folder; writes it if it is not there. */
    static Path write(Path work, long bytes) throws IOException {
        var folder = work.resolve(PREFIX + bytes);
        if (!Files.exists(folder)) {
            // The folder gets its name when it is whole.
            var partial = Files.createTempDirectory(Files.createDirectories(work), PREFIX + bytes + PARTIAL);
            try {
                writeModel(partial, Shape.of(bytes));
                Files.move(partial, folder, StandardCopyOption.ATOMIC_MOVE);
            } finally {
                delete(partial);
            }
        }
        return folder;
    }

    /** Returns the shard set of a checkpoint that {@link #write} made; splits it if it is not there. */
    static Path split(Path model) {
        var shards = model.resolveSibling(model.getFileName() + SHARDS);
        split(model, shards);
        return shards;
    }

    /** Splits a model as the command line does; a set that is complete stays as it is. */
    static void split(Path model, Path shards) {
        Splitter.split(model, List.of(shards),
                checkpoint -> Architectures.program(ModelConfig.load(model), checkpoint).stages().stream()
                        .map(stage -> new StageTensors(stage.name(), stage.tensors()))
                        .toList(),
                new SplitOptions(false), (phase, done, total) -> { });
    }

    /** Deletes all that this class ever wrote into a work folder. */
    static void deleteAll(Path work) throws IOException {
        try (var entries = Files.list(work)) {
            for (var entry : entries.filter(each -> each.getFileName().toString().startsWith(PREFIX)).toList()) {
                delete(entry);
            }
        }
    }

    /** Deletes a folder with what is in it, if it is there. */
    static void delete(Path folder) throws IOException {
        if (!Files.exists(folder)) {
            return;
        }
        try (var entries = Files.walk(folder)) {
            for (var entry : entries.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(entry);
            }
        }
    }

    /** The files with weights of a model's folder. */
    static List<Path> weightFiles(Path model) throws IOException {
        try (var files = Files.list(model)) {
            return files.filter(file -> file.toString().endsWith(".safetensors")).sorted().toList();
        }
    }

    private static void writeModel(Path folder, Shape shape) throws IOException {
        var files = new ArrayList<List<Entry>>();
        long room = 0;
        for (var tensor : shape.tensors()) {
            if (tensor.bytes() > room) {
                files.add(new ArrayList<>());
                room = FILE_BYTES;
            }
            files.getLast().add(tensor);
            room -= tensor.bytes();
        }
        var block = randomBlock();
        var index = new TreeMap<String, String>();
        for (int i = 0; i < files.size(); i++) {
            var name = files.size() == 1 ? "model.safetensors"
                    : String.format(Locale.ROOT, "model-%05d-of-%05d.safetensors", i + 1, files.size());
            // In a file, tensors are sorted by name, as the library does that publishers use: not in the order of use.
            var tensors = files.get(i).stream().sorted(Comparator.comparing(Entry::name)).toList();
            writeFile(folder.resolve(name), tensors, block);
            tensors.forEach(tensor -> index.put(tensor.name(), name));
        }
        if (files.size() > 1) {
            long total = shape.tensors().stream().mapToLong(Entry::bytes).sum();
            Files.writeString(folder.resolve(Checkpoint.INDEX_FILE_NAME),
                    new Gson().toJson(Map.of("metadata", Map.of("total_size", total), "weight_map", index)));
        }
        Files.writeString(folder.resolve("config.json"), shape.config());
    }

    private static void writeFile(Path file, List<Entry> tensors, ByteBuffer block) throws IOException {
        try (var writer = SafetensorsWriter.create(file, SafetensorsLayout.packed(tensors))) {
            int start = 0;
            for (int i = 0; i < tensors.size(); i++) {
                var tensor = tensors.get(i);
                if (tensor.shape().size() == 1) {
                    writer.write(i, 0, ones(tensor.bytes()));
                    continue;
                }
                for (long position = 0; position < tensor.bytes(); ) {
                    // Each piece begins elsewhere in the block: a drive must not find the same bytes again.
                    start = (start + 2 * 31_337) % (BLOCK_BYTES / 2);
                    int length = (int) Math.min(BLOCK_BYTES - start, tensor.bytes() - position);
                    writer.write(i, position, block.slice(start, length));
                    position += length;
                }
            }
            writer.commit();
        }
        PageCache.drop(file); // models larger than memory are not in the page cache either
    }

    private static ByteBuffer randomBlock() {
        var random = new SplittableRandom(1);
        var block = ByteBuffer.allocateDirect(BLOCK_BYTES).order(ByteOrder.LITTLE_ENDIAN);
        while (block.hasRemaining()) {
            block.putShort((short) (Float.floatToRawIntBits((float) (DEVIATION * random.nextGaussian())) >>> 16));
        }
        return block.flip();
    }

    private static ByteBuffer ones(long bytes) {
        var buffer = ByteBuffer.allocate(Math.toIntExact(bytes)).order(ByteOrder.LITTLE_ENDIAN);
        while (buffer.hasRemaining()) {
            buffer.putShort(ONE);
        }
        return buffer.flip();
    }

    /** The size of files in bytes. */
    static long bytes(List<Path> files) {
        return files.stream().mapToLong(file -> {
            try {
                return Files.size(file);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }).sum();
    }
}
