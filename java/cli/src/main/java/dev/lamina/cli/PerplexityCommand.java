package dev.lamina.cli;

import com.google.gson.JsonObject;
import dev.lamina.LaminaException;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;

/** {@code lamina perplexity}. */
@Command(
        name = "perplexity",
        description = "Scores a text: exp(mean negative log-likelihood) over windows of 512 tokens.",
        footer = {
            "",
            "Example:",
            "  lamina perplexity --model models/Llama-3.1-8B --text wikitext.txt --json"
        })
final class PerplexityCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Mixin
    private ModelFolder folder;

    @Option(names = "--text", paramLabel = "FILE", required = true, description = "A text file in UTF-8.")
    private Path text;

    @Option(names = "--json", description = "Print one JSON object: tokens (that were scored), perplexity.")
    private boolean json;

    @Mixin
    private EngineOptions engine;

    @Override
    public Integer call() {
        var modelOptions = engine.options();
        var content = Texts.ofFile(text);
        var terminal = main.terminal();
        try (var model = folder.open(modelOptions)) {
            terminal.interrupts().check();
            terminal.interrupts().onSignal(model::cancel);
            var result = model.perplexity(content);
            terminal.interrupts().onSignal(null);
            if (result.tokens() == 0) {
                terminal.interrupts().check();
                throw new LaminaException(text + " holds no token to score: give at least two tokens of text");
            }
            if (json) {
                var object = new JsonObject();
                object.addProperty("tokens", result.tokens());
                object.addProperty("perplexity", result.perplexity());
                terminal.println(object.toString());
            } else {
                terminal.println(String.format(Locale.ROOT, "perplexity %.4f over %d tokens", result.perplexity(),
                        result.tokens()));
            }
        }
        return terminal.interrupts().exitStatus();
    }
}
