package dev.lamina.internal.text;

import dev.lamina.LaminaException;
import dev.lamina.Message;
import dev.lamina.internal.text.jinja.JinjaException;
import dev.lamina.internal.text.jinja.Template;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * The template that a model's authors published to write a conversation as text. Immutable; for any number of threads.
 *
 * <p>The text that it renders names the special tokens itself: encode it with {@code addSpecialTokens} false.
 */
public final class ChatTemplate {
    static final String DEFAULT = "default";
    private static final String FOR_TOOLS = "tool_use";
    private static final String FILE = "chat_template.jinja";
    private static final String ADVICE = "; pass the prompt as plain text instead of a chat";
    private static final Pattern BREAKS = Pattern.compile("\\s*\\R\\s*");

    private final Path source;
    private final Map<String, String> sources;
    private final Map<String, Object> specialTokens;
    private final Map<String, Template> parsed = new HashMap<>();
    private final Map<String, LaminaException> faults = new HashMap<>();

    private ChatTemplate(Path source, Map<String, String> sources, Map<String, Object> specialTokens) {
        this.source = source;
        this.sources = sources;
        this.specialTokens = specialTokens;
        sources.forEach((name, text) -> {
            try {
                parsed.put(name, Template.parse(text));
            } catch (JinjaException e) {
                faults.put(name, fault(e));
            }
        });
    }

    /**
     * Reads the chat template of a model: {@code chat_template.jinja}, else {@code chat_template} in
     * {@code tokenizer_config.json}. A template with a fault is reported when it is rendered, since the model is of use
     * without it.
     *
     * @return null if the model has none
     * @throws LaminaException if a file is there but cannot be read
     */
    public static @Nullable ChatTemplate load(Path modelDirectory) {
        TokenizerConfig config = TokenizerConfig.read(modelDirectory);
        Path file = modelDirectory.resolve(FILE);
        Map<String, String> sources = new HashMap<>(config.chatTemplates());
        if (Files.exists(file)) {
            try {
                sources.put(DEFAULT, Files.readString(file));
            } catch (IOException e) {
                throw new LaminaException(file + " cannot be read: " + e + "; check the file and its permissions", e);
            }
        } else {
            file = modelDirectory.resolve(TokenizerConfig.FILE);
        }
        return sources.isEmpty() ? null : new ChatTemplate(file, sources, config.specialTokens());
    }

    /**
     * Writes a conversation as text.
     *
     * @param messages the conversation
     * @param addGenerationPrompt whether the text ends where the model begins to answer
     * @param variables further variables that templates look at, such as {@code enable_thinking} or {@code tools}:
     *     null, strings, booleans, numbers, and lists and maps of such
     * @throws LaminaException if the template refuses the conversation, uses what is not supported, or runs too long
     */
    public String render(
            List<Message> messages, boolean addGenerationPrompt, Map<String, ? extends @Nullable Object> variables) {
        List<Map<String, Object>> maps = new ArrayList<>();
        for (Message message : messages) {
            maps.add(Map.of("role", message.role(), "content", message.content()));
        }
        return render(maps, addGenerationPrompt, variables, Clock.systemDefaultZone());
    }

    String render(
            List<? extends Map<String, ?>> messages,
            boolean addGenerationPrompt,
            Map<String, ? extends @Nullable Object> variables,
            Clock clock) {
        Map<String, @Nullable Object> all = new HashMap<>();
        // Templates ask whether these are none, not whether they are defined.
        all.put("tools", null);
        all.put("documents", null);
        all.putAll(specialTokens);
        all.putAll(variables);
        all.put("messages", messages);
        all.put("add_generation_prompt", addGenerationPrompt);
        String name = all.get("tools") != null && sources.containsKey(FOR_TOOLS) ? FOR_TOOLS : DEFAULT;
        LaminaException fault = faults.get(name);
        if (fault != null) {
            throw new LaminaException(fault.getMessage(), fault);
        }
        Template template = parsed.get(name);
        if (template == null) {
            throw new LaminaException(source + " has several chat templates and none is called 'default'" + ADVICE);
        }
        try {
            return template.render(all, clock);
        } catch (JinjaException e) {
            throw fault(e);
        }
    }

    private LaminaException fault(JinjaException e) {
        String message = BREAKS.matcher(String.valueOf(e.getMessage())).replaceAll(" ");
        if (e.raisedByTemplate()) {
            return new LaminaException("the chat template in " + source + " refuses the conversation: " + message, e);
        }
        String where = e.line() > 0 ? ", line " + e.line() : "";
        return new LaminaException("the chat template in " + source + where + ": " + message + ADVICE, e);
    }
}
