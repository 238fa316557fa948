package dev.lamina.internal.generate;

import dev.lamina.Chat;
import dev.lamina.FinishReason;
import dev.lamina.Generation;
import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.LaminaException;
import dev.lamina.Message;
import java.util.ArrayList;
import java.util.List;

/** A conversation with a {@link StreamedModel}: each turn is formatted as a whole, but only what is new is computed. */
final class Conversation implements Chat {
    private final StreamedModel model;
    private final Sequence sequence;
    private final GenerationOptions options;
    private final List<Message> messages;
    private boolean closed;

    Conversation(StreamedModel model, Sequence sequence, List<Message> history, GenerationOptions options) {
        this.model = model;
        this.sequence = sequence;
        this.options = options;
        this.messages = new ArrayList<>(history);
    }

    @Override
    public Generation send(String message, GenerationListener listener) {
        if (closed) {
            throw new LaminaException("The conversation is closed.");
        }
        var next = new ArrayList<>(messages);
        next.add(Message.user(message));
        var answer = model.answer(sequence, next, options, listener);
        if (answer.finishReason() != FinishReason.CANCELLED || !answer.ids().isEmpty()) {
            messages.add(next.getLast());
            messages.add(Message.assistant(answer.text()));
        }
        return answer;
    }

    @Override
    public List<Message> messages() {
        return List.copyOf(messages);
    }

    @Override
    public ContextUse context() {
        return new ContextUse(sequence.cached(), sequence.cache().capacity());
    }

    @Override
    public void close() {
        if (!closed) {
            model.release(sequence); // which a listener is refused
            closed = true;
        }
    }
}
