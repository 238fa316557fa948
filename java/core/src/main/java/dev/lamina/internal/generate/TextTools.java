package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.Message;
import dev.lamina.internal.text.ChatFormat;
import dev.lamina.internal.text.ChatTemplate;
import dev.lamina.internal.text.Tokenizer;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * Tokenizer, and chat template or format, of a model, loaded when they are first needed. Safe for use by several
 * threads.
 */
final class TextTools implements AutoCloseable {
    private final Path directory;
    private @Nullable Tokenizer tokenizer;
    private @Nullable ChatTemplate template;
    private @Nullable ChatFormat format;
    private boolean knowsChat;
    private boolean closed;

    TextTools(Path directory) {
        this.directory = directory;
    }

    /** The tokenizer; an error if the model has none. */
    synchronized Tokenizer tokenizer() {
        if (closed) {
            throw new LaminaException("The model " + directory + " is closed.");
        }
        if (tokenizer == null) {
            tokenizer = Tokenizer.open(directory);
        }
        return tokenizer;
    }

    /** The tokenizer, or null if the model has none: then token ids go in and out, and texts are empty. */
    @Nullable Tokenizer tokenizerOrNull() {
        return Tokenizer.exists(directory) ? tokenizer() : null;
    }

    /** The token ids of a conversation, ready for an answer. */
    int[] encodeChat(List<Message> messages) {
        loadChat();
        return format != null
                ? format.encode(messages, true)
                : tokenizer().encode(template().render(messages, true, Map.of()), false);
    }

    /** Tokens that end the answer to a conversation, beside those that end every text. */
    Set<Integer> chatStopTokens() {
        loadChat();
        return format == null ? Set.of() : format.stopTokens();
    }

    private synchronized void loadChat() {
        if (!knowsChat) {
            template = ChatFormat.replacesTemplate(directory) ? null : ChatTemplate.load(directory);
            format = template == null && Tokenizer.exists(directory) ? ChatFormat.load(directory, tokenizer()) : null;
            knowsChat = true;
        }
    }

    private ChatTemplate template() {
        if (template == null) {
            throw new LaminaException("The model in " + directory + " has no chat template (chat_template.jinja, or"
                    + " \"chat_template\" in tokenizer_config.json): give a plain prompt.");
        }
        return template;
    }

    @Override
    public synchronized void close() {
        closed = true;
        if (tokenizer != null) {
            tokenizer.close();
            tokenizer = null;
        }
    }
}
