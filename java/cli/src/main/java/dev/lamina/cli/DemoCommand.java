package dev.lamina.cli;

import dev.lamina.GenerationOptions;
import dev.lamina.GenerationStats;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.Message;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.shard.SplitOptions;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.function.ToDoubleFunction;
import picocli.CommandLine.Command;
import picocli.CommandLine.ParentCommand;

/** {@code lamina demo}. */
@Command(
        name = "demo",
        description = "Splits the small model that comes with Lamina, streams it from disk under a memory budget that "
                + "is smaller than its weights, and lets it answer three prompts.")
final class DemoCommand implements Callable<Integer> {
    /** The files of the model, resources beside this class. */
    static final List<String> FILES = List.of("config.json", "generation_config.json", "model.safetensors",
            "tokenizer.json", "tokenizer_config.json");

    private static final String MEMORY = "4MiB";
    private static final List<String> QUESTIONS =
            List.of("What is 47 + 38?", "What is the capital of France?", "Tell me a story about a fox.");

    @ParentCommand
    private Main main;

    @Override
    public Integer call() throws IOException {
        Path folder;
        try {
            folder = Files.createTempDirectory("lamina-demo-");
        } catch (IOException e) {
            throw FileErrors.explain("cannot make a folder for the demo in " + System.getProperty("java.io.tmpdir"), e);
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> delete(folder)));
        try {
            run(unpack(folder.resolve("model")), folder.resolve("shards"));
        } finally {
            delete(folder);
        }
        return main.terminal().interrupts().exitStatus();
    }

    /** Copies the model into a folder. */
    static Path unpack(Path folder) {
        try {
            Files.createDirectories(folder);
            for (var name : FILES) {
                try (var in = DemoCommand.class.getResourceAsStream("demo/" + name)) {
                    if (in == null) {
                        throw new LaminaException("this build of Lamina has no demo model: " + name + " is missing");
                    }
                    Files.copy(in, folder.resolve(name));
                }
            }
        } catch (IOException e) {
            throw FileErrors.explain("cannot unpack the demo model into " + folder, e);
        }
        return folder;
    }

    private void run(Path original, Path shards) {
        var terminal = main.terminal();
        long start = System.nanoTime();
        SplitCommand.split(terminal, original, List.of(shards), new SplitOptions(false));
        terminal.status().clear();
        double splitSeconds = (System.nanoTime() - start) / 1e9;
        try (var model = LanguageModel.open(shards.toString(), ModelOptions.builder().memory(MEMORY).build())) {
            terminal.interrupts().check();
            var info = model.info();
            terminal.println("A model of " + Math.round(info.parameters() / 1e5) / 10.0
                    + " million parameters was split into "
                    + shards + " in " + Units.seconds(splitSeconds) + ".");
            terminal.println("Its weights are " + Units.memory(info.weightBytes()) + ", and the memory budget is "
                    + Units.memory(ModelOptions.parseSize(MEMORY))
                    + ": what does not fit streams from disk for every token.");
            terminal.println("Computing on " + info.device() + "; reading: " + info.reading() + ".");
            var all = new ArrayList<GenerationStats>();
            for (var question : QUESTIONS) {
                terminal.println("\n> " + question);
                terminal.interrupts().onSignal(model::cancel);
                var view = new AnswerView(terminal, model, true);
                var prompt = Prompt.chat(Message.user(question));
                all.add(model.generate(prompt, GenerationOptions.builder().greedy().build(), view).stats());
                terminal.interrupts().onSignal(null);
                view.endLine();
                if (terminal.interrupts().interrupted()) {
                    break;
                }
            }
            terminal.println("\n" + summary(all, info.weightBytes()));
        }
    }

    private static String summary(List<GenerationStats> all, long weightBytes) {
        double seconds = sum(all, stats -> stats.prefillSeconds() + stats.decodeSeconds());
        double read = sum(all, GenerationStats::diskBytes);
        double tokens = sum(all, GenerationStats::generatedTokens);
        var last = all.getLast();
        return Math.round(tokens) + " tokens in " + Units.seconds(seconds) + " (" + Math.round(tokens / seconds)
                + " tokens/s): read " + Units.bytes(read) + " of weights at " + Units.rate(read, seconds) + ", "
                + Units.percent(last.residentBytes(), weightBytes) + " of the weights stayed in memory, peak memory "
                + Units.memory(all.stream().mapToLong(GenerationStats::peakHostBytes).max().orElse(0)) + ".";
    }

    private static double sum(List<GenerationStats> all, ToDoubleFunction<GenerationStats> figure) {
        return all.stream().mapToDouble(figure).sum();
    }

    private synchronized void delete(Path folder) {
        if (!Files.exists(folder)) {
            return;
        }
        try (var paths = Files.walk(folder)) {
            for (var path : paths.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(path);
            }
        } catch (IOException e) {
            main.terminal().error("cannot remove " + folder + ": " + e.getMessage());
        }
    }
}
