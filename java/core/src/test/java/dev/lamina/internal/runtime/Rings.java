package dev.lamina.internal.runtime;

import java.io.IOException;
import org.junit.jupiter.api.Assumptions;

/** Whether there is io_uring. */
public final class Rings {
    private Rings() {}

    /** Skips the test where the system gives none. */
    public static void assume() {
        try {
            ReadRing.open(1).close();
        } catch (IOException e) {
            Assumptions.abort(e.getMessage());
        }
    }
}
