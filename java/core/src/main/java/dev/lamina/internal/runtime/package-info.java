/** The safe face of the bindings: devices, memory, queues, KV caches and ops. */
@NullMarked
package dev.lamina.internal.runtime;

import org.jspecify.annotations.NullMarked;
