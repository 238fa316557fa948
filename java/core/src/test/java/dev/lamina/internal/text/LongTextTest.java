package dev.lamina.internal.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

/** In a JVM with a small heap, a long text is tokenized or refused: the native library ends a process that runs out. */
class LongTextTest {
    private static final Path MODEL = Path.of("src/test/resources/fixtures/chat_qwen2");

    /** The program of the small JVM: prints the number of tokens, or the error. */
    static final class Encode {
        private Encode() {}

        public static void main(String[] arguments) {
            try (var tokenizer = Tokenizer.open(Path.of(arguments[0]))) {
                System.out.println(tokenizer.encode("a fox ".repeat(Integer.parseInt(arguments[1])), true).length);
            } catch (LaminaException e) {
                System.out.println(e.getMessage());
            }
        }
    }

    @Test
    void aTextThatFitsIsTokenized() throws Exception {
        assertTrue(Integer.parseInt(encode(400_000)) >= 800_000);
    }

    @Test
    void aTextThatDoesNotFitIsRefused() throws Exception {
        var output = encode(5_000_000);
        assertTrue(output.contains("30000000 bytes") && output.contains("-Xmx"), output);
    }

    private static String encode(int repeats) throws Exception {
        var process = new ProcessBuilder(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xmx128m", "-XX:+UseSerialGC", "--enable-native-access=ALL-UNNAMED", "-cp",
                System.getProperty("java.class.path"), Encode.class.getName(), MODEL.toString(), "" + repeats))
                .redirectError(ProcessBuilder.Redirect.DISCARD).start();
        var output = new String(process.getInputStream().readAllBytes()).strip();
        assertEquals(0, process.waitFor(), output);
        return output;
    }
}
