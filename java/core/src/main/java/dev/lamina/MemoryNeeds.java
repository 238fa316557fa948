package dev.lamina;

/**
 * What memory does for a model, in bytes of {@link ModelOptions#memory}.
 *
 * @param least the least that is accepted
 * @param whole with so much, all weights stay in memory after the first sweep
 */
public record MemoryNeeds(long least, long whole) {}
