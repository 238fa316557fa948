package dev.lamina.internal.generate;

import dev.lamina.ModelOptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;

/** The CUDA kernels give them too, run by the CPU: minutes, so it is asked for by its tag (CONTRIBUTING.md). */
@Tag("emulated")
class EmulatedGoldenTest extends GoldenTest {
    @BeforeAll
    static void needsTheBackend() {
        Emulation.assume();
    }

    @Override
    ModelOptions options() {
        return Emulation.OPTIONS;
    }
}
