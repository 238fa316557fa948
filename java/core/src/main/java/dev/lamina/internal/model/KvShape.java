package dev.lamina.internal.model;

/**
 * What the KV cache holds of one layer for each position.
 *
 * @param heads heads of keys and of values
 * @param headDim floats of a key of one head
 * @param headDimV floats of a value of one head
 */
public record KvShape(int heads, int headDim, int headDimV) {}
