/**
 * Architectures as programs: turns a model's {@code config.json} into the list of ops that a sweep runs. To add a
 * family, write one {@link dev.lamina.internal.model.Architecture} and name it in
 * {@link dev.lamina.internal.model.Architectures}.
 */
@NullMarked
package dev.lamina.internal.model;

import org.jspecify.annotations.NullMarked;
