package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;

/**
 * What a run of the command line came to.
 *
 * @param status exit status
 * @param out its standard output
 * @param err its standard error
 */
record Cli(int status, String out, String err) {
    /** Runs the command line in this process, with nothing on the standard input. */
    static Cli run(Object... arguments) {
        return runWithInput("", arguments);
    }

    /** Runs the command line in this process. */
    static Cli runWithInput(String input, Object... arguments) {
        var out = new ByteArrayOutputStream();
        var err = new ByteArrayOutputStream();
        var words = new String[arguments.length];
        for (int i = 0; i < words.length; i++) {
            words[i] = arguments[i].toString();
        }
        int status;
        try (var terminal = Terminal.of(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)), out, err)) {
            status = terminal.finish(Main.run(terminal, words));
        }
        return new Cli(status, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    }

    /** Demands success. */
    Cli succeeded() {
        assertEquals(0, status, err);
        return this;
    }

    /** Demands a failure that is told in one line, in which there are some words. */
    void failedInOneLine(String... words) {
        assertEquals(1, status, err);
        assertEquals("", out);
        assertTrue(err.startsWith("lamina: ") && err.indexOf('\n') == err.length() - 1, err);
        contains(words);
    }

    /** Demands that wrong usage is told in one line, in which there are some words, and a hint. */
    void wrongUsage(String... words) {
        assertEquals(2, status, err);
        assertEquals("", out);
        var lines = err.split("\n");
        assertEquals(2, lines.length, err);
        assertTrue(lines[0].startsWith("lamina: ") && lines[1].startsWith("Try 'lamina"), err);
        contains(words);
    }

    private void contains(String... words) {
        for (var word : words) {
            assertTrue(err.contains(word), () -> "no \"" + word + "\" in: " + err);
        }
    }

    /** The one JSON object on the standard output. */
    JsonObject json() {
        return JsonParser.parseString(succeeded().out).getAsJsonObject();
    }
}
