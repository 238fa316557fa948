/** Checkpoints on disk: safetensors files, their index, shard sets; name to (file, offset, shape, dtype). */
@NullMarked
package dev.lamina.internal.checkpoint;

import org.jspecify.annotations.NullMarked;
