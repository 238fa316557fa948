package dev.lamina;

import java.util.Arrays;
import java.util.List;

/** What a model is asked to continue. */
public sealed interface Prompt {
    /**
     * A text; the tokenizer adds what it adds at the start of a text.
     *
     * @param text not empty, unless the tokenizer adds a BOS token
     */
    record Text(String text) implements Prompt {}

    /**
     * A conversation in the model's chat format, to be answered.
     *
     * @param messages at least one
     */
    record Conversation(List<Message> messages) implements Prompt {
        /** Copies the list. */
        public Conversation {
            messages = List.copyOf(messages);
        }
    }

    /**
     * Token ids, taken as they are.
     *
     * @param ids at least one
     */
    record Ids(List<Integer> ids) implements Prompt {
        /** Copies the list. */
        public Ids {
            ids = List.copyOf(ids);
        }
    }

    /** A text. */
    static Prompt text(String text) {
        return new Text(text);
    }

    /** A conversation. */
    static Prompt chat(Message... messages) {
        return new Conversation(List.of(messages));
    }

    /** Token ids. */
    static Prompt ids(int... ids) {
        return new Ids(Arrays.stream(ids).boxed().toList());
    }
}
