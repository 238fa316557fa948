package dev.lamina.internal.text.jinja;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import org.jspecify.annotations.Nullable;

/**
 * Python's rules for values. A value is {@link None}, {@link Boolean}, {@link Long}, {@link Double}, {@link String}, a
 * {@link List}, a {@link Tuple}, a {@link Map} (a dict), or one of the records below. Strings count in code points.
 */
final class Values {
    private static final int MAX_INPUT_DEPTH = 64;

    private Values() {}

    /** A tuple: a list that is written with parentheses. */
    record Tuple(List<Object> items) {}

    /** The keys, values or items of a dict. */
    record DictView(String kind, Map<Object, Object> dict) {
        Iterator<Object> iterator() {
            return switch (kind) {
                case "keys" -> dict.keySet().iterator();
                case "values" -> dict.values().iterator();
                default -> mapped(dict.entrySet().iterator());
            };
        }

        private static Iterator<Object> mapped(Iterator<Map.Entry<Object, Object>> entries) {
            return new Iterator<>() {
                @Override
                public boolean hasNext() {
                    return entries.hasNext();
                }

                @Override
                public Object next() {
                    Map.Entry<Object, Object> entry = entries.next();
                    return tuple(entry.getKey(), entry.getValue());
                }
            };
        }
    }

    /** An arithmetic sequence that is never laid out in memory. */
    record Range(long start, long stop, long step) {
        private static final int MAX_LENGTH = 100_000;

        static Range of(List<Object> arguments) {
            if (arguments.isEmpty() || arguments.size() > 3) {
                throw new JinjaException("range() takes one to three numbers");
            }
            long first = integer(arguments.getFirst(), "range()");
            long start = arguments.size() == 1 ? 0 : first;
            long stop = arguments.size() == 1 ? first : integer(arguments.get(1), "range()");
            long step = arguments.size() == 3 ? integer(arguments.get(2), "range()") : 1;
            if (step == 0) {
                throw new JinjaException("range() needs a step other than 0");
            }
            Range range = new Range(start, stop, step);
            if (range.length() > MAX_LENGTH) {
                throw new JinjaException("range() gives more than " + MAX_LENGTH + " numbers");
            }
            return range;
        }

        long length() {
            if (step > 0 ? start >= stop : start <= stop) {
                return 0;
            }
            try {
                long distance = step > 0 ? Math.subtractExact(stop, start) : Math.subtractExact(start, stop);
                return (distance - 1) / Math.absExact(step) + 1;
            } catch (ArithmeticException e) {
                return Long.MAX_VALUE;
            }
        }

        Long at(long index) {
            return start + index * step;
        }
    }

    /** Items that are computed as they are taken, once: what {@code map}, {@code select} and the like return. */
    record Lazy(Iterator<Object> items) {}

    /** A string marked with {@code safe}; only printing and joining with {@code ~} are supported. */
    record Safe(String text) {}

    /** What {@code namespace()} makes: the only value that a template can change. */
    record Namespace(Map<String, Object> attributes) {}

    /** A method of a value, not called yet. */
    record Method(Object self, String name) {}

    /** A function that every template can call. */
    record Function(String name) {}

    static Tuple tuple(Object... items) {
        return new Tuple(Arrays.asList(items));
    }

    /**
     * Copies a value of the caller into values of templates.
     *
     * @param value null, a string, boolean or number, or a list or map of such
     * @param size sum of the lengths of all strings, to which this adds; an array of one element
     */
    static Object fromJava(@Nullable Object value, long[] size, int depth) {
        if (depth > MAX_INPUT_DEPTH) {
            throw new JinjaException("a variable is nested deeper than " + MAX_INPUT_DEPTH + " levels");
        }
        size[0] += 4;
        switch (value) {
            case null -> {
                return None.NONE;
            }
            case None none -> {
                return none;
            }
            case CharSequence text -> {
                size[0] += text.length();
                return text.toString();
            }
            case Boolean bool -> {
                return bool;
            }
            case Float number -> {
                return number.doubleValue();
            }
            case Double number -> {
                return number;
            }
            case Byte number -> {
                return number.longValue();
            }
            case Short number -> {
                return number.longValue();
            }
            case Integer number -> {
                return number.longValue();
            }
            case Long number -> {
                return number;
            }
            case Iterable<?> items -> {
                List<Object> list = new ArrayList<>();
                for (Object item : items) {
                    list.add(fromJava(item, size, depth + 1));
                }
                return list;
            }
            case Map<?, ?> map -> {
                Map<Object, Object> dict = new LinkedHashMap<>();
                map.forEach((key, item) -> dict.put(
                        key(fromJava(key, size, depth + 1)), fromJava(item, size, depth + 1)));
                return dict;
            }
            default -> throw new JinjaException(
                    "a variable is a " + value.getClass().getSimpleName() + ", which templates do not know");
        }
    }

