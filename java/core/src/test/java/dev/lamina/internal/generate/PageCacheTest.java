package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.ModelOptions.Io;
import dev.lamina.Prompt;
import dev.lamina.internal.runtime.PageCache;
import dev.lamina.internal.runtime.Rings;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.extension.AnnotatedElementContext;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.io.TempDirFactory;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Nothing of the weights that are read stays in the page cache, which no budget counts. */
@EnabledOnOs(OS.LINUX)
class PageCacheTest {
    private static final Path DEMO = Path.of("../cli/src/main/resources/dev/lamina/cli/demo");

    /** A folder below target/, where direct reads work more often than in a temporary folder. */
    static final class BelowTarget implements TempDirFactory {
        @Override
        public Path createTempDirectory(AnnotatedElementContext element, ExtensionContext test) throws IOException {
            var target = Files.createDirectories(Path.of("target").toAbsolutePath());
            return Files.createTempDirectory(target, "page-cache-test-");
        }
    }

    @TempDir(factory = BelowTarget.class)
    Path temporary;

    /** Copies the demo model to where files leave the page cache and direct reads work, or skips the test. */
    private Path model() throws IOException {
        for (var name : List.of("config.json", "tokenizer.json", "model.safetensors")) {
            Files.copy(DEMO.resolve(name), temporary.resolve(name));
        }
        var weights = temporary.resolve("model.safetensors");
        PageCache.drop(weights);
        Assumptions.assumeTrue(PageCache.residentBytes(weights) == 0, "the file system is the page cache");
        try (var model = LanguageModel.open(temporary.toString())) {
            Assumptions.assumeTrue(model.info().reading().startsWith("direct"), "the file system refuses direct reads");
        }
        return weights;
    }

    @Test
    void whatIsReadAndDroppedIsSeen() throws IOException {
        var weights = model();
        Files.readAllBytes(weights);
        assertTrue(PageCache.residentBytes(weights) >= Files.size(weights));
        PageCache.drop(weights);
        assertEquals(0, PageCache.residentBytes(weights));
    }

    @ParameterizedTest
    @EnumSource(value = Io.class, names = {"CHANNEL", "PREAD", "URING", "BUFFERED"})
    void streamedWeightsAreNotThere(Io io) throws IOException {
        if (io == Io.URING) {
            Rings.assume();
        }
        var weights = model();
        var greedy = GenerationOptions.builder().maxTokens(8).greedy().ignoreEos(true).build();
        for (var memory : List.of("3MiB", "6MiB", "1GiB")) {
            var options = ModelOptions.builder().memory(memory).io(io).build();
            try (var model = LanguageModel.open(temporary.toString(), options)) {
                assertNotThere(weights, io, "the header was read to open the model");
                assertTrue(model.generate(Prompt.ids(3, 4, 5), greedy).stats().diskBytes() > 0);
                assertNotThere(weights, io, memory);
                model.measureRates(true);
                assertNotThere(weights, io, memory);
            }
            assertEquals(0, PageCache.residentBytes(weights), memory + " after closing");
        }
    }

    /** While a model is open, what the system reads ahead of buffered reads may be there. */
    private static void assertNotThere(Path weights, Io io, String what) throws IOException {
        if (io != Io.BUFFERED) {
            assertEquals(0, PageCache.residentBytes(weights), what);
        }
    }
}
