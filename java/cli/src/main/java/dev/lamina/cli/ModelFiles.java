package dev.lamina.cli;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.KvShape;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.model.Stage;
import dev.lamina.internal.text.ChatFormat;
import dev.lamina.internal.text.ChatTemplate;
import dev.lamina.internal.text.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/** What can be said of a model without computing: headers and configuration are read and checked, weights are not. */
record ModelFiles(Path directory, ModelConfig config, Checkpoint checkpoint, Program program) {
    /** Opens a model's folder, or all folders of a shard set. */
    static ModelFiles open(List<Path> folders) {
        var directory = folders.getFirst();
        if (!Files.isDirectory(directory)) {
            throw new LaminaException("there is no model folder " + directory
                    + ": give the folder of a Hugging Face model (safetensors or PyTorch .bin), or of a shard set");
        }
        var config = ModelConfig.load(directory);
        var checkpoint = Checkpoint.open(folders);
        return new ModelFiles(directory, config, checkpoint, Architectures.program(config, checkpoint));
    }

    /** Tensors of a stage that no stage before it uses. */
    List<Tensor> tensors(Stage stage) {
        return stage.tensors().stream().map(checkpoint::tensor).toList();
    }

    /** All tensors that the program uses, in the order of their first use. */
    List<Tensor> tensors() {
        return program.stages().stream().flatMap(stage -> tensors(stage).stream()).toList();
    }

    /** The matrices that one sweep reads, in order; a tied embedding is one of them. */
    List<Tensor> matrices() {
        return program.stages().stream()
                .flatMap(Stage::flatOps)
                .filter(Op.Product.class::isInstance)
                .map(op -> checkpoint.tensor(((Op.Product) op).matrix().tensor()))
                .toList();
    }

    /** Bytes of weights that one sweep needs. */
    long sweepBytes() {
        return matrices().stream().mapToLong(Tensor::bytes).sum();
    }

    /** Bytes of all tensors that the program uses. */
    long weightBytes() {
        return tensors().stream().mapToLong(Tensor::bytes).sum();
    }

    /** Numbers in all tensors that the program uses. */
    long parameters() {
        return tensors().stream().mapToLong(tensor -> tensor.bytes() / tensor.dtype().bytes()).sum();
    }

    /** Bytes of weights by element type. */
    Map<DType, Long> dtypes() {
        var bytes = new EnumMap<DType, Long>(DType.class);
        tensors().forEach(tensor -> bytes.merge(tensor.dtype(), tensor.bytes(), Long::sum));
        return bytes;
    }

    /** Bytes that one position takes in a KV cache of f32, as long as no window has left it behind. */
    long kvBytesPerToken() {
        return program.kv().stream().mapToLong(layer -> Float.BYTES * layer.perPosition()).sum();
    }

    /** The same of the layers that keep all positions, and not only those of a window. */
    long kvBytesBeyondWindows() {
        return program.kv().stream().filter(layer -> layer.reach() == 0)
                .mapToLong(layer -> Float.BYTES * layer.perPosition()).sum();
    }

    /** Bytes of a sequence's states. */
    long stateBytes() {
        return program.kv().stream().mapToLong(KvShape::stateBytes).sum();
    }

    /** Token ids that end a text. */
    List<Integer> endTokens() {
        var defaults = ModelConfig.loadIfPresent(directory.resolve("generation_config.json"));
        return defaults != null && defaults.has("eos_token_id")
                ? defaults.ids("eos_token_id")
                : config.endTokens();
    }

    /** Whether there is a tokenizer that can be used. */
    boolean hasTokenizer() {
        return Tokenizer.exists(directory);
    }

    /**
     * The state of the chat template: {@code "yes"}, {@code "none"}, {@code "built in"} where the family needs none, or
     * what is wrong with it.
     */
    String chatTemplate() {
        try {
            boolean template = !ChatFormat.replacesTemplate(directory) && ChatTemplate.load(directory) != null;
            return template ? "yes" : ChatFormat.exists(directory) ? "built in" : "none";
        } catch (LaminaException e) {
            return String.valueOf(e.getMessage());
        }
    }

    /** Bytes of the weight files in a folder of the checkpoint. */
    long folderBytes(int folder) {
        return checkpoint.files(folder).stream().mapToLong(ModelFiles::size).sum();
    }

    /** What to call a weight file: where there are several folders, its name alone would not do. */
    String name(Path file) {
        return checkpoint.folders().size() == 1 ? file.getFileName().toString() : file.toString();
    }

    /** Size of a weight file. */
    static long size(Path file) {
        try {
            return Files.size(file);
        } catch (IOException e) {
            throw FileErrors.explain("cannot read " + file, e);
        }
    }
}
