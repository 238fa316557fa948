package dev.lamina.cli;

import dev.lamina.Chat;
import dev.lamina.GenerationOptions;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.Message;
import dev.lamina.Rates;
import dev.lamina.internal.checkpoint.FileErrors;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;

/** {@code lamina chat}. */
@Command(
        name = "chat",
        description = "Talks with a model: each line of the standard input is a message.",
        footer = {
            "",
            "/reset begins anew, /help shows the commands, /exit ends. Ctrl-C stops an answer.",
            "",
            "Examples:",
            "  lamina chat --model models/Llama-3.1-8B-Instruct --memory 2GiB",
            "  lamina chat --model models/Qwen2.5-7B-Instruct --system 'Answer in one sentence.' < questions.txt"
        })
final class ChatCommand implements Callable<Integer> {
    private static final int MAX_TOKENS = 1024;
    private static final String HELP = "/reset begins a new conversation, /exit ends, Ctrl-C stops an answer";

    @ParentCommand
    private Main main;

    @Mixin
    private ModelFolder folder;

    @Option(names = "--system", paramLabel = "TEXT", description = "How the model is to behave.")
    private @Nullable String system;

    @Mixin
    private SamplingOptions sampling;

    @Option(names = "--profile", description = "Say after each answer, on the error stream, what took the time.")
    private boolean profile;

    @Mixin
    private EngineOptions engine;

    private @Nullable Rates rates;

    @Override
    public Integer call() throws IOException, InterruptedException {
        var options = sampling.options(MAX_TOKENS);
        var modelOptions = engine.options().toBuilder().profile(profile).build();
        var terminal = main.terminal();
        var in = new BufferedReader(new InputStreamReader(terminal.in(), StandardCharsets.UTF_8));
        try (var model = folder.open(modelOptions)) {
            if (profile) {
                rates = model.measureRates(true);
            }
            terminal.interrupts().check();
            if (terminal.inIsTerminal()) {
                terminal.err().println(model.info().architecture() + ", " + Units.bytes(model.info().weightBytes())
                        + " a token; " + HELP);
            }
            talk(in, model, options);
        }
        return terminal.interrupts().exitStatus();
    }

    private void talk(BufferedReader in, LanguageModel model, GenerationOptions options) {
        var history = system == null ? List.<Message>of() : List.of(Message.system(system));
        boolean again = true;
        while (again) {
            try (var chat = model.chat(history, options)) {
                again = converse(in, model, chat);
            }
        }
    }

    /** Returns whether to begin a new conversation. */
    private boolean converse(BufferedReader in, LanguageModel model, Chat chat) {
        while (true) {
            var line = nextLine(in, model);
            switch (line == null ? "/exit" : line.strip()) {
                case "" -> { }
                case "/exit" -> {
                    return false;
                }
                case "/reset" -> {
                    return true;
                }
                case "/help" -> main.terminal().err().println(HELP);
                default -> answer(line, model, chat);
            }
            if (main.terminal().interrupts().interrupted() && !main.terminal().inIsTerminal()) {
                return false;
            }
        }
    }

    /** The next line of the user; null at the end. A signal while it waits ends the process. */
    private @Nullable String nextLine(BufferedReader in, LanguageModel model) {
        var terminal = main.terminal();
        if (terminal.inIsTerminal()) {
            terminal.err().print("> ");
            terminal.err().flush();
            terminal.interrupts().reset();
        }
        terminal.interrupts().onSignal(() -> {
            model.close();
            terminal.err().println();
            Runtime.getRuntime().exit(terminal.interrupts().exitStatus());
        });
        try {
            var line = in.readLine();
            if (line == null && terminal.inIsTerminal()) {
                terminal.err().println();
            }
            return line;
        } catch (IOException e) {
            throw FileErrors.explain("cannot read the standard input", e);
        } finally {
            terminal.interrupts().onSignal(null);
        }
    }

    private void answer(String message, LanguageModel model, Chat chat) {
        var terminal = main.terminal();
        var view = new AnswerView(terminal, model, true);
        terminal.interrupts().onSignal(model::cancel);
        var before = profile ? model.profile() : null;
        try {
            var answer = chat.send(message, view);
            view.endLine();
            if (terminal.inIsTerminal() || main.verbose()) {
                terminal.err().println("[" + AnswerView.figures(answer, model.info().weightBytes(),
                        engine.options().ioLimit()) + "; context " + chat.context().used()
                        + " of " + chat.context().capacity() + "]");
            }
            if (before != null) {
                terminal.err().println(new ProfileReport(model.profile().since(before), rates).text(false));
            }
        } catch (LaminaException e) {
            if (!terminal.inIsTerminal()) {
                throw e;
            }
            view.endLine();
            terminal.error(e.getMessage() + " (/reset begins a new conversation)");
        } finally {
            terminal.interrupts().onSignal(null);
        }
    }
}
