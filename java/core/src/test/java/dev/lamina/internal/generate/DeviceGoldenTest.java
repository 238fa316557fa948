package dev.lamina.internal.generate;

import dev.lamina.ModelOptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;

/**
 * The CUDA kernels give them too, on the device that {@link Emulation} names: minutes where the CPU runs them, so it is
 * asked for by its tag (CONTRIBUTING.md).
 */
@Tag("emulated")
class DeviceGoldenTest extends GoldenTest {
    @BeforeAll
    static void needsTheBackend() {
        Emulation.assume();
    }

    @Override
    ModelOptions options() {
        return Emulation.OPTIONS;
    }
}
