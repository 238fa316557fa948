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
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The example in the README compiles and runs as it stands there. */
class ReadmeTest {
    @TempDir
    Path temporary;

    @Test
    void theExampleRuns() throws Exception {
        var readme = Files.readString(Path.of("../../README.md"));
        var code = readme.substring(readme.indexOf("```java\n") + "```java\n".length());
        code = code.substring(0, code.indexOf("```"));
        var source = temporary.resolve("Example.java");
        Files.writeString(source, code.replace("Why is the sky blue?", "What is 2 + 3?"));
        var compiler = ToolProvider.getSystemJavaCompiler();
        assertNotNull(compiler);
        assertEquals(0, compiler.run(null, null, null, "-cp", System.getProperty("java.class.path"), "-d",
                temporary.toString(), source.toString()));

        var model = Path.of("src/main/resources/dev/lamina/cli/demo").toAbsolutePath();
        var printed = new ByteArrayOutputStream();
        var out = System.out;
        try (var loader = new URLClassLoader(new URL[] {temporary.toUri().toURL()}, getClass().getClassLoader())) {
            System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
            var main = loader.loadClass("Example").getMethod("main", String[].class);
            main.invoke(null, (Object) new String[] {model.toString()});
        } finally {
            System.setOut(out);
        }
        var text = printed.toString(StandardCharsets.UTF_8);
        assertTrue(text.startsWith("2 + 3 = 5."), text);
        assertTrue(text.contains("tokens/s"), text);
    }
}
