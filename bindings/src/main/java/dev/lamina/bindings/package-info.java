/**
 * The C interface of the native runtime, {@code lamina.h}, as jextract writes it (see {@code bindings/generate.sh}; never
 * edited by hand), and {@link dev.lamina.bindings.NativeLibrary}, which loads the library that it calls.
 */
@NullMarked
package dev.lamina.bindings;

import org.jspecify.annotations.NullMarked;
