package dev.lamina;

/** Why a generation ended. */
public enum FinishReason {
    /** A stop token or a stop string. */
    STOP,
    /** The asked number of tokens, or a full context. */
    LENGTH,
    /** {@link LanguageModel#cancel}, {@link LanguageModel#close}, or an interrupt of the calling thread. */
    CANCELLED
}
