package dev.lamina.cli;

import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.shard.SplitOptions;
import dev.lamina.internal.shard.SplitResult;
import dev.lamina.internal.shard.Splitter;
import dev.lamina.internal.shard.StageTensors;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;

/** {@code lamina split}. */
@Command(
        name = "split",
        description = "Writes a model as a shard set: one file a layer, in the order of use, with checksums. A split "
                + "that was interrupted goes on when it is started again. Of folders on several drives, each gets rows "
                + "of every matrix, in proportion to its rate, and all are read at the same time.",
        footer = {
            "",
            "Examples:",
            "  lamina split --model models/Llama-3.1-70B --shards shards/Llama-3.1-70B",
            "  lamina split --model models/Llama-3.1-70B --shards shards/Llama-3.1-70B --delete-original",
            "  lamina split --model models/Llama-3.1-70B --shards /nvme0/llama,/nvme1/llama"
        })
final class SplitCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Option(names = "--model", paramLabel = "DIR", required = true,
            description = "Folder of a Hugging Face model (safetensors or PyTorch .bin).")
    private Path model;

    @Option(names = "--shards", paramLabel = "DIR,...", required = true, split = ",",
            description = "Folder of the shard set to make, or several, on a drive each.")
    private List<Path> shards;

    @Option(names = "--rates", paramLabel = "RATE,...", split = ",", converter = EngineOptions.Rate.class,
            description = "How fast the drives of the folders are read, such as 7GB/s,3.5GB/s. Default: measured with "
                    + "a file that is written to each for a moment.")
    private List<Long> rates = List.of();

    @Option(names = "--delete-original",
            description = "Delete each file of the model once all of it is safe in the shards, in all folders: "
            + "this takes the space of the model and one file.")
    private boolean deleteOriginal;

    @Override
    public Integer call() {
        var terminal = main.terminal();
        long start = System.nanoTime();
        SplitResult result;
        try {
            result = split(terminal, model, shards, new SplitOptions(deleteOriginal, rates));
        } catch (CancelledException e) {
            terminal.status().clear();
            terminal.err().println("cancelled: the same command goes on with what is done");
            throw e;
        }
        terminal.status().clear();
        double seconds = (System.nanoTime() - start) / 1e9;
        result.notes().forEach(note -> terminal.err().println("lamina: " + note));
        result.kept().forEach(reason -> terminal.err().println("lamina: kept an original: " + reason));
        var names = shards.stream().map(Path::toString).collect(Collectors.joining(", "));
        terminal.println(result.alreadyComplete()
                ? names + (shards.size() == 1 ? " was" : " were") + " complete already" + freed(result)
                : "split " + model + " into " + names + ": " + Units.bytes(result.copiedBytes()) + " copied in "
                        + Units.seconds(seconds) + " (" + Units.rate(result.copiedBytes(), seconds) + ")"
                        + measured(result) + freed(result));
        return terminal.interrupts().exitStatus();
    }

    /** Splits a model and shows the progress. */
    static SplitResult split(Terminal terminal, Path model, List<Path> shards, SplitOptions options) {
        return Splitter.split(
                model,
                shards,
                checkpoint -> Architectures.program(ModelConfig.load(model), checkpoint).stages().stream()
                        .map(stage -> new StageTensors(stage.name(), stage.tensors()))
                        .toList(),
                options,
                new FileProgress(terminal));
    }

    private String measured(SplitResult result) {
        return result.rates().isEmpty() ? "" : "; cut for " + IntStream.range(0, shards.size())
                .mapToObj(i -> Units.rate(result.rates().get(i), 1) + " from " + shards.get(i))
                .collect(Collectors.joining(" and "));
    }

    private static String freed(SplitResult result) {
        int files = result.freed().size();
        return files == 0 ? "" : "; deleted " + files + (files == 1 ? " original file" : " original files");
    }
}
