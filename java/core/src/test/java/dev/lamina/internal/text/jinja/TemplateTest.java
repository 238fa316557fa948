package dev.lamina.internal.text.jinja;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.text.Fixtures;
import java.time.Clock;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class TemplateTest {
    private static final Clock CLOCK = Clock.systemUTC();

    static Clock clock(String now) {
        return Clock.fixed(LocalDateTime.parse(now).toInstant(ZoneOffset.UTC), ZoneOffset.UTC);
    }

    /** Every expression and statement renders as jinja2 does, or fails where it fails. */
    @Test
    void smallTemplatesRenderAsJinja2() {
        List<String> wrong = new ArrayList<>();
        Map<String, Object> file = Fixtures.readJson(Fixtures.resource("jinja/cases.json"));
        Clock clock = clock((String) file.get("now"));
        @SuppressWarnings("unchecked")
        Map<String, Object> variables = (Map<String, Object>) file.get("variables");
        List<Map<String, Object>> cases = Fixtures.maps(file.get("cases"));
        assertTrue(cases.size() > 800);
        for (Map<String, Object> one : cases) {
            String template = (String) one.get("template");
            String rendered;
            try {
                rendered = Template.parse(template).render(variables, clock);
            } catch (JinjaException e) {
                rendered = null;
            }
            Object expected = one.get("rendered");
            if (rendered == null ? expected != null : !rendered.equals(expected)) {
                wrong.add(template + " gives " + rendered + ", not " + (expected == null ? "an error" : expected));
            }
        }
        assertEquals(List.of(), wrong);
    }

    static Stream<String> unsupported() {
        Object templates = Fixtures.readJson(Fixtures.resource("jinja/cases.json")).get("unsupported");
        return ((List<?>) templates).stream().map(String.class::cast);
    }

    /** What is not supported is an error that says where. */
    @ParameterizedTest
    @MethodSource("unsupported")
    void unsupportedConstructsAreErrors(String template) {
        Map<String, Object> variables = new HashMap<>(Map.of("s", "x", "n", 1, "l", List.of(1)));
        JinjaException error = assertThrows(
                JinjaException.class, () -> Template.parse("\n\n" + template).render(variables, CLOCK));
        assertEquals(3, error.line(), error.getMessage());
    }

    @Test
    void errorsNameTheConstruct() {
        assertTrue(error("{% include 'x' %}").getMessage().contains("'include'"));
        assertTrue(error("{{ 1 | nosuch }}").getMessage().contains("'nosuch'"));
        assertTrue(error("{{ 1 is nosuch }}").getMessage().contains("'nosuch'"));
        assertTrue(error("{{ 'x'.encode() }}").getMessage().contains("'encode'"));
        assertTrue(error("{{ cycler(1) }}").getMessage().contains("'cycler'"));
        assertTrue(error("{{ missing.x }}").getMessage().contains("'missing'"));
        assertTrue(error("{{ raise_exception('no') }}").raisedByTemplate());
    }

    private static JinjaException error(String template) {
        return assertThrows(JinjaException.class, () -> Template.parse(template).render(Map.of(), CLOCK));
    }

    /** Templates that would run forever, fill the memory or overflow the stack end with an error. */
    @ParameterizedTest
    @ValueSource(strings = {
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}"
                + "{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{{ 'x' * 9999999999 }}",
        "{{ 'x' * 9223372036854775807 }}",
        "{{ [1] * 9999999999 }}",
        "{{ (1,) * 999999999 }}",
        "{{ 'x' * 100000000 }}",
        "{{ range(9223372036854775807) | list }}",
        "{{ range(-9223372036854775807, 9223372036854775807) | list }}",
        "{{ 2 ** 9223372036854775807 }}",
        "{{ 10 ** 100 }}",
        "{{ '%x' % (-9223372036854775807 - 1) }}",
        "{{ 'abc'[::-9223372036854775807 - 1] }}",
        "{{ (-9223372036854775807 - 1) | abs }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(99999) %}{% set ns.s = ns.s | map('string') %}{% endfor %}"
                + "{{ ns.s | list }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%.999999999f' % 1 }}",
        "{{ 'x'.center(9999999999) }}",
        "{{ 'x'.zfill(99999999999999) }}",
        "{{ 'x' | center(2147483647) }}",
        "{{ 'a\nb' | indent(9999999999) }}",
        "{{ [1] | tojson(indent=9999999999) }}",
        "{{ [[[[1]]]] | tojson(indent=100000000) }}",
        "{{ ('x' * 1000000).replace('', 'y' * 1000000) }}",
        "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
        "{{ ('x' * 100000).join(['a'] * 100000) }}",
        "{{ [1] | batch(999999999, 'x') | list }}",
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
                + "{{ ns.s | tojson }}",
        "{% set a = namespace(s=[1]) %}{% set b = namespace(s=[1]) %}{% for i in range(60) %}"
                + "{% set a.s = [a.s, a.s] %}{% set b.s = [b.s, b.s] %}{% endfor %}{{ a.s == b.s }}",
        "{% set a = namespace(s=[1]) %}{% set b = namespace(s=[1]) %}{% for i in range(60) %}"
                + "{% set a.s = [a.s, a.s] %}{% set b.s = [b.s, b.s] %}{% endfor %}{{ a.s < b.s }}",
        "{% set ns = namespace(s=1) %}{% set ns.s = ns %}{{ ns }}",
        "{% set ns = namespace(s=1) %}{% set ns.s = [ns] %}{{ ns.s }}",
        "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% set y = x | length %}{% endfor %}",
        "{% set x = 'a' * 4000000 %}{% set y = 'a' * 2000000 ~ 'b' %}"
                + "{% for i in range(9999) %}{% if y in x %}{% endif %}{% endfor %}",
        "{% set x = 'a' * 4000000 %}{% for i in range(99999) %}{% set y = x.upper() %}{% endfor %}",
        "{% set x = 'ab' * 1000000 %}{% for i in range(99999) %}{% set y = x.split('b') %}{% endfor %}",
        "{% for c in 'a' * 10000000 %}{% for d in 'a' * 10000000 %}{% endfor %}{% endfor %}",
        "{% filter upper %}{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
                + "{% endfilter %}",
        "{% set x %}{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}{% endset %}",
        "{% for x in range(99999) if x < 0 or range(99999) | select('>', 99999) | list %}{% endfor %}",
        "{{ range(99999) | map('string') | map('list') | map('join', ',' * 9999) | join }}",
        "{{ (range(99999) | list | string * 1000) | wordcount }}",
        "{{ range(99999) | unique | list }}",
    })
    void hostileTemplatesEnd(String template) {
        error(template);
    }

    /** Deep nesting of a template, or of the values of the caller, is an error on a small stack too. */
    @Test
    void deepNestingIsAnError() throws InterruptedException {
        List<String> templates = List.of(
                "{{ " + "(".repeat(5000) + "1" + ")".repeat(5000) + " }}",
                "{{ " + "[".repeat(5000) + "]".repeat(5000) + " }}",
                "{{ " + "-".repeat(5000) + "1 }}",
                "{{ " + "not ".repeat(5000) + "1 }}",
                "{{ " + "1 if 1 else ".repeat(5000) + "1 }}",
                "{{ 'x'" + "[0]".repeat(5000) + " }}",
                "{{ 1" + " + 1".repeat(5000) + " }}",
                "{{ 'x'" + " | upper".repeat(5000) + " }}",
                "{{ 1 is odd" + " and 1".repeat(5000) + " }}",
                "{% if 1 %}".repeat(5000) + "{% endif %}".repeat(5000),
                "{% for x in 'x' %}".repeat(5000) + "{% endfor %}".repeat(5000),
                "{% macro m(a) %}{{ [[[[[[[[m([a])]]]]]]]] }}{% endmacro %}{{ m(1) }}");
        List<Object> results = new ArrayList<>();
        Thread thread = new Thread(null, () -> {
            for (String template : templates) {
                try {
                    results.add(Template.parse(template).render(Map.of(), CLOCK));
                } catch (JinjaException | StackOverflowError e) {
                    results.add(e);
                }
            }
        }, "small stack", 512 * 1024);
        thread.start();
        thread.join();
        assertEquals(templates.size(), results.size());
        for (int i = 0; i < results.size(); i++) {
            assertTrue(results.get(i) instanceof JinjaException, templates.get(i).substring(0, 20));
        }
    }

    @Test
    void javaIsOutOfReach() {
        assertEquals("|||", Template.parse(
                "{{ ''.class }}|{{ 'x'.getClass }}|{{ [].__class__ }}|{{ {}.entrySet }}").render(Map.of(), CLOCK));
        assertThrows(JinjaException.class, () -> Template.parse("{{ x }}").render(Map.of("x", new Object()), CLOCK));
        assertThrows(JinjaException.class, () -> Template.parse("{{ ''.getClass() }}").render(Map.of(), CLOCK));
    }

    @Test
    void variablesOfTheCallerDoNotChange() {
        List<Object> list = new ArrayList<>(List.of(1));
        Template.parse("{% set x = l + [2] %}{% set y = l | sort %}").render(Map.of("l", list), CLOCK);
        assertEquals(List.of(1), list);
    }
}
