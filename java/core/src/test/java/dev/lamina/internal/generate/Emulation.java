package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.ModelOptions;
import dev.lamina.internal.runtime.Device;
import org.junit.jupiter.api.Assumptions;

/** The CUDA kernels: run by the CPU, or by the device that a system property names. */
public final class Emulation {
    /** System property: the device to test, such as {@code "cuda"}. */
    private static final String PROPERTY = "lamina.test.device";

    static final String DEVICE = System.getProperty(PROPERTY, "cuda-emulated");
    static final ModelOptions OPTIONS = ModelOptions.builder().device(DEVICE).build();

    private Emulation() {}

    /** Skips the test where the build had no compiler for it; a device that was asked for has to be there. */
    public static void assume() {
        try {
            Device.open(DEVICE, 1, false).close();
        } catch (LaminaException e) {
            Assumptions.assumeFalse(System.getProperty(PROPERTY) == null
                    && String.valueOf(e.getMessage()).contains("this build has no"), e.getMessage());
            throw e;
        }
    }
}
