package dev.lamina.internal.text.jinja;

import java.time.Clock;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A parsed template. It behaves as the Python library jinja2 does in transformers: {@code trim_blocks} and
 * {@code lstrip_blocks}, the immutable sandbox, loop controls, {@code raise_exception}, {@code strftime_now}, and
 * {@code tojson} that does not escape for HTML. Immutable; for any number of threads.
 */
public final class Template {
    private static final int MAX_LENGTH = 1 << 20;

    private final List<Statement> statements;

    private Template(List<Statement> statements) {
        this.statements = statements;
    }

    /**
     * Parses a template.
     *
     * @throws JinjaException if it is not well formed, uses what is not supported, or is longer than 1 Mi characters
     */
    public static Template parse(String source) {
        if (source.length() > MAX_LENGTH) {
            throw new JinjaException("the template is longer than " + MAX_LENGTH + " characters");
        }
        return new Template(Parser.parse(source));
    }

    /**
     * Renders the template.
     *
     * @param variables by name: null, strings, booleans, numbers, and lists and maps of such
     * @param clock what {@code strftime_now} reads
     * @throws JinjaException if the template fails, refuses, or uses more than its share of time and memory
     */
    public String render(Map<String, ? extends @Nullable Object> variables, Clock clock) {
        long[] size = new long[1];
        Map<String, Object> values = new HashMap<>();
        variables.forEach((name, value) -> values.put(name, Values.fromJava(value, size, 0)));
        try {
            return new Interpreter(new Budget(size[0]), clock).render(statements, values);
        } catch (ArithmeticException e) {
            throw new JinjaException("a number leaves the range of 64-bit integers");
        } catch (StackOverflowError e) {
            throw new JinjaException("the template nests too deeply for the stack of this thread");
        }
    }
}
