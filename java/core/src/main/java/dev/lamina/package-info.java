/** Runs language models that are larger than the memory of the machine: start at {@link dev.lamina.LanguageModel}. */
@NullMarked
package dev.lamina;

import org.jspecify.annotations.NullMarked;
