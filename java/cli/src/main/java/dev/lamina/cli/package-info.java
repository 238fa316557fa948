/** The command line {@code lamina}: one class a command; what commands share is in classes of its own beside them. */
@NullMarked
package dev.lamina.cli;

import org.jspecify.annotations.NullMarked;
