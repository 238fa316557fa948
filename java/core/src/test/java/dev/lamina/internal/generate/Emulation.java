package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.ModelOptions;
import dev.lamina.internal.runtime.Device;
import org.junit.jupiter.api.Assumptions;

/** The CUDA kernels, run by the CPU. */
public final class Emulation {
    static final ModelOptions OPTIONS = ModelOptions.builder().device("cuda-emulated").build();

    private Emulation() {}

    /** Skips the test where the build had no compiler for it. */
    public static void assume() {
        try {
            Device.open("cuda-emulated", 1, false).close();
        } catch (LaminaException e) {
            Assumptions.assumeFalse(String.valueOf(e.getMessage()).contains("this build has no"), e.getMessage());
            throw e;
        }
    }
}
