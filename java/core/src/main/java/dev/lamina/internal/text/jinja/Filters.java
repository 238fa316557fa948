package dev.lamina.internal.text.jinja;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/** The filters of Jinja that chat templates use, with {@code tojson} as transformers defines it. */
final class Filters {
    static final Set<String> NAMES = Set.of(
            "abs", "attr", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "first", "float",
            "format", "indent", "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min",
            "reject", "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "sort", "string",
            "sum", "title", "tojson", "trim", "unique", "upper", "wordcount");

    private static final int MAX_NUMBER_LENGTH = 400;
    private static final Pattern FLOAT = Pattern.compile(
            "[+-]?(?:(?:[0-9]++\\.?+[0-9]*+|\\.[0-9]++)(?:[eE][+-]?[0-9]++)?|inf|infinity|nan)",
            Pattern.CASE_INSENSITIVE);

    private static final Pattern UNDERSCORE = Pattern.compile("(?<=[0-9])_(?=[0-9])");

    private final Interpreter interpreter;
    private final Budget budget;

    Filters(Interpreter interpreter, Budget budget) {
        this.interpreter = interpreter;
        this.budget = budget;
    }

    Object apply(String name, Object value, CallArguments arguments) {
        budget.step();
        String where = "the filter '" + name + "'";
        return switch (name) {
            case "abs" -> abs(value, arguments, where);
            case "attr" -> attr(value, PyString.text(arguments.bind(where, 1, "name")[0], where));
            case "batch" -> batch(value, arguments, where);
            case "capitalize", "upper", "lower", "center", "trim" -> stringMethod(name, value, arguments, where);
            case "count", "length" -> {
                arguments.bind(where, 0);
                if (value instanceof String text) {
                    budget.scan(text);
                }
                yield Values.length(value);
            }
            case "d", "default" -> defaulted(value, arguments, where);
            case "dictsort" -> dictSort(value, arguments, where);
            case "first" -> {
                arguments.bind(where, 0);
                Iterator<Object> items = Values.iterate(value);
                yield items.hasNext() ? items.next() : new Undefined("there is no first item, the sequence is empty");
            }
            case "last" -> last(value, arguments, where);
            case "float" -> toFloat(value, arguments, where);
            case "int" -> toInt(value, arguments, where);
            case "format" -> format(value, arguments);
            case "indent" -> indent(value, arguments, where);
            case "items" -> {
                arguments.bind(where, 0);
                yield items(value);
            }
            case "join" -> join(value, arguments, where);
            case "list" -> {
                arguments.bind(where, 0);
                yield Values.list(value, budget);
            }
            case "map" -> map(value, arguments, where);
            case "max", "min" -> extreme(name, value, arguments, where);
            case "select", "selectattr", "reject", "rejectattr" -> select(name, value, arguments, where);
            case "replace" -> replace(value, arguments, where);
            case "reverse" -> {
                arguments.bind(where, 0);
                yield reverse(value);
            }
            case "round" -> round(value, arguments, where);
            case "safe" -> {
                arguments.bind(where, 0);
                yield new Values.Safe(Values.str(value, budget));
            }
            case "sort" -> sort(value, arguments, where);
            case "string" -> {
                arguments.bind(where, 0);
                yield value instanceof Values.Safe ? value : Values.str(value, budget);
            }
            case "sum" -> sum(value, arguments, where);
            case "title" -> {
                arguments.bind(where, 0);
                yield title(string(value));
            }
            case "tojson" -> Json.dump(value, arguments, budget);
            case "unique" -> unique(value, arguments, where);
            case "wordcount" -> {
                arguments.bind(where, 0);
                yield wordCount(string(value));
            }
            default -> throw new JinjaException(where + " is not supported");
        };
    }

    /** Returns the text of any value, for the filters that work on text. */
    private String string(Object value) {
        if (value instanceof Values.Safe) {
            throw new JinjaException("filters on a safe string are not supported: put '| safe' last");
        }
        String text = Values.str(value, budget);
        budget.scan(text);
        return text;
    }

