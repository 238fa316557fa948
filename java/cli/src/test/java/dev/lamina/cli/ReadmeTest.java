package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The examples in the README compile and run as they stand there. */
class ReadmeTest {
    @TempDir
    Path temporary;

    /** Compiles the class and runs its main method; gives what it printed. */
    private String run(String name, UnaryOperator<String> change, String... arguments) throws Exception {
        var readme = Files.readString(Path.of("../../README.md"));
        var code = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL).matcher(readme).results()
                .map(block -> block.group(1)).filter(block -> block.contains("public class " + name + " "))
                .findFirst().orElseThrow();
        var source = temporary.resolve(name + ".java");
        Files.writeString(source, change.apply(code));
        var compiler = ToolProvider.getSystemJavaCompiler();
        assertNotNull(compiler);
        assertEquals(0, compiler.run(null, null, null, "-cp", System.getProperty("java.class.path"), "-d",
                temporary.toString(), source.toString()));

        var printed = new ByteArrayOutputStream();
        var out = System.out;
        try (var loader = new URLClassLoader(new URL[] {temporary.toUri().toURL()}, getClass().getClassLoader())) {
            System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
            var main = loader.loadClass(name).getMethod("main", String[].class);
            main.invoke(null, (Object) arguments);
        } finally {
            System.setOut(out);
        }
        return printed.toString(StandardCharsets.UTF_8);
    }

    @Test
    void theExampleRuns() throws Exception {
        var model = Path.of("src/main/resources/dev/lamina/cli/demo").toAbsolutePath();
        var text = run("Example", code -> code.replace("Why is the sky blue?", "What is 2 + 3?"), model.toString());
        assertTrue(text.startsWith("2 + 3 = 5."), text);
        assertTrue(text.contains("tokens/s"), text);
    }

    @Test
    void theReaderReads() throws Exception {
        var file = temporary.resolve("file");
        Files.write(file, new byte[12_345_678]);
        var text = run("ReadFile", code -> code, "cpu", file.toString());
        assertTrue(text.startsWith("STAGED: 0.01 GB in "), text);
    }
}
