package dev.lamina;

/** Why a generation ended. */
public enum FinishReason {
    /** A stop token or a stop string. */
    STOP,
    /** The asked number of tokens, or a full context. */
    LENGTH,
    /** {@link LanguageModel#cancel} or {@link LanguageModel#close}. */
    CANCELLED
}
