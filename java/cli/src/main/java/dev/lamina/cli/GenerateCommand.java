package dev.lamina.cli;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import dev.lamina.Generation;
import dev.lamina.Message;
import dev.lamina.Prompt;
import java.util.ArrayList;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** {@code lamina generate}. */
@Command(
        name = "generate",
        description = "Continues a prompt, or answers it (--chat).",
        footer = {
            "",
            "Examples:",
            "  lamina generate --model models/Llama-3.1-8B --prompt 'Once upon a time' -n 100",
            "  lamina generate --model models/Qwen2.5-7B-Instruct --chat --prompt 'Why is the sky blue?'",
            "  lamina generate --model models/Qwen2.5-7B-Instruct --chat --prompt - --json < question.txt"
        })
final class GenerateCommand implements Callable<Integer> {
    private static final int MAX_TOKENS = 256;

    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Mixin
    private ModelFolder folder;

    @ArgGroup(multiplicity = "1")
    private Input input;

    @Option(names = "--chat", description = "The prompt is a message in the model's chat format, to be answered.")
    private boolean chat;

    @Option(names = "--system", paramLabel = "TEXT", description = "With --chat: how the model is to behave.")
    private @Nullable String system;

    @Mixin
    private SamplingOptions sampling;

    @Option(names = "--json", description = "Print one JSON object: ids, text, finish_reason, stats.")
    private boolean json;

    @Option(names = "--profile",
            description = "Say afterwards, on the error stream or in the JSON, what took the time.")
    private boolean profile;

    @Mixin
    private EngineOptions engine;

    /** The one or the other. */
    private static final class Input {
        @Option(names = "--prompt", paramLabel = "TEXT", required = true,
                description = "Text to continue; '-' reads it from the standard input.")
        private @Nullable String prompt;

        @Option(names = "--ids", paramLabel = "ID,...", required = true, converter = TokenIds.Converter.class,
                description = "Token ids to continue, as they are.")
        private @Nullable TokenIds ids;
    }

    @Override
    public Integer call() throws InterruptedException {
        var options = sampling.options(MAX_TOKENS);
        var modelOptions = engine.options().toBuilder().profile(profile).build();
        checkChat();
        var prompt = prompt();
        var terminal = main.terminal();
        try (var model = folder.open(modelOptions)) {
            terminal.interrupts().onSignal(model::cancel);
            var view = new AnswerView(terminal, model, !json);
            var answer = model.generate(prompt, options, view);
            terminal.interrupts().onSignal(null);
            view.endLine();
            var report = profile
                    ? new ProfileReport(model.profile(), terminal.interrupts().interrupted()
                            ? null
                            : model.measureRates(true))
                    : null;
            if (json) {
                terminal.println(toJson(answer, modelOptions.ioLimit(), report).toString());
            } else {
                terminal.err().println(AnswerView.figures(answer, model.info().weightBytes(),
                        modelOptions.ioLimit()));
                if (report != null) {
                    terminal.err().println(report.text(false));
                }
            }
        }
        return terminal.interrupts().exitStatus();
    }

    private void checkChat() {
        if (chat && input.prompt == null) {
            throw new ParameterException(spec.commandLine(), "--chat needs --prompt: token ids are taken as they are");
        }
        if (system != null && !chat) {
            throw new ParameterException(spec.commandLine(), "--system needs --chat");
        }
    }

    private Prompt prompt() {
        if (input.ids != null) {
            return Prompt.ids(input.ids.toArray());
        }
        boolean fromInput = input.prompt == null || input.prompt.equals("-");
        var text = fromInput ? Texts.ofInput(main.terminal().in()) : input.prompt;
        if (!chat) {
            return Prompt.text(text);
        }
        var messages = new ArrayList<Message>();
        if (system != null) {
            messages.add(Message.system(system));
        }
        messages.add(Message.user(text));
        return new Prompt.Conversation(messages);
    }

    private static JsonObject toJson(Generation answer, long ioLimit, @Nullable ProfileReport report) {
        var ids = new JsonArray();
        answer.ids().forEach(ids::add);
        var figures = answer.stats();
        var stats = new JsonObject();
        stats.addProperty("prompt_tokens", figures.promptTokens());
        stats.addProperty("cached_tokens", figures.cachedTokens());
        stats.addProperty("generated_tokens", figures.generatedTokens());
        stats.addProperty("prefill_seconds", figures.prefillSeconds());
        stats.addProperty("decode_seconds", figures.decodeSeconds());
        stats.addProperty("sweeps", figures.sweeps());
        stats.addProperty("disk_bytes", figures.diskBytes());
        stats.addProperty("disk_wait_seconds", figures.diskWaitSeconds());
        stats.addProperty("embedding_bytes", figures.embeddingBytes());
        stats.addProperty("padding_bytes", figures.paddingBytes());
        stats.addProperty("unused_read_ahead_bytes", figures.unusedReadAheadBytes());
        stats.addProperty("resident_bytes", figures.residentBytes());
        stats.addProperty("peak_host_bytes", figures.peakHostBytes());
        stats.addProperty("experts_used", figures.expertsUsed());
        stats.addProperty("experts_read", figures.expertsRead());
        stats.addProperty("expert_hit_rate", figures.expertHitRate());
        stats.addProperty("expert_disk_bytes", figures.expertBytes());
        stats.addProperty("predicted_expert_bytes", figures.predictedExpertBytes());
        stats.addProperty("mispredicted_expert_bytes", figures.mispredictedExpertBytes());
        if (ioLimit > 0) {
            stats.addProperty("io_limit_bytes_per_second", ioLimit);
        }
        var json = new JsonObject();
        json.add("ids", ids);
        json.addProperty("text", answer.text());
        json.addProperty("finish_reason", answer.finishReason().name().toLowerCase(Locale.ROOT));
        json.add("stats", stats);
        if (report != null) {
            json.add("profile", report.json());
        }
        return json;
    }
}
