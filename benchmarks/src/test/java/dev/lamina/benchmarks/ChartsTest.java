package dev.lamina.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.GraphicsEnvironment;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.xml.sax.InputSource;

class ChartsTest {
    @TempDir
    private Path folder;

    @Test
    void drawsWhatWasMeasuredAndTheory() throws Exception {
        System.setProperty("java.awt.headless", "true");
        Assumptions.assumeTrue(hasFonts(), "the Java runtime measures text with fonts of the system; there are none");
        var results = Path.of(ChartsTest.class.getResource("results.json").toURI());

        var texts = new TreeMap<String, String>();
        for (var file : Charts.draw(results, folder.resolve("charts"))) {
            texts.put(file.getFileName().toString(), textOf(Files.readString(file)));
        }

        assertEquals(List.of("read-rate.svg", "tokens-by-rate.svg", "tokens-by-resident-share.svg"),
                List.copyOf(texts.keySet()));
        for (var expected : Map.of(
                "read-rate.svg", List.of("GB/s", "depth 4, mode mmap"),
                "tokens-by-rate.svg", List.of("tokens/s", "GB/s", "resident 0.5", "theory: rate / 0.737 GB a token"),
                "tokens-by-resident-share.svg", List.of("limit 550MB/s", "theory: 2.00 GB/s / (0.737 GB - resident)"))
                .entrySet()) {
            for (var text : expected.getValue()) {
                assertTrue(texts.get(expected.getKey()).contains(text), expected.getKey() + " lacks " + text);
            }
        }
    }

    private static boolean hasFonts() {
        try {
            return GraphicsEnvironment.getLocalGraphicsEnvironment().getAvailableFontFamilyNames().length > 0;
        } catch (RuntimeException | LinkageError e) {
            return false;
        }
    }

    private static String textOf(String svg) throws Exception {
        var factory = DocumentBuilderFactory.newInstance();
        // The document type names a file on the network, which nobody needs.
        factory.setFeature("http://apache.org/xml/features/nonvalidating/load-external-dtd", false);
        return factory.newDocumentBuilder().parse(new InputSource(new StringReader(svg))).getDocumentElement()
                .getTextContent();
    }
}
