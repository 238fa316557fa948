package dev.lamina;

/**
 * One message of a conversation.
 *
 * @param role who speaks: {@code "system"}, {@code "user"}, {@code "assistant"}, or another role that the model's chat
 *     template knows
 * @param content what was said
 */
public record Message(String role, String content) {
    /** Makes a message of the user. */
    public static Message user(String content) {
        return new Message("user", content);
    }

    /** Makes a message of the model. */
    public static Message assistant(String content) {
        return new Message("assistant", content);
    }

    /** Makes a message that tells the model how to behave. */
    public static Message system(String content) {
        return new Message("system", content);
    }
}
