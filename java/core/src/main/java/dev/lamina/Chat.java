package dev.lamina;

import java.util.List;

/**
 * A conversation. Its KV cache is kept, so that a turn computes only what is new. Use it from one thread at a time;
 * close it to free the cache (closing the model does so too).
 */
public interface Chat extends AutoCloseable {
    /**
     * Sends a message of the user and returns the answer. Both are added to the conversation, unless the answer was
     * cancelled before its first token.
     *
     * @throws LaminaException if the conversation no longer fits the context
     */
    Generation send(String message, GenerationListener listener);

    /** The conversation so far. */
    List<Message> messages();

    /** Positions that the context has, and that are in use. */
    ContextUse context();

    @Override
    void close();

    /**
     * How full a context is.
     *
     * @param used positions in the KV cache
     * @param capacity positions that it can hold
     */
    record ContextUse(int used, int capacity) {}
}
