package dev.lamina.internal.model;

/**
 * An activation of a program: a (rows, width) matrix of floats.
 *
 * @param id number in its program, from 0
 * @param width floats of one row
 * @param outputRows whether it has a row only for each token whose logits are wanted, and not for every row of the
 *     sweep
 */
public record Value(int id, int width, boolean outputRows) {}
