package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import dev.lamina.internal.runtime.PageCache;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** Nothing of the weights that are read stays in the page cache, which no budget counts. */
@EnabledOnOs(OS.LINUX)
class PageCacheTest {
    private static final Path DEMO = Path.of("../cli/src/main/resources/dev/lamina/cli/demo");

    @TempDir
    Path temporary;

    /** Copies the demo model to where direct reads work, or skips the test. */
    private Path model() throws IOException {
        for (var name : List.of("config.json", "tokenizer.json", "model.safetensors")) {
            Files.copy(DEMO.resolve(name), temporary.resolve(name));
        }
        try (var model = LanguageModel.open(temporary.toString())) {
            Assumptions.assumeTrue(model.info().reading().startsWith("direct"), "the file system refuses direct reads");
        }
        return temporary.resolve("model.safetensors");
    }

    @Test
    void whatIsReadAndDroppedIsSeen() throws IOException {
        var weights = model();
        Files.readAllBytes(weights);
        assertTrue(PageCache.residentBytes(weights) >= Files.size(weights));
        PageCache.drop(weights);
        assertEquals(0, PageCache.residentBytes(weights));
    }

    @Test
    void streamedWeightsAreNotThere() throws IOException {
        var weights = model();
        var greedy = GenerationOptions.builder().maxTokens(8).greedy().ignoreEos(true).build();
        for (var memory : List.of("3MiB", "6MiB", "1GiB")) {
            try (var model = LanguageModel.open(temporary.toString(), ModelOptions.builder().memory(memory).build())) {
                assertEquals(0, PageCache.residentBytes(weights), "the header was read to open the model");
                assertTrue(model.generate(Prompt.ids(3, 4, 5), greedy).stats().diskBytes() > 0);
                assertEquals(0, PageCache.residentBytes(weights), memory);
                model.measureRates();
                assertEquals(0, PageCache.residentBytes(weights), memory);
            }
        }
    }
}