    /** Checks a key of a dict. */
    static Object key(Object value) {
        return switch (value) {
            case String s -> s;
            case Long n -> n;
            case Double d -> d;
            case Boolean b -> b;
            case None none -> none;
            default -> throw new JinjaException("a " + typeName(value) + " as key of a dict is not supported");
        };
    }

    /** Returns the key of a dict that is equal to the given one (1, 1.0 and true are equal), or that one. */
    static Object keyIn(Map<?, ?> dict, Object key) {
        Number number = number(key);
        if (number == null || dict.containsKey(key)) {
            return key;
        }
        double value = number.doubleValue();
        for (Object equal : List.of(number.longValue(), value, value == 1)) {
            Number other = number(equal);
            if (other != null && compareNumbers(number, other) == 0 && dict.containsKey(equal)) {
                return equal;
            }
        }
        return key;
    }

    static String typeName(Object value) {
        return switch (value) {
            case None ignored -> "NoneType";
            case Boolean ignored -> "bool";
            case Long ignored -> "int";
            case Double ignored -> "float";
            case String ignored -> "str";
            case List<?> ignored -> "list";
            case Tuple ignored -> "tuple";
            case Map<?, ?> ignored -> "dict";
            case DictView view -> "dict_" + view.kind();
            case Range ignored -> "range";
            case Lazy ignored -> "generator";
            case Safe ignored -> "safe string";
            case Namespace ignored -> "namespace";
            case Undefined ignored -> "undefined value";
            case Method ignored -> "method";
            case Function ignored -> "function";
            case Macro ignored -> "macro";
            case Loop ignored -> "loop";
            default -> throw new IllegalStateException(value.getClass().getName());
        };
    }

    static boolean truth(Object value) {
        return switch (value) {
            case None ignored -> false;
            case Boolean b -> b;
            case Long n -> n != 0;
            case Double d -> d != 0;
            case String s -> !s.isEmpty();
            case Safe s -> !s.text().isEmpty();
            case List<?> list -> !list.isEmpty();
            case Tuple tuple -> !tuple.items().isEmpty();
            case Map<?, ?> dict -> !dict.isEmpty();
            case DictView view -> !view.dict().isEmpty();
            case Range range -> range.length() > 0;
            case Undefined ignored -> false;
            case Loop loop -> loop.length() > 0;
            default -> true;
        };
    }

    static long length(Object value) {
        return switch (value) {
            case String s -> s.codePointCount(0, s.length());
            case List<?> list -> list.size();
            case Tuple tuple -> tuple.items().size();
            case Map<?, ?> dict -> dict.size();
            case DictView view -> view.dict().size();
            case Range range -> range.length();
            case Undefined ignored -> 0;
            case Loop loop -> loop.length();
            default -> throw new JinjaException("a " + typeName(value) + " has no length");
        };
    }

    static boolean isIterable(Object value) {
        return value instanceof Lazy || value instanceof Loop || hasLength(value);
    }

    static boolean hasLength(Object value) {
        return switch (value) {
            case String ignored -> true;
            case List<?> ignored -> true;
            case Tuple ignored -> true;
            case Map<?, ?> ignored -> true;
            case DictView ignored -> true;
            case Range ignored -> true;
            case Undefined ignored -> true;
            default -> false;
        };
    }

    /** Returns the items of a value, one after the other; strings give characters and dicts their keys. */
    static Iterator<Object> iterate(Object value) {
        return switch (value) {
            case String s -> characters(s);
            case List<?> list -> objects(list).iterator();
            case Tuple tuple -> tuple.items().iterator();
            case Map<?, ?> dict -> dict(dict).keySet().iterator();
            case DictView view -> view.iterator();
            case Range range -> numbers(range);
            case Lazy lazy -> lazy.items();
            case Undefined ignored -> List.of().iterator();
            default -> throw new JinjaException("a " + typeName(value) + " cannot be iterated");
        };
    }

    private static Iterator<Object> characters(String text) {
        return new Iterator<>() {
            private int pos;

            @Override
            public boolean hasNext() {
                return pos < text.length();
            }

            @Override
            public Object next() {
                if (!hasNext()) {
                    throw new NoSuchElementException();
                }
                int start = pos;
                pos += Character.charCount(text.codePointAt(pos));
                return text.substring(start, pos);
            }
        };
    }

