/** The generation loop: schedule, sweep, sampler, conversations. Here the way of one token goes from end to end. */
@NullMarked
package dev.lamina.internal.generate;

import org.jspecify.annotations.NullMarked;
