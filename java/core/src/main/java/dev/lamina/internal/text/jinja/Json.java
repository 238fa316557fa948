package dev.lamina.internal.text.jinja;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** The filter {@code tojson} as transformers defines it: Python's {@code json.dumps}, not escaped for HTML. */
final class Json {
    private final StringBuilder out = new StringBuilder();
    private final boolean ascii;
    private final @Nullable String indent;
    private final String itemSeparator;
    private final String keySeparator;
    private final boolean sortKeys;
    private final Budget budget;
    private int depth;

    private Json(
            boolean ascii,
            @Nullable String indent,
            String itemSeparator,
            String keySeparator,
            boolean sortKeys,
            Budget budget) {
        this.ascii = ascii;
        this.indent = indent;
        this.itemSeparator = itemSeparator;
        this.keySeparator = keySeparator;
        this.sortKeys = sortKeys;
        this.budget = budget;
    }

    static String dump(Object value, CallArguments arguments, Budget budget) {
        @Nullable Object[] given = arguments.bind(
                "tojson", 0, "ensure_ascii", "indent", "separators", "sort_keys");
        String indent = indent(given[1], budget);
        String itemSeparator = indent == null ? ", " : ",";
        String keySeparator = ": ";
        if (given[2] != null && given[2] != None.NONE) {
            List<Object> separators = Values.list(given[2], budget);
            if (separators.size() != 2) {
                throw new JinjaException("the separators of tojson are a pair");
            }
            itemSeparator = PyString.text(separators.get(0), "tojson");
            keySeparator = PyString.text(separators.get(1), "tojson");
        }
        Json json = new Json(
                given[0] != null && Values.truth(given[0]),
                indent,
                itemSeparator,
                keySeparator,
                given[3] != null && Values.truth(given[3]),
                budget);
        json.write(value);
        return json.out.toString();
    }

    private static @Nullable String indent(@Nullable Object value, Budget budget) {
        if (value == null || value == None.NONE) {
            return null;
        }
        if (value instanceof String text) {
            return text;
        }
        long width = Math.max(0, Values.integer(value, "the indent of tojson"));
        budget.chars(width);
        return " ".repeat((int) width);
    }

    private void write(Object value) {
        budget.step();
        budget.enter();
        int before = out.length();
        switch (value) {
            case None ignored -> out.append("null");
            case Boolean b -> out.append(b.booleanValue());
            case Long n -> out.append(n.longValue());
            case Double d -> out.append(number(d));
            case String s -> string(s);
            case Values.Safe s -> string(s.text());
            case List<?> list -> array(Values.objects(list).iterator());
            case Values.Tuple tuple -> array(tuple.items().iterator());
            case Map<?, ?> dict -> object(Values.dict(dict));
            default -> throw new JinjaException("a " + Values.typeName(value) + " cannot be written as JSON");
        }
        if (!(value instanceof List<?> || value instanceof Map<?, ?> || value instanceof Values.Tuple)) {
            budget.chars(out.length() - before);
        }
        budget.leave();
    }

    private static String number(double value) {
        return Double.isNaN(value) ? "NaN"
                : Double.isInfinite(value) ? (value > 0 ? "Infinity" : "-Infinity") : Values.repr(value);
    }

    private void array(Iterator<Object> items) {
        if (!items.hasNext()) {
            out.append("[]");
            return;
        }
        out.append('[');
        depth++;
        for (boolean first = true; items.hasNext(); first = false) {
            next(first);
            write(items.next());
        }
        depth--;
        newline();
        out.append(']');
    }

    private void object(Map<Object, Object> dict) {
        if (dict.isEmpty()) {
            out.append("{}");
            return;
        }
        List<Map.Entry<Object, Object>> entries = new ArrayList<>(dict.entrySet());
        if (sortKeys) {
            entries.sort((a, b) -> Values.compare(a.getKey(), b.getKey(), budget));
        }
        out.append('{');
        depth++;
        boolean first = true;
        for (Map.Entry<Object, Object> entry : entries) {
            next(first);
            first = false;
            string(switch (entry.getKey()) {
                case None ignored -> "null";
                case Boolean b -> b.toString();
                case Double d -> number(d);
                default -> Values.str(entry.getKey(), budget);
            });
            out.append(keySeparator);
            write(entry.getValue());
        }
        depth--;
        newline();
        out.append('}');
    }

    private void next(boolean first) {
        if (!first) {
            budget.chars(itemSeparator.length() + keySeparator.length());
            out.append(itemSeparator);
        }
        newline();
    }

    private void newline() {
        if (indent != null) {
            budget.chars(1 + (long) indent.length() * depth);
            out.append('\n').append(indent.repeat(depth));
        }
    }

    private void string(String text) {
        budget.chars(text.length());
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                case '\f' -> out.append("\\f");
                case '\b' -> out.append("\\b");
                default -> {
                    if (c < 0x20 || ascii && c > 0x7e) {
                        out.append(String.format(Locale.ROOT, "\\u%04x", (int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        out.append('"');
    }
}
