/** Reads the weights: direct files, the staging ring with its reader threads, and the plan of what stays in memory. */
@NullMarked
package dev.lamina.internal.stream;

import org.jspecify.annotations.NullMarked;
