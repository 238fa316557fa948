package dev.lamina.cli;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.ShardManifest;
import dev.lamina.internal.shard.SplitOptions;
import dev.lamina.internal.shard.Splitter;
import java.nio.file.Files;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** Options that say which model. */
final class ModelFolder {
    @Option(names = "--model", paramLabel = "DIR",
            description = "Folder of a Hugging Face model in safetensors format, or of a shard set.")
    private @Nullable Path model;

    @Option(names = "--shards", paramLabel = "DIR",
            description = "Read the weights from this shard set, which 'lamina split' made from --model.")
    private @Nullable Path shards;

    @Spec(Spec.Target.MIXEE)
    private CommandSpec spec;

    /** Whether a model was named. */
    boolean given() {
        return model != null || shards != null;
    }

    /** The folder to open: the shard set, if one is named. Makes sure that it was made from the model. */
    Path directory() {
        if (shards == null) {
            if (model == null) {
                throw new ParameterException(spec.commandLine(), "Missing required option: '--model=DIR'");
            }
            return model;
        }
        var command = "'lamina split --model " + (model == null ? "DIR" : model) + " --shards " + shards + "'";
        if (!Files.exists(shards.resolve(ShardManifest.FILE_NAME))) {
            throw new LaminaException(shards + " holds no finished shard set: make it with " + command);
        }
        if (model != null) {
            // Of a finished set, the splitter checks that it is one of this model, and does nothing else.
            Splitter.split(model, shards, checkpoint -> {
                throw new LaminaException(shards + " holds no finished shard set: make it with " + command);
            }, new SplitOptions(false), (phase, done, total) -> { });
        }
        return shards;
    }
}
