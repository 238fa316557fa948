package dev.lamina.cli;

import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.shard.SplitOptions;
import dev.lamina.internal.shard.SplitResult;
import dev.lamina.internal.shard.Splitter;
import dev.lamina.internal.shard.StageTensors;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;

/** {@code lamina split}. */
@Command(
        name = "split",
        description = "Writes a model as a shard set: one file a layer, in the order of use, with checksums. A split "
                + "that was interrupted goes on when it is started again.",
        footer = {
            "",
            "Examples:",
            "  lamina split --model models/Llama-3.1-70B --shards shards/Llama-3.1-70B",
            "  lamina split --model models/Llama-3.1-70B --shards shards/Llama-3.1-70B --delete-original"
        })
final class SplitCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Option(names = "--model", paramLabel = "DIR", required = true,
            description = "Folder of a Hugging Face model in safetensors format.")
    private Path model;

    @Option(names = "--shards", paramLabel = "DIR", required = true, description = "Folder of the shard set to make.")
    private Path shards;

    @Option(names = "--delete-original",
            description = "Delete each file of the model once all of it is safe in the shards: "
            + "this takes the space of the model and one file.")
    private boolean deleteOriginal;

    @Override
    public Integer call() {
        var terminal = main.terminal();
        long start = System.nanoTime();
        SplitResult result;
        try {
            result = split(terminal, model, shards, deleteOriginal);
        } catch (CancelledException e) {
            terminal.status().clear();
            terminal.err().println("cancelled: the same command goes on with what is done");
            throw e;
        }
        terminal.status().clear();
        double seconds = (System.nanoTime() - start) / 1e9;
        result.kept().forEach(reason -> terminal.err().println("lamina: kept an original: " + reason));
        terminal.println(result.alreadyComplete()
                ? shards + " was complete already" + freed(result)
                : "split " + model + " into " + shards + ": " + Units.bytes(result.copiedBytes()) + " copied in "
                        + Units.seconds(seconds) + " (" + Units.rate(result.copiedBytes(), seconds) + ")"
                        + freed(result));
        return terminal.interrupts().exitStatus();
    }

    /** Splits a model and shows the progress. */
    static SplitResult split(Terminal terminal, Path model, Path shards, boolean deleteOriginal) {
        return Splitter.split(
                model,
                shards,
                checkpoint -> Architectures.program(ModelConfig.load(model), checkpoint).stages().stream()
                        .map(stage -> new StageTensors(stage.name(), stage.tensors()))
                        .toList(),
                new SplitOptions(deleteOriginal),
                new FileProgress(terminal));
    }

    private static String freed(SplitResult result) {
        int files = result.freed().size();
        return files == 0 ? "" : "; deleted " + files + (files == 1 ? " original file" : " original files");
    }
}
