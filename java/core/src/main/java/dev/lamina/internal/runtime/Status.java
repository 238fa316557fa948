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

    /**
     * The same for a call to a GPU: its messages know neither which one it was nor what its user can do.
     *
     * @param device what people are told it is
     */
    static void checkGpu(int status, String device) {
        if (status == lamina_h.LM_ERROR_OUT_OF_MEMORY()) {
            throw new LaminaException("The device " + device + ": " + lastError());
        }
        if (status == lamina_h.LM_ERROR_DEVICE()) {
            throw new LaminaException("The device " + device + " failed: " + lastError()
                    + ". Restart this process to use it again, or use --device cpu.");
        }
        check(status);
    }

    /** Throws if a GPU could not be found or opened. */
    static void checkOpened(int status, String device) {
        if (status != lamina_h.LM_OK()) {
            throw new LaminaException("The device " + device + " cannot be used: " + lastError()
                    + "; --device cpu works without it.");
        }
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