    private static Iterator<Object> numbers(Range range) {
        return new Iterator<>() {
            private long index;

            @Override
            public boolean hasNext() {
                return index < range.length();
            }

            @Override
            public Object next() {
                if (!hasNext()) {
                    throw new NoSuchElementException();
                }
                return range.at(index++);
            }
        };
    }

    /** Copies the items of a value into a list. */
    static List<Object> list(Object value, Budget budget) {
        List<Object> items = new ArrayList<>();
        for (Iterator<Object> all = iterate(value); all.hasNext(); ) {
            budget.elements(1);
            items.add(all.next());
        }
        return items;
    }

    @SuppressWarnings("unchecked")
    static List<Object> objects(List<?> list) {
        return (List<Object>) list;
    }

    @SuppressWarnings("unchecked")
    static Map<Object, Object> dict(Map<?, ?> dict) {
        return (Map<Object, Object>) dict;
    }

    static long integer(Object value, String where) {
        return switch (value) {
            case Long n -> n;
            case Boolean b -> b ? 1 : 0;
            case Undefined undefined -> throw undefined.error();
            default -> throw new JinjaException(where + " needs an integer and got a " + typeName(value));
        };
    }

    static int index(Object value, String where) {
        return Math.clamp(integer(value, where), Integer.MIN_VALUE, Integer.MAX_VALUE);
    }

    /** Returns a value as number ({@link Long} or {@link Double}; booleans are numbers), or null. */
    static @Nullable Number number(Object value) {
        return switch (value) {
            case Long n -> n;
            case Double d -> d;
            case Boolean b -> b ? 1L : 0L;
            default -> null;
        };
    }

    static boolean equal(Object a, Object b, Budget budget) {
        budget.step();
        Number x = number(a);
        Number y = number(b);
        if (x != null && y != null) {
            return x instanceof Long && y instanceof Long
                    ? x.longValue() == y.longValue()
                    : compareNumbers(x, y) == 0 && !isNan(x) && !isNan(y);
        }
        budget.enter();
        try {
            if (a instanceof String s && b instanceof String t) {
                budget.scan(s);
                return s.equals(t);
            }
            if (a instanceof List<?> s && b instanceof List<?> t) {
                return equalLists(s, t, budget);
            }
            if (a instanceof Tuple(List<Object> s) && b instanceof Tuple(List<Object> t)) {
                return equalLists(s, t, budget);
            }
            if (a instanceof Map<?, ?> s && b instanceof Map<?, ?> t) {
                return equalDicts(s, t, budget);
            }
            if (a instanceof Safe || b instanceof Safe) {
                throw new JinjaException("comparing a safe string is not supported");
            }
            if (a instanceof Range s && b instanceof Range t) {
                return s.length() == t.length()
                        && (s.length() == 0 || s.start() == t.start() && (s.length() == 1 || s.step() == t.step()));
            }
            if (a instanceof DictView && b instanceof DictView) {
                throw new JinjaException("comparing views of dicts is not supported");
            }
            return a == b || a instanceof Undefined && b instanceof Undefined;
        } finally {
            budget.leave();
        }
    }

    private static boolean isNan(Number value) {
        return Double.isNaN(value.doubleValue());
    }

    private static boolean equalLists(List<?> a, List<?> b, Budget budget) {
        if (a.size() != b.size()) {
            return false;
        }
        for (int i = 0; i < a.size(); i++) {
            if (!equal(a.get(i), b.get(i), budget)) {
                return false;
            }
        }
        return true;
    }

    private static boolean equalDicts(Map<?, ?> a, Map<?, ?> b, Budget budget) {
        if (a.size() != b.size()) {
            return false;
        }
        for (Map.Entry<?, ?> entry : a.entrySet()) {
            Object other = b.get(keyIn(b, entry.getKey()));
            if (other == null || !equal(entry.getValue(), other, budget)) {
                return false;
            }
        }
        return true;
    }

    private static int compareNumbers(Number a, Number b) {
        if (a instanceof Long x && b instanceof Long y) {
            return Long.compare(x, y);
        }
        double x = a.doubleValue();
        double y = b.doubleValue();
        if (Double.isFinite(x) && Double.isFinite(y)) {
            return decimal(a).compareTo(decimal(b));
        }
        return x < y ? -1 : x > y ? 1 : 0;
    }

    private static BigDecimal decimal(Number value) {
        return value instanceof Long n ? BigDecimal.valueOf(n) : new BigDecimal(value.doubleValue());
    }