    private Object stringMethod(String name, Object value, CallArguments arguments, String where) {
        String text = string(value);
        return switch (name) {
            case "trim" -> {
                Object characters = arguments.bind(where, 0, "chars")[0];
                CallArguments stripped = characters == null
                        ? CallArguments.NONE
                        : new CallArguments(List.of(characters), Map.of());
                yield PyString.call(text, "strip", stripped, budget);
            }
            case "center" -> {
                Object width = arguments.bind(where, 0, "width")[0];
                yield PyString.call(
                        text, name, new CallArguments(List.of(width == null ? 80L : width), Map.of()), budget);
            }
            default -> {
                arguments.bind(where, 0);
                yield PyString.call(text, name, CallArguments.NONE, budget);
            }
        };
    }

    private static Object abs(Object value, CallArguments arguments, String where) {
        arguments.bind(where, 0);
        Number number = Values.number(value);
        if (number == null) {
            throw new JinjaException(where + " needs a number and got a " + Values.typeName(value));
        }
        if (number instanceof Double d) {
            return Math.abs(d);
        }
        return number.longValue() < 0 ? Arithmetic.sign(true, number) : number;
    }

    private Object attr(Object value, String name) {
        Values.throwIfUndefined(value);
        return value instanceof Map<?, ?> && !Interpreter.DICT_METHODS.contains(name)
                ? new Undefined("a dict has no attribute '" + name + "'")
                : interpreter.attribute(value, name);
    }

