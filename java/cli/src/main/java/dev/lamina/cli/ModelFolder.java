package dev.lamina.cli;

import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.internal.checkpoint.ShardManifest;
import dev.lamina.internal.shard.Splitter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** Options that say which model. */
final class ModelFolder {
    @Option(names = "--model", paramLabel = "DIR",
            description = "Folder of a Hugging Face model (safetensors or PyTorch .bin), or of a shard set.")
    private @Nullable Path model;

    @Option(names = "--shards", paramLabel = "DIR,...", split = ",",
            description = "Read the weights from this shard set, which 'lamina split' made from --model: its folder, "
                    + "or all its folders, from whose drives they are read at the same time.")
    private @Nullable List<Path> shards;

    @Spec(Spec.Target.MIXEE)
    private CommandSpec spec;

    /** Whether a model was named. */
    boolean given() {
        return model != null || shards != null;
    }

    /** The folders to open: the shard set, if one is named. Makes sure that it was made from the model. */
    List<Path> folders() {
        if (shards == null) {
            if (model == null) {
                throw new ParameterException(spec.commandLine(), "Missing required option: '--model=DIR'");
            }
            return List.of(model);
        }
        var command = "'lamina split --model " + (model == null ? "DIR" : model) + " --shards "
                + shards.stream().map(Path::toString).collect(Collectors.joining(",")) + "'";
        for (var folder : shards) {
            if (!Files.exists(folder.resolve(ShardManifest.FILE_NAME))) {
                throw new LaminaException(folder + " holds no finished shard set: make it with " + command);
            }
        }
        if (model != null) {
            Splitter.checkSameModel(model, shards);
        }
        return shards;
    }

    /** Opens the model. */
    LanguageModel open(ModelOptions options) {
        var folders = folders();
        return LanguageModel.open(folders.getFirst().toString(), options.toBuilder().shards(folders).build());
    }
}
