package dev.lamina;

/**
 * How well a model predicts a text.
 *
 * @param tokens tokens that were scored
 * @param perplexity exp(mean negative log-likelihood); NaN if no token was scored
 */
public record Perplexity(long tokens, double perplexity) {}