    private Object batch(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 1, "linecount", "fill_with");
        long size = Values.integer(given[0], where);
        Object fill = given[1] == null ? None.NONE : given[1];
        Iterator<Object> items = Values.iterate(value);
        return lazy(() -> {
            if (!items.hasNext()) {
                return null;
            }
            List<Object> batch = new ArrayList<>();
            do {
                budget.elements(1);
                batch.add(items.next());
            } while (batch.size() != size && items.hasNext());
            while (fill != None.NONE && batch.size() < size) {
                budget.elements(1);
                batch.add(fill);
            }
            return batch;
        });
    }

    private static Object defaulted(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 0, "default_value", "boolean");
        boolean alsoFalse = given[1] != null && Values.truth(given[1]);
        if (value instanceof Undefined || alsoFalse && !Values.truth(value)) {
            return given[0] == null ? "" : given[0];
        }
        return value;
    }

    private Object dictSort(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 0, "case_sensitive", "by", "reverse");
        boolean caseSensitive = given[0] != null && Values.truth(given[0]);
        Object by = given[1] == null ? "key" : given[1];
        if (!by.equals("key") && !by.equals("value")) {
            throw new JinjaException(where + " sorts by 'key' or 'value'");
        }
        List<Object> items = Values.list(items(requireDict(value, where)), budget);
        int position = by.equals("key") ? 0 : 1;
        sortBy(items, item -> fold(((Values.Tuple) item).items().get(position), caseSensitive),
                given[2] != null && Values.truth(given[2]));
        return items;
    }

    private static Object requireDict(Object value, String where) {
        Values.throwIfUndefined(value);
        if (!(value instanceof Map<?, ?>)) {
            throw new JinjaException(where + " needs a dict and got a " + Values.typeName(value));
        }
        return value;
    }

    private Object fold(Object value, boolean caseSensitive) {
        return caseSensitive || !(value instanceof String text)
                ? value
                : PyString.call(text, "lower", CallArguments.NONE, budget);
    }

    private void sortBy(List<Object> items, Function<Object, Object> key, boolean reverse) {
        record Keyed(Object key, Object item) {}
        budget.elements(items.size());
        List<Keyed> keyed = new ArrayList<>();
        items.forEach(item -> keyed.add(new Keyed(key.apply(item), item)));
        Comparator<Keyed> order = (a, b) -> Values.compare(a.key(), b.key(), budget);
        keyed.sort(reverse ? Collections.reverseOrder(order) : order);
        items.clear();
        keyed.forEach(entry -> items.add(entry.item()));
    }

    private static Object items(Object value) {
        if (value instanceof Undefined) {
            return new Values.Lazy(Collections.emptyIterator());
        }
        return new Values.Lazy(new Values.DictView(
                "items", Values.dict((Map<?, ?>) requireDict(value, "the filter 'items'"))).iterator());
    }

    private Object last(Object value, CallArguments arguments, String where) {
        arguments.bind(where, 0);
        if (value instanceof Values.Lazy) {
            throw new JinjaException(where + " needs a list: write '| list | last'");
        }
        Iterator<Object> items = Values.iterate(reverse(value));
        return items.hasNext() ? items.next() : new Undefined("there is no last item, the sequence is empty");
    }

    private Object reverse(Object value) {
        if (value instanceof String text) {
            budget.chars(text.length());
            return new StringBuilder(text).reverse().toString();
        }
        List<Object> items = Values.list(value, budget);
        Collections.reverse(items);
        return value instanceof Values.Lazy ? items : new Values.Lazy(items.iterator());
    }

    private Object toFloat(Object value, CallArguments arguments, String where) {
        Object given = arguments.bind(where, 0, "default")[0];
        Double number = parseFloat(value);
        return number != null ? number : given == null ? (Object) 0.0 : given;
    }

    /** Takes away what Python allows in a number: white space around it and underscores between its digits. */
    private static String digits(String text) {
        return UNDERSCORE.matcher(PyString.strip(text, null, true, true)).replaceAll("");
    }

    private static @Nullable Double parseFloat(Object value) {
        Values.throwIfUndefined(value);
        Number number = Values.number(value);
        if (number != null) {
            return number.doubleValue();
        }
        if (!(value instanceof String text) || text.length() > MAX_NUMBER_LENGTH) {
            return null;
        }
        String digits = digits(text);
        if (!FLOAT.matcher(digits).matches()) {
            return null;
        }
        String lower = digits.toLowerCase(Locale.ROOT);
        if (lower.endsWith("nan")) {
            return Double.NaN;
        }
        if (lower.contains("inf")) {
            return lower.startsWith("-") ? Double.NEGATIVE_INFINITY : Double.POSITIVE_INFINITY;
        }
        return Double.parseDouble(digits);
    }

    private Object toInt(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 0, "default", "base");
        Object otherwise = given[0] == null ? (Object) 0L : given[0];
        long base = given[1] == null ? 10 : Values.integer(given[1], where);
        if (base < 2 || base > 36) {
            throw new JinjaException(where + " knows bases from 2 to 36");
        }
        if (value instanceof String text && text.length() <= MAX_NUMBER_LENGTH) {
            try {
                return Long.parseLong(digits(text), (int) base);
            } catch (NumberFormatException e) {
                // Not an integer: perhaps "42.5", which gives 42.
            }
        }
        if (value instanceof Long || value instanceof Boolean) {
            return Values.integer(value, where);
        }
        Double number = parseFloat(value);
        if (number == null || !Double.isFinite(number)) {
            return otherwise;
        }
        if (Math.abs(number) >= 0x1p63) {
            throw new JinjaException(where + " leaves the range of 64-bit integers");
        }
        return number.longValue();
    }

    private Object format(Object value, CallArguments arguments) {
        if (!arguments.named().isEmpty() && !arguments.positional().isEmpty()) {
            throw new JinjaException("the filter 'format' takes arguments by position or by name, not both");
        }
        Object values = arguments.named().isEmpty()
                ? new Values.Tuple(arguments.positional())
                : arguments.named();
        return Format.percent(string(value), values, budget);
    }

    private Object indent(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 0, "width", "first", "blank");
        String text = PyString.text(value, where);
        String indent;
        if (given[0] instanceof String characters) {
            indent = characters;
        } else {
            long width = Math.max(0, given[0] == null ? 4 : Values.integer(given[0], where));
            budget.chars(width);
            indent = " ".repeat((int) width);
        }
        boolean first = given[1] != null && Values.truth(given[1]);
        boolean blank = given[2] != null && Values.truth(given[2]);
        List<Object> lines = PyString.splitLines(text + "\n", false, budget);
        budget.chars(text.length() + (long) lines.size() * (indent.length() + 1));
        StringBuilder out = new StringBuilder(first ? indent : "");
        for (int i = 0; i < lines.size(); i++) {
            String line = (String) lines.get(i);
            boolean indented = i > 0 && (blank || !line.isEmpty());
            out.append(i > 0 ? "\n" : "").append(indented ? indent : "").append(line);
        }
        return out.toString();
    }

    private Object join(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 0, "d", "attribute");
        Function<Object, Object> getter = getter(given[1], None.NONE);
        List<Object> texts = new ArrayList<>();
        for (Object item : Values.list(value, budget)) {
            texts.add(Values.str(getter.apply(item), budget));
        }
        return PyString.join(given[0] == null ? "" : Values.str(given[0], budget), texts, budget);
    }

    /** Returns what looks up an attribute such as {@code "function.name"} or 0; without one, the item itself. */
    private Function<Object, Object> getter(@Nullable Object attribute, Object otherwise) {
        if (attribute == null || attribute == None.NONE) {
            return item -> item;
        }
        List<Object> path = new ArrayList<>();
        if (attribute instanceof String text) {
            for (String part : text.split("\\.", -1)) {
                boolean number = !part.isEmpty() && part.length() < 10 && part.chars().allMatch(Character::isDigit);
                path.add(number ? (Object) Long.parseLong(part) : part);
            }
        } else {
            path.add(attribute);
        }
        return item -> {
            Object value = item;
            for (Object key : path) {
                value = interpreter.item(value, key);
                if (otherwise != None.NONE && value instanceof Undefined) {
                    value = otherwise;
                }
            }
            return value;
        };
    }

    private Object map(Object value, CallArguments arguments, String where) {
        Function<Object, Object> function;
        if (arguments.positional().isEmpty()) {
            @Nullable Object[] given = new CallArguments(List.of(), arguments.named())
                    .bind(where, 0, "attribute", "default");
            if (given[0] == null) {
                throw new JinjaException(where + " needs the name of a filter or an attribute");
            }
            function = getter(given[0], given[1] == null ? None.NONE : given[1]);
        } else {
            String filter = PyString.text(arguments.positional().getFirst(), where);
            CallArguments rest = arguments.drop(1);
            function = item -> apply(filter, item, rest);
        }
        Iterator<Object> items = Values.iterate(value);
        return lazy(() -> items.hasNext() ? function.apply(items.next()) : null);
    }

    private Object select(String name, Object value, CallArguments arguments, String where) {
        boolean byAttribute = name.endsWith("attr");
        boolean keeps = name.startsWith("select");
        CallArguments rest = arguments;
        Function<Object, Object> getter = item -> item;
        if (byAttribute) {
            if (arguments.positional().isEmpty()) {
                throw new JinjaException(where + " needs the name of an attribute");
            }
            getter = getter(arguments.positional().getFirst(), None.NONE);
            rest = arguments.drop(1);
        }
        Predicate<Object> test = Values::truth;
        if (!rest.positional().isEmpty()) {
            String testName = PyString.text(rest.positional().getFirst(), where);
            CallArguments testArguments = rest.drop(1);
            test = item -> Tests.apply(testName, item, testArguments, budget);
        }
        Function<Object, Object> take = getter;
        Predicate<Object> keep = test;
        Iterator<Object> items = Values.iterate(value);
        return lazy(() -> {
            while (items.hasNext()) {
                budget.step();
                Object item = items.next();
                if (keep.test(take.apply(item)) == keeps) {
                    return item;
                }
            }
            return null;
        });
    }

    /** Something that gives one item after the other, then null. */
    private interface Source {
        @Nullable Object next();
    }

    private static Values.Lazy lazy(Source source) {
        return new Values.Lazy(new Iterator<>() {
            private @Nullable Object following;

            @Override
            public boolean hasNext() {
                if (following == null) {
                    following = source.next();
                }
                return following != null;
            }

            @Override
            public Object next() {
                if (!hasNext()) {
                    throw new NoSuchElementException();
                }
                Object item = following;
                following = null;
                return item;
            }
        });
    }

    private Object extreme(String name, Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 0, "case_sensitive", "attribute");
        boolean caseSensitive = given[0] != null && Values.truth(given[0]);
        Function<Object, Object> getter = getter(given[1], None.NONE);
        Object best = null;
        Object bestKey = null;
        for (Object item : Values.list(value, budget)) {
            Object key = fold(getter.apply(item), caseSensitive);
            int order = bestKey == null ? 0 : Values.compare(key, bestKey, budget);
            if (bestKey == null || (name.equals("max") ? order > 0 : order < 0)) {
                best = item;
                bestKey = key;
            }
        }
        return best == null ? new Undefined("the sequence is empty") : best;
    }

    private Object replace(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 2, "old", "new", "count");
        long count = given[2] == null || given[2] == None.NONE ? -1 : Values.integer(given[2], where);
        return PyString.replace(string(value), string(given[0]), string(given[1]), count, budget);
    }

    private static Object round(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 0, "precision", "method");
        int precision = given[0] == null ? 0 : Values.index(given[0], where);
        Number number = Values.number(value);
        if (number == null) {
            throw new JinjaException(where + " needs a number and got a " + Values.typeName(value));
        }
        if (Math.abs(precision) > 300) {
            throw new JinjaException(where + " rounds to at most 300 digits");
        }
        Object method = given[1] == null ? "common" : given[1];
        if (method.equals("common")) {
            if (number instanceof Long n) {
                return precision >= 0 ? n : BigDecimal.valueOf(n)
                        .setScale(precision, RoundingMode.HALF_EVEN).setScale(0).longValueExact();
            }
            double d = number.doubleValue();
            return Double.isFinite(d)
                    ? (Object) new BigDecimal(d).setScale(precision, RoundingMode.HALF_EVEN).doubleValue()
                    : number;
        }
        if (!method.equals("ceil") && !method.equals("floor")) {
            throw new JinjaException(where + " knows the methods common, ceil and floor");
        }
        double scale = Math.pow(10, precision);
        double scaled = number.doubleValue() * scale;
        return (method.equals("ceil") ? Math.ceil(scaled) : Math.floor(scaled)) / scale;
    }

    private Object sort(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 0, "reverse", "case_sensitive", "attribute");
        boolean caseSensitive = given[1] != null && Values.truth(given[1]);
        List<Function<Object, Object>> getters = new ArrayList<>();
        if (given[2] instanceof String attributes) {
            for (String attribute : attributes.split(",", -1)) {
                getters.add(getter(attribute, None.NONE));
            }
        } else {
            getters.add(getter(given[2], None.NONE));
        }
        List<Object> items = Values.list(value, budget);
        sortBy(items, item -> {
            List<Object> key = new ArrayList<>();
            getters.forEach(getter -> key.add(fold(getter.apply(item), caseSensitive)));
            return key;
        }, given[0] != null && Values.truth(given[0]));
        return items;
    }

    private Object sum(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 0, "attribute", "start");
        Function<Object, Object> getter = getter(given[0], None.NONE);
        Object total = given[1] == null ? (Object) 0L : given[1];
        for (Object item : Values.list(value, budget)) {
            total = Arithmetic.apply("+", total, getter.apply(item), budget);
        }
        return total;
    }

    /** Begins a word after white space and opening brackets only, unlike the method of the same name. */
    private Object title(String text) {
        budget.chars(text.length());
        StringBuilder out = new StringBuilder();
        int start = 0;
        while (start < text.length()) {
            boolean separators = separatesWords(text.charAt(start));
            int end = start;
            while (end < text.length() && separatesWords(text.charAt(end)) == separators) {
                end++;
            }
            String part = text.substring(start, end);
            int first = Character.charCount(part.codePointAt(0));
            out.append(part.substring(0, first).toUpperCase(Locale.ROOT))
                    .append(part.substring(first).toLowerCase(Locale.ROOT));
            start = end;
        }
        return out.toString();
    }

    private static boolean separatesWords(char c) {
        return PyString.isSpace(c) || "-({[<".indexOf(c) >= 0;
    }

    private Object unique(Object value, CallArguments arguments, String where) {
        @Nullable Object[] given = arguments.bind(where, 0, "case_sensitive", "attribute");
        boolean caseSensitive = given[0] != null && Values.truth(given[0]);
        Function<Object, Object> getter = getter(given[1], None.NONE);
        List<Object> seen = new ArrayList<>();
        Iterator<Object> items = Values.iterate(value);
        return lazy(() -> {
            while (items.hasNext()) {
                Object item = items.next();
                Object key = fold(getter.apply(item), caseSensitive);
                if (seen.stream().noneMatch(other -> Values.equal(other, key, budget))) {
                    budget.elements(1);
                    seen.add(key);
                    return item;
                }
            }
            return null;
        });
    }

    private static Long wordCount(String text) {
        long words = 0;
        boolean inWord = false;
        for (int i = 0; i < text.length(); i += Character.charCount(text.codePointAt(i))) {
            int c = text.codePointAt(i);
            boolean wordPart = Character.isLetterOrDigit(c) || c == '_'
                    || Character.getType(c) == Character.OTHER_NUMBER;
            words += wordPart && !inWord ? 1 : 0;
            inWord = wordPart;
        }
        return words;
    }
}
