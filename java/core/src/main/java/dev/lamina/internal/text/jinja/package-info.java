/**
 * An interpreter of the part of the Jinja template language that published chat templates use, with Python's semantics
 * of values. Templates are untrusted: an interpreter has budgets of steps, memory and depth, and knows no Java object
 * but its own values.
 */
@NullMarked
package dev.lamina.internal.text.jinja;

import org.jspecify.annotations.NullMarked;
