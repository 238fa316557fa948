package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.ModelOptions;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.TorchFiles;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The same models give the same as files of PyTorch: one with one file, one with three. */
class TorchGoldenTest extends GoldenTest {
    private static final List<String> NAMES = List.of("llama32_tied", "yi_llama_gqa");

    @TempDir
    static Path folder;

    static List<Fixture> fixtures() throws IOException {
        var converted = new ArrayList<Fixture>();
        for (var fixture : Fixture.find(NAMES)) {
            var copy = folder.resolve(fixture.toString());
            if (!copy.toFile().exists()) {
                TorchFiles.convert(fixture.directory(), copy);
            }
            converted.add(new Fixture(copy));
        }
        assertEquals(NAMES.size(), converted.size());
        return converted;
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void bitsAreThoseOfSafetensors(Fixture fixture) throws IOException {
        var checkpoint = Checkpoint.open(fixture.directory());
        assertTrue(checkpoint.files().stream().allMatch(file -> file.toString().endsWith(".bin")));
        var original = Fixture.find(List.of(fixture.toString())).getFirst();
        var ids = fixture.prompts().getFirst().ids();
        for (var options : List.of(ModelOptions.defaults(), ModelOptions.builder().panel(10_000).prefetch(1).build())) {
            assertArrayEquals(ModesTest.logits(original.directory(), options, ids),
                    ModesTest.logits(fixture.directory(), options, ids));
        }
    }
}
