package dev.lamina.bindings;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.io.IOException;
import java.lang.foreign.AddressLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.GroupLayout;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.PaddingLayout;
import java.lang.foreign.SequenceLayout;
import java.lang.foreign.ValueLayout;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Fails when {@code lamina.h} and the bindings disagree: then run {@code bindings/generate.sh}. */
class BindingsTest {
    private static final String PACKAGE = "dev.lamina.bindings.";
    private static String header = "";

    @BeforeAll
    static void readHeader() throws IOException {
        header = Files.readString(Path.of(System.getProperty("lamina.header")))
                .replaceAll("(?s)/\\*.*?\\*/", " ")
                .replaceAll("\\s+", " ");
    }

    @Test
    void constantsAreThoseOfTheHeader() throws ReflectiveOperationException, IOException {
        var inHeader = new TreeMap<String, Integer>();
        var source = Files.readString(Path.of(System.getProperty("lamina.header")));
        matches(Pattern.compile("(?m)^#define (LM_[A-Z0-9_]+) (\\d+)"), source)
                .forEach(match -> inHeader.put(match.group(1), Integer.parseInt(match.group(2))));
        var inBindings = new TreeMap<String, Integer>();
        for (var method : lamina_h.class.getMethods()) {
            if (method.getName().startsWith("LM_")) {
                inBindings.put(method.getName(), (Integer) method.invoke(null));
            }
        }
        assertFalse(inHeader.isEmpty());
        assertEquals(inHeader, inBindings);
    }

    @Test
    void functionsAreThoseOfTheHeader() throws ReflectiveOperationException {
        var inHeader = new TreeMap<String, String>();
        matches(Pattern.compile("LM_API (\\w+) (lm_\\w+)\\(([^)]*)\\)"), header)
                .forEach(match -> inHeader.put(match.group(2), type(match.group(1)) + parameters(match.group(3))));
        var inBindings = new TreeMap<String, String>();
        for (var method : lamina_h.class.getMethods()) {
            if (method.getName().endsWith("$descriptor")) {
                var function = (FunctionDescriptor) method.invoke(null);
                var result = function.returnLayout().map(BindingsTest::type).orElse("void");
                inBindings.put(method.getName().replace("$descriptor", ""),
                        result + function.argumentLayouts().stream().map(BindingsTest::type).toList());
            }
        }
        assertFalse(inHeader.isEmpty());
        assertEquals(inHeader, inBindings);
    }

    @Test
    void structsAreThoseOfTheHeader() throws ReflectiveOperationException {
        var names = new TreeSet<String>();
        for (var match : matches(Pattern.compile("typedef struct (lm_\\w+) \\{([^}]*)\\} \\1;"), header)) {
            names.add(match.group(1));
            var layout = (GroupLayout) Class.forName(PACKAGE + match.group(1)).getMethod("layout").invoke(null);
            var inBindings = layout.memberLayouts().stream()
                    .filter(member -> !(member instanceof PaddingLayout))
                    .map(member -> type(member) + " " + member.name().orElseThrow())
                    .toList();
            assertEquals(fields(match.group(2)), inBindings, match.group(1));
        }
        assertFalse(names.isEmpty());
    }

    @Test
    void structsHaveTheSizesOfTheLibrary() throws ReflectiveOperationException {
        NativeLibrary.load();
        try (var arena = Arena.ofConfined()) {
            var abi = lm_abi.allocate(arena);
            assertEquals(lamina_h.LM_OK(), lamina_h.lm_get_abi(abi));
            assertEquals(lamina_h.LM_ABI_VERSION(), lm_abi.version(abi));
            Map<String, Integer> sizes = new TreeMap<>();
            for (Method method : lm_abi.class.getMethods()) {
                boolean getter = Arrays.equals(method.getParameterTypes(), new Class<?>[] {MemorySegment.class})
                        && Modifier.isStatic(method.getModifiers());
                if (getter && method.getName().startsWith("size_")) {
                    sizes.put("lm_" + method.getName().substring("size_".length()), (Integer) method.invoke(null, abi));
                }
            }
            assertFalse(sizes.isEmpty());
            for (var entry : sizes.entrySet()) {
                var size = Class.forName(PACKAGE + entry.getKey()).getMethod("sizeof").invoke(null);
                assertEquals(size, (long) entry.getValue(), entry.getKey());
            }
        }
    }

    private static List<Matcher> matches(Pattern pattern, String text) {
        var result = new ArrayList<Matcher>();
        var matcher = pattern.matcher(text);
        while (matcher.find()) {
            var copy = pattern.matcher(text);
            copy.find(matcher.start());
            result.add(copy);
        }
        return result;
    }

    private static List<String> parameters(String list) {
        return Arrays.stream(list.split(","))
                .map(String::strip)
                .map(parameter -> type(parameter.substring(0, parameter.lastIndexOf(' ') + 1)
                        + "*".repeat(parameter.substring(parameter.lastIndexOf(' ')).lastIndexOf('*') > 0 ? 1 : 0)))
                .toList();
    }

    private static List<String> fields(String body) {
        return Arrays.stream(body.split(";"))
                .map(String::strip)
                .filter(field -> !field.isEmpty())
                .map(field -> {
                    var name = field.substring(field.lastIndexOf(' ') + 1);
                    var array = Pattern.compile("(\\w+)\\[(\\d+)]").matcher(name);
                    return array.matches()
                            ? type(field) + "[" + array.group(2) + "] " + array.group(1)
                            : type(field) + " " + name;
                })
                .toList();
    }

    /** The type of a C declaration, in one word. */
    private static String type(String declaration) {
        if (declaration.contains("*")) {
            return "pointer";
        }
        return declaration.strip().replace("const ", "").split(" ")[0];
    }

    /** The same word for a layout. */
    private static String type(MemoryLayout layout) {
        return switch (layout) {
            case ValueLayout.OfInt v -> "int32_t";
            case ValueLayout.OfLong v -> "int64_t";
            case ValueLayout.OfFloat v -> "float";
            case ValueLayout.OfByte v -> "char";
            case AddressLayout v -> "pointer";
            case SequenceLayout sequence -> type(sequence.elementLayout()) + "[" + sequence.elementCount() + "]";
            case GroupLayout group when group.withoutName().equals(lm_view.layout().withoutName()) -> "lm_view";
            default -> throw new AssertionError("a type that the interface must not use: " + layout);
        };
    }
}
