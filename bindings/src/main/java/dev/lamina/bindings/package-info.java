/** The C functions of {@code native/include/lamina.h}, generated, and the loader of their library. */
@NullMarked
package dev.lamina.bindings;

import org.jspecify.annotations.NullMarked;
