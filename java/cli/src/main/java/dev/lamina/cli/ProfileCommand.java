package dev.lamina.cli;

import dev.lamina.GenerationOptions;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.Prompt;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** {@code lamina profile}. */
@Command(
        name = "profile",
        description = "Runs a model on made-up tokens and says what takes the time: a table of what each stage read, "
                + "waited for and computed, the rates beside that of a plain read of the same files, and what limits.",
        footer = {
            "",
            "The first sweep, which fills the memory, is not counted.",
            "",
            "Examples:",
            "  lamina profile --model models/Llama-3.1-8B --memory 2GiB",
            "  lamina profile --model models/Llama-3.1-8B --html timeline.html -n 4"
        })
final class ProfileCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Mixin
    private ModelFolder folder;

    @Option(names = "--prompt-tokens", paramLabel = "N", defaultValue = "1",
            description = "Tokens of the prompt, which the first sweep computes together. Default: 1.")
    private int promptTokens;

    @Option(names = {"-n", "--max-tokens"}, paramLabel = "N", defaultValue = "8",
            description = "Tokens to generate, one in each sweep. Default: 8.")
    private int tokens;

    @Option(names = "--stages", description = "List every layer; otherwise equal layers are one row.")
    private boolean stages;

    @Option(names = "--html", paramLabel = "FILE",
            description = "Write a page that shows the last sweeps over time: reads above, computation below, stalls "
                    + "in red. It needs no network.")
    private @Nullable Path html;

    @Option(names = "--json", description = "Print one JSON object: sums over all sweeps, in bytes and seconds.")
    private boolean json;

    @Mixin
    private EngineOptions engine;

    @Override
    public Integer call() throws InterruptedException {
        requirePositive("--prompt-tokens", promptTokens);
        requirePositive("--max-tokens", tokens);
        var options = engine.options().toBuilder().profile(true).build();
        if (html != null) {
            checkFolder(html);
        }
        var terminal = main.terminal();
        try (var model = folder.open(options)) {
            var rates = model.measureRates(true);
            terminal.interrupts().check();
            terminal.interrupts().onSignal(model::cancel);
            var prompt = prompt(model.info().vocabulary());
            generate(model, prompt, true);
            terminal.interrupts().check();
            var before = model.profile();
            generate(model, prompt, false);
            terminal.interrupts().check();
            terminal.interrupts().onSignal(null);
            terminal.status().clear();
            var report = new ProfileReport(model.profile().since(before), rates);
            if (html != null) {
                model.writeTimeline(html);
            }
            terminal.println(json ? report.json().toString() : report.text(stages));
            if (html != null && !json) {
                terminal.println("timeline: " + html);
            }
        }
        return terminal.interrupts().exitStatus();
    }

    private void requirePositive(String option, int value) {
        if (value < 1) {
            throw new ParameterException(spec.commandLine(), option + " must be 1 or more, not " + value);
        }
    }

    /** Finds out now, and not after minutes, that the page cannot be written. */
    private static void checkFolder(Path file) {
        var parent = file.toAbsolutePath().getParent();
        if (parent == null || !Files.isDirectory(parent)) {
            throw new LaminaException("cannot write " + file + ": there is no folder " + parent);
        }
    }

    private Prompt prompt(int vocabulary) {
        var random = new Random(1);
        return Prompt.ids(random.ints(promptTokens, 0, vocabulary).toArray());
    }

    /** Generates tokens; to warm up, the first one only: then the memory is full, and laid out for all of them. */
    private void generate(LanguageModel model, Prompt prompt, boolean warmUp) {
        var options = GenerationOptions.builder().maxTokens(tokens).greedy().ignoreEos(true).build();
        model.generate(prompt, options, new AnswerView(main.terminal(), model, false) {
            @Override
            public void token(int index, int id) {
                super.token(index, id);
                if (warmUp) {
                    model.cancel();
                }
            }
        });
    }
}
