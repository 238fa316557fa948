/** Text and tokens: tokenizers, incremental decoding, stop strings, chat templates. */
@NullMarked
package dev.lamina.internal.text;

import org.jspecify.annotations.NullMarked;
