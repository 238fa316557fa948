/**
 * Checkpoints on disk: safetensors files, files of PyTorch, their indexes, shard sets; name to (file, offset, shape,
 * dtype).
 */
@NullMarked
package dev.lamina.internal.checkpoint;

import org.jspecify.annotations.NullMarked;