    /** Compares as Python's {@code <} and its kin do; values without order are an error. */
    static int compare(Object a, Object b, Budget budget) {
        budget.step();
        Number x = number(a);
        Number y = number(b);
        if (x != null && y != null) {
            if (isNan(x) || isNan(y)) {
                throw new JinjaException("comparing a number that is not a number is not supported");
            }
            return compareNumbers(x, y);
        }
        if (a instanceof String s && b instanceof String t) {
            budget.scan(s);
            return PyString.compare(s, t);
        }
        List<?> s = a instanceof List<?> list ? list : a instanceof Tuple tuple ? tuple.items() : null;
        List<?> t = b instanceof List<?> list ? list : b instanceof Tuple tuple ? tuple.items() : null;
        if (s != null && t != null && a instanceof List<?> == b instanceof List<?>) {
            budget.enter();
            for (int i = 0; i < Math.min(s.size(), t.size()); i++) {
                if (!equal(s.get(i), t.get(i), budget)) {
                    int order = compare(s.get(i), t.get(i), budget);
                    budget.leave();
                    return order;
                }
            }
            budget.leave();
            return Integer.compare(s.size(), t.size());
        }
        throwIfUndefined(a);
        throwIfUndefined(b);
        throw new JinjaException("a " + typeName(a) + " and a " + typeName(b) + " have no order");
    }

    static void throwIfUndefined(Object value) {
        if (value instanceof Undefined undefined) {
            throw undefined.error();
        }
    }

    static boolean contains(Object container, Object item, Budget budget) {
        switch (container) {
            case String text -> {
                if (!(item instanceof String part)) {
                    throw new JinjaException("'in' a string needs a string and got a " + typeName(item));
                }
                return PyString.indexOf(text, part, 0, budget) >= 0;
            }
            case Map<?, ?> dict -> {
                return !(item instanceof Undefined) && dict.containsKey(keyIn(dict, key(item)));
            }
            case DictView view when view.kind().equals("keys") -> {
                return contains(view.dict(), item, budget);
            }
            default -> {
                for (Iterator<Object> all = iterate(container); all.hasNext(); ) {
                    if (equal(all.next(), item, budget)) {
                        return true;
                    }
                }
                return false;
            }
        }
    }

    /** Returns {@code target[key]} for a list-like value, or null if there is no such item. */
    static @Nullable Object item(Object target, Object key) {
        if (target instanceof Map<?, ?> dict) {
            return switch (key) {
                case String s -> dict.get(s);
                case None none -> dict.get(none);
                case Long n -> dict.get(keyIn(dict, n));
                case Double d -> dict.get(keyIn(dict, d));
                case Boolean b -> dict.get(keyIn(dict, b));
                default -> null;
            };
        }
        if (!(key instanceof Long || key instanceof Boolean)) {
            return null;
        }
        long index = integer(key, "an index");
        if (!(target instanceof String || target instanceof List<?> || target instanceof Tuple
                || target instanceof Range)) {
            return null;
        }
        long length = length(target);
        long at = index < 0 ? index + length : index;
        if (at < 0 || at >= length) {
            return null;
        }
        return switch (target) {
            case String s -> {
                int from = s.offsetByCodePoints(0, (int) at);
                yield s.substring(from, s.offsetByCodePoints(from, 1));
            }
            case List<?> list -> list.get((int) at);
            case Tuple tuple -> tuple.items().get((int) at);
            case Range range -> range.at(at);
            default -> null;
        };
    }

    /** Returns {@code target[start:stop:step]}; a missing bound is null. */
    static Object slice(
            Object target, @Nullable Object start, @Nullable Object stop, @Nullable Object step, Budget budget) {
        throwIfUndefined(target);
        long by = step == null || step == None.NONE ? 1 : integer(step, "a slice");
        if (by == 0) {
            throw new JinjaException("the step of a slice cannot be 0");
        }
        if (!(target instanceof String || target instanceof List<?> || target instanceof Tuple)) {
            throw new JinjaException("a " + typeName(target) + " cannot be sliced");
        }
        int length = (int) length(target);
        long from = bound(start, by > 0 ? 0 : length - 1, length, by);
        long to = bound(stop, by > 0 ? length : -1, length, by);
        long count = new Range(from, to, by).length();
        if (target instanceof String text) {
            budget.scan(text);
            budget.chars(count);
            if (by == 1) {
                int begin = text.offsetByCodePoints(0, (int) Math.min(from, length));
                return count == 0 ? "" : text.substring(begin, text.offsetByCodePoints(begin, (int) count));
            }
            int[] points = text.codePoints().toArray();
            StringBuilder result = new StringBuilder();
            for (long i = 0, at = from; i < count; i++, at += by) {
                result.appendCodePoint(points[(int) at]);
            }
            return result.toString();
        }
        List<Object> items = target instanceof Tuple tuple ? tuple.items() : objects((List<?>) target);
        budget.elements(count);
        List<Object> result = new ArrayList<>((int) count);
        for (long i = 0, at = from; i < count; i++, at += by) {
            result.add(items.get((int) at));
        }
        return target instanceof Tuple ? new Tuple(result) : result;
    }

