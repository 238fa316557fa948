package dev.lamina.internal.runtime;

import dev.lamina.LaminaException;
import dev.lamina.bindings.lamina_h;
import java.lang.foreign.Arena;

/** Turns the status codes of the native runtime into exceptions. */
final class Status {
    private static final int MESSAGE_BYTES = 1024;

    private Status() {}

    /** Throws if a call failed, with the message that the runtime left for this thread. */
    static void check(int status) {
        if (status == lamina_h.LM_OK()) {
            return;
        }
        throw new LaminaException(lastError());
    }

    /** The message that the runtime left for this thread. */
    static String lastError() {
        try (var arena = Arena.ofConfined()) {
            var message = arena.allocate(MESSAGE_BYTES);
            lamina_h.lm_last_error(message, MESSAGE_BYTES);
            return message.getString(0);
        }
    }
}
