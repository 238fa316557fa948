/** What readers and sweeps did and when: events of the Java Flight Recorder, and the report of a profile. */
@NullMarked
package dev.lamina.internal.telemetry;

import org.jspecify.annotations.NullMarked;