    private static long bound(@Nullable Object value, long missing, int length, long step) {
        if (value == null || value == None.NONE) {
            return missing;
        }
        long bound = integer(value, "a slice");
        if (bound < 0) {
            bound += length;
        }
        return step > 0 ? Math.clamp(bound, 0, length) : Math.clamp(bound, -1, length - 1);
    }

    /** Returns what {@code str()} of Python gives. */
    static String str(Object value, Budget budget) {
        return switch (value) {
            case String s -> s;
            case Safe s -> s.text();
            case Undefined ignored -> "";
            default -> {
                StringBuilder out = new StringBuilder();
                repr(value, out, budget);
                yield out.toString();
            }
        };
    }

    static void repr(Object value, StringBuilder out, Budget budget) {
        budget.step();
        budget.enter();
        int before = out.length();
        switch (value) {
            case None ignored -> out.append("None");
            case Boolean b -> out.append(b ? "True" : "False");
            case Long n -> out.append(n.longValue());
            case Double d -> out.append(repr(d));
            case String s -> {
                budget.scan(s);
                PyString.repr(s, out);
            }
            case List<?> list -> reprAll(objects(list).iterator(), "[", "]", out, budget);
            case Tuple tuple -> reprAll(
                    tuple.items().iterator(), "(", tuple.items().size() == 1 ? ",)" : ")", out, budget);
            case Map<?, ?> dict -> reprDict(dict, out, budget);
            case DictView view -> {
                out.append("dict_").append(view.kind()).append('(');
                reprAll(view.iterator(), "[", "])", out, budget);
            }
            case Range range -> {
                out.append("range(").append(range.start()).append(", ").append(range.stop());
                out.append(range.step() == 1 ? "" : ", " + range.step()).append(')');
            }
            case Undefined ignored -> out.append("Undefined");
            case Namespace namespace -> {
                out.append("<Namespace ");
                reprDict(namespace.attributes(), out, budget);
                out.append('>');
            }
            default -> throw new JinjaException("a " + typeName(value) + " cannot be printed");
        }
        if (value instanceof String) {
            budget.chars(out.length() - before);
        } else {
            budget.chars(8);
        }
        budget.leave();
    }

    private static void reprAll(Iterator<Object> items, String open, String close, StringBuilder out, Budget budget) {
        out.append(open);
        for (boolean first = true; items.hasNext(); first = false) {
            out.append(first ? "" : ", ");
            repr(items.next(), out, budget);
        }
        out.append(close);
    }

    private static void reprDict(Map<?, ?> dict, StringBuilder out, Budget budget) {
        out.append('{');
        boolean first = true;
        for (Map.Entry<?, ?> entry : dict.entrySet()) {
            out.append(first ? "" : ", ");
            first = false;
            repr(entry.getKey(), out, budget);
            out.append(": ");
            repr(entry.getValue(), out, budget);
        }
        out.append('}');
    }

    /** Returns Python's shortest text of a number: {@code 1.0}, {@code 1e-05}, {@code 1e+16}. */
    static String repr(double value) {
        if (Double.isNaN(value)) {
            return "nan";
        }
        if (Double.isInfinite(value)) {
            return value > 0 ? "inf" : "-inf";
        }
        String sign = value < 0 || 1 / value < 0 ? "-" : "";
        if (value == 0) {
            return sign + "0.0";
        }
        BigDecimal decimal = new BigDecimal(Double.toString(Math.abs(value))).stripTrailingZeros();
        // Java's text has at least two digits, which the smallest numbers do not need.
        BigDecimal single = decimal.round(new MathContext(1));
        if (single.doubleValue() == Math.abs(value)) {
            decimal = single.stripTrailingZeros();
        }
        String digits = decimal.unscaledValue().toString();
        int exponent = digits.length() - decimal.scale() - 1;
        if (exponent < -4 || exponent >= 16) {
            String fraction = digits.length() > 1 ? "." + digits.substring(1) : "";
            return sign + digits.charAt(0) + fraction + "e" + (exponent < 0 ? "-" : "+")
                    + (Math.abs(exponent) < 10 ? "0" : "") + Math.abs(exponent);
        }
        String plain = decimal.toPlainString();
        return sign + plain + (plain.contains(".") ? "" : ".0");
    }
}
