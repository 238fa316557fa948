/** Makes shard sets from checkpoints, and verifies them. */
@NullMarked
package dev.lamina.internal.shard;

import org.jspecify.annotations.NullMarked;
