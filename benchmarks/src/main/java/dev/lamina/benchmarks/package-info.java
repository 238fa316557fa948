/**
 * Measurements: JMH benchmarks of the parts, and programs that compare the whole with something outside the project.
 */
@NullMarked
package dev.lamina.benchmarks;

import org.jspecify.annotations.NullMarked;
