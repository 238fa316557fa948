package dev.lamina;

/**
 * Told what a generation does, on the thread that called it. What it throws ends the generation and reaches the caller.
 */
@FunctionalInterface
public interface GenerationListener {
    /** A piece of text became certain; the pieces of a generation joined are its text. */
    void text(String piece);

    /**
     * A piece of text of one of several prompts that run together.
     *
     * @param prompt its index in the list
     * @param piece the text
     */
    default void text(int prompt, String piece) {
        text(piece);
    }

    /**
     * A token was sampled.
     *
     * @param prompt index of its prompt in the list, 0 for a single one
     * @param id the token
     */
    default void token(int prompt, int id) {}

    /** A panel was computed. Called often: return quickly. */
    default void progress(SweepProgress progress) {}
}
