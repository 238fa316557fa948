package dev.lamina.internal.text.jinja;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.function.IntPredicate;
import org.jspecify.annotations.Nullable;

/** Python's string methods. Positions and lengths are code points. */
final class PyString {
    /** The methods that templates can call. */
    static final Set<String> METHODS = Set.of(
            "capitalize", "casefold", "center", "count", "endswith", "find", "format", "index", "isalnum", "isalpha",
            "isascii", "isdecimal", "isdigit", "islower", "isspace", "isupper", "join", "ljust", "lower", "lstrip",
            "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit",
            "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "zfill");

    /** Methods of Python's that are missing here: naming one is an error, where another name is just undefined. */
    static final Set<String> UNSUPPORTED_METHODS = Set.of(
            "encode", "expandtabs", "format_map", "isidentifier", "isnumeric", "isprintable", "istitle", "maketrans",
            "translate");

    private static final Set<String> WITHOUT_ARGUMENTS = Set.of(
            "capitalize", "casefold", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "islower", "isspace",
            "isupper", "lower", "swapcase", "title", "upper");

    /** Longer parts are searched with a table, so that the time is linear whatever the strings are. */
    private static final int MAX_NAIVE_SEARCH = 16;

    private PyString() {}

    static Object call(String self, String method, CallArguments arguments, Budget budget) {
        budget.scan(self);
        String name = "str." + method + "()";
        if (WITHOUT_ARGUMENTS.contains(method)) {
            arguments.bind(name, 0);
        }
        return switch (method) {
            case "capitalize" -> made(capitalize(self), budget);
            case "casefold" -> made(self.toUpperCase(Locale.ROOT).toLowerCase(Locale.ROOT), budget);
            case "lower" -> made(self.toLowerCase(Locale.ROOT), budget);
            case "upper" -> made(self.toUpperCase(Locale.ROOT), budget);
            case "title" -> made(title(self), budget);
            case "swapcase" -> made(swapCase(self), budget);
            case "strip", "lstrip", "rstrip" -> {
                String characters = optional(arguments.bind(name, 0, "chars")[0], name);
                yield made(strip(self, characters, !method.equals("rstrip"), !method.equals("lstrip")), budget);
            }
            case "split", "rsplit" -> split(self, method.equals("rsplit"), arguments, budget);
            case "splitlines" -> {
                Object keep = arguments.bind(name, 0, "keepends")[0];
                yield splitLines(self, keep != null && Values.truth(keep), budget);
            }
            case "partition", "rpartition" -> partition(self, method.equals("rpartition"), arguments, budget);
            case "join" -> join(self, Values.list(arguments.bind(name, 1, "iterable")[0], budget), budget);
            case "replace" -> {
                @Nullable Object[] given = arguments.bind(name, 2, "old", "new", "count");
                yield replace(self, text(given[0], name), text(given[1], name),
                        given[2] == null ? -1 : Values.integer(given[2], name), budget);
            }
            case "removeprefix" -> {
                String prefix = text(arguments.bind(name, 1, "prefix")[0], name);
                yield made(self.startsWith(prefix) ? self.substring(prefix.length()) : self, budget);
            }
            case "removesuffix" -> {
                String suffix = text(arguments.bind(name, 1, "suffix")[0], name);
                yield made(self.endsWith(suffix) ? self.substring(0, self.length() - suffix.length()) : self, budget);
            }
            case "startswith", "endswith" -> affix(self, method.equals("startswith"), arguments, budget);
            case "find", "rfind", "index", "rindex", "count" -> search(self, method, arguments, budget);
            case "center", "ljust", "rjust", "zfill" -> pad(self, method, arguments, budget);
            case "isalnum" -> all(self, c -> Character.isLetter(c) || isDigit(c));
            case "isalpha" -> all(self, Character::isLetter);
            case "isascii" -> self.chars().allMatch(c -> c < 128);
            case "isdecimal" -> all(self, Character::isDigit);
            case "isdigit" -> all(self, PyString::isDigit);
            case "isspace" -> all(self, PyString::isSpace);
            case "islower" -> isLower(self);
            case "isupper" -> isUpper(self);
            case "format" -> Format.braces(self, arguments, budget);
            default -> throw new JinjaException("the method " + name + " is not supported");
        };
    }

    private static String made(String text, Budget budget) {
        budget.chars(text.length());
        return text;
    }

    static String text(@Nullable Object value, String where) {
        return switch (value) {
            case String s -> s;
            case Undefined undefined -> throw undefined.error();
            case null -> throw new JinjaException(where + " needs a string");
            default -> throw new JinjaException(where + " needs a string and got a " + Values.typeName(value));
        };
    }

    private static @Nullable String optional(@Nullable Object value, String where) {
        return value == null || value == None.NONE ? null : text(value, where);
    }

    /** Returns whether Python's {@code str.isspace} holds for a character. */
    static boolean isSpace(int c) {
        return c == ' ' || c >= 9 && c <= 13 || c >= 0x1c && c <= 0x1f || c == 0x85 || c == 0xa0
                || c > 0xa0 && (Character.isSpaceChar(c));
    }

    private static boolean isDigit(int c) {
        if (Character.isDigit(c)) {
            return true;
        }
        int value = Character.getNumericValue(c);
        return Character.getType(c) == Character.OTHER_NUMBER && value >= 0 && value <= 9 && !isFractionOrTen(c);
    }

    private static boolean isFractionOrTen(int c) {
        // Numerals of CJK and other scripts are numeric but no digits.
        return c >= 0x3000 && c < 0x1f000;
    }

    static boolean isBlank(String text, int from) {
        for (int i = from; i < text.length(); i++) {
            if (!isSpace(text.charAt(i))) {
                return false;
            }
        }
        return true;
    }

    static String rstrip(String text) {
        return strip(text, null, false, true);
    }

    /** Strips characters, or white space if these are null. All white space is in the basic plane. */
    static String strip(String text, @Nullable String characters, boolean left, boolean right) {
        IntPredicate strips = characters == null ? PyString::isSpace : set(characters)::contains;
        int start = 0;
        int end = text.length();
        while (left && start < end && strips.test(text.codePointAt(start))) {
            start += Character.charCount(text.codePointAt(start));
        }
        while (right && end > start && strips.test(text.codePointBefore(end))) {
            end -= Character.charCount(text.codePointBefore(end));
        }
        return text.substring(start, end);
    }

    private static Set<Integer> set(String characters) {
        return Set.copyOf(characters.codePoints().boxed().toList());
    }

    static String capitalize(String text) {
        if (text.isEmpty()) {
            return text;
        }
        int first = Character.charCount(text.codePointAt(0));
        return titleCase(text.codePointAt(0)) + text.substring(first).toLowerCase(Locale.ROOT);
    }

    private static String titleCase(int c) {
        // Some characters become two or three, such as a ligature: the library knows only their upper case.
        String upper = Character.toString(c).toUpperCase(Locale.ROOT);
        if (upper.codePointCount(0, upper.length()) > 1) {
            return upper.substring(0, 1) + upper.substring(1).toLowerCase(Locale.ROOT);
        }
        return Character.toString(Character.toTitleCase(c));
    }

    private static String title(String text) {
        StringBuilder result = new StringBuilder();
        boolean inWord = false;
        for (int i = 0; i < text.length(); i += Character.charCount(text.codePointAt(i))) {
            int c = text.codePointAt(i);
            result.append(inWord ? Character.toString(c).toLowerCase(Locale.ROOT) : titleCase(c));
            inWord = isCased(c);
        }
        return result.toString();
    }

    private static boolean isCased(int c) {
        return Character.isUpperCase(c) || Character.isLowerCase(c) || Character.isTitleCase(c);
    }

    private static String swapCase(String text) {
        StringBuilder result = new StringBuilder();
        text.codePoints().forEach(c -> {
            String one = Character.toString(c);
            result.append(Character.isUpperCase(c) ? one.toLowerCase(Locale.ROOT)
                    : Character.isLowerCase(c) ? one.toUpperCase(Locale.ROOT) : one);
        });
        return result.toString();
    }

    static boolean isLower(String text) {
        return text.codePoints().anyMatch(PyString::isCased)
                && text.codePoints().noneMatch(c -> Character.isUpperCase(c) || Character.isTitleCase(c));
    }

    static boolean isUpper(String text) {
        return text.codePoints().anyMatch(PyString::isCased)
                && text.codePoints().noneMatch(c -> Character.isLowerCase(c) || Character.isTitleCase(c));
    }

    private static boolean all(String text, IntPredicate test) {
        return !text.isEmpty() && text.codePoints().allMatch(test);
    }

    /** Finds a part at or after a position in chars, in linear time; returns -1 if there is none. */
    static int indexOf(String text, String part, int from, Budget budget) {
        budget.work(1 + Math.max(0, text.length() - from) / MAX_NAIVE_SEARCH);
        if (part.length() <= MAX_NAIVE_SEARCH) {
            return text.indexOf(part, from);
        }
        budget.elements(part.length() / 2);
        int[] border = new int[part.length()];
        for (int i = 1, k = 0; i < part.length(); i++) {
            while (k > 0 && part.charAt(i) != part.charAt(k)) {
                k = border[k - 1];
            }
            k += part.charAt(i) == part.charAt(k) ? 1 : 0;
            border[i] = k;
        }
        for (int i = from, k = 0; i < text.length(); i++) {
            while (k > 0 && text.charAt(i) != part.charAt(k)) {
                k = border[k - 1];
            }
            k += text.charAt(i) == part.charAt(k) ? 1 : 0;
            if (k == part.length()) {
                return i - k + 1;
            }
        }
        return -1;
    }

    /** Returns where a part stands, without overlaps, at most {@code limit} times. */
    private static List<Integer> occurrences(String text, String part, long limit, Budget budget) {
        List<Integer> found = new ArrayList<>();
        if (part.length() > MAX_NAIVE_SEARCH) {
            budget.work(text.length() / MAX_NAIVE_SEARCH);
        }
        int at = 0;
        while (found.size() < limit && (at = indexOf(text, part, at, budget, found.isEmpty())) >= 0) {
            budget.elements(1);
            found.add(at);
            at += part.length();
        }
        return found;
    }

    /** Like {@link #indexOf(String, String, int, Budget)}, but charges the way to the end only at the first call. */
    private static int indexOf(String text, String part, int from, Budget budget, boolean first) {
        return first || part.length() > MAX_NAIVE_SEARCH
                ? indexOf(text, part, from, budget)
                : text.indexOf(part, from);
    }

    static String replace(String text, String old, String replacement, long count, Budget budget) {
        long limit = count < 0 ? Long.MAX_VALUE : count;
        if (old.isEmpty()) {
            return insert(text, replacement, limit, budget);
        }
        List<Integer> found = occurrences(text, old, limit, budget);
        budget.chars(text.length() + (long) found.size() * (replacement.length() - old.length()));
        StringBuilder result = new StringBuilder();
        int from = 0;
        for (int at : found) {
            result.append(text, from, at).append(replacement);
            from = at + old.length();
        }
        return result.append(text, from, text.length()).toString();
    }

    /** Puts a text before every character and at the end, as Python does for an empty string to be replaced. */
    private static String insert(String text, String inserted, long limit, Budget budget) {
        budget.chars(text.length() + Math.min(limit, text.length() + 1L) * inserted.length());
        StringBuilder result = new StringBuilder();
        long left = limit;
        for (int i = 0; i < text.length(); i += Character.charCount(text.codePointAt(i))) {
            if (left-- > 0) {
                result.append(inserted);
            }
            result.appendCodePoint(text.codePointAt(i));
        }
        return result.append(left > 0 ? inserted : "").toString();
    }

    private static Object split(String text, boolean fromRight, CallArguments arguments, Budget budget) {
        String name = fromRight ? "str.rsplit()" : "str.split()";
        @Nullable Object[] given = arguments.bind(name, 0, "sep", "maxsplit");
        String separator = optional(given[0], name);
        long count = given[1] == null ? -1 : Values.integer(given[1], name);
        long limit = count < 0 ? Long.MAX_VALUE : count;
        if (separator == null) {
            return splitWords(text, fromRight, limit, budget);
        }
        if (separator.isEmpty()) {
            throw new JinjaException(name + " needs a separator that is not empty");
        }
        List<Integer> found;
        if (fromRight) {
            String reversed = new StringBuilder(separator).reverse().toString();
            found = new ArrayList<>();
            for (int at : occurrences(new StringBuilder(text).reverse().toString(), reversed, limit, budget)) {
                found.addFirst(text.length() - at - separator.length());
            }
        } else {
            found = occurrences(text, separator, limit, budget);
        }
        List<Object> parts = new ArrayList<>();
        int from = 0;
        for (int at : found) {
            parts.add(part(text, from, at, budget));
            from = at + separator.length();
        }
        parts.add(part(text, from, text.length(), budget));
        return parts;
    }

    private static String part(String text, int from, int to, Budget budget) {
        budget.elements(1);
        budget.chars(to - from);
        return text.substring(from, to);
    }

    private static Object splitWords(String text, boolean fromRight, long limit, Budget budget) {
        List<Object> words = new ArrayList<>();
        int start = 0;
        int end = text.length();
        while (start < end && isSpace(text.charAt(start))) {
            start++;
        }
        while (end > start && isSpace(text.charAt(end - 1))) {
            end--;
        }
        while (start < end) {
            if (words.size() == limit) {
                int from = fromRight ? 0 : start;
                int to = fromRight ? end : text.length();
                words.add(part(text, from, to, budget));
                break;
            }
            int cut = fromRight ? end : start;
            int before = fromRight ? 1 : 0;
            int step = fromRight ? -1 : 1;
            while (cut - before >= start && cut - before < end && !isSpace(text.charAt(cut - before))) {
                cut += step;
            }
            words.add(part(text, fromRight ? cut : start, fromRight ? end : cut, budget));
            while (cut - before >= start && cut - before < end && isSpace(text.charAt(cut - before))) {
                cut += step;
            }
            if (fromRight) {
                end = cut;
            } else {
                start = cut;
            }
        }
        return fromRight ? words.reversed().stream().toList() : words;
    }

    static List<Object> splitLines(String text, boolean keepEnds, Budget budget) {
        List<Object> lines = new ArrayList<>();
        int start = 0;
        while (start < text.length()) {
            int end = start;
            while (end < text.length() && !isLineEnd(text.charAt(end))) {
                end++;
            }
            int next = end;
            if (end < text.length()) {
                next += text.startsWith("\r\n", end) ? 2 : 1;
            }
            lines.add(part(text, start, keepEnds ? next : end, budget));
            start = next;
        }
        return lines;
    }

    private static boolean isLineEnd(char c) {
        return c >= 10 && c <= 13 || c >= 0x1c && c <= 0x1e || c == 0x85 || c == 0x2028 || c == 0x2029;
    }

    private static Object partition(String text, boolean fromRight, CallArguments arguments, Budget budget) {
        String name = fromRight ? "str.rpartition()" : "str.partition()";
        String separator = text(arguments.bind(name, 1, "sep")[0], name);
        if (separator.isEmpty()) {
            throw new JinjaException(name + " needs a separator that is not empty");
        }
        int at = fromRight ? lastIndexOf(text, separator, budget) : indexOf(text, separator, 0, budget);
        if (at < 0) {
            return fromRight ? Values.tuple("", "", text) : Values.tuple(text, "", "");
        }
        budget.chars(text.length());
        return Values.tuple(text.substring(0, at), separator, text.substring(at + separator.length()));
    }

    private static int lastIndexOf(String text, String part, Budget budget) {
        int at = indexOf(new StringBuilder(text).reverse().toString(),
                new StringBuilder(part).reverse().toString(), 0, budget);
        return at < 0 ? -1 : text.length() - at - part.length();
    }

    static String join(String separator, List<Object> items, Budget budget) {
        long length = 0;
        for (Object item : items) {
            length += text(item, "str.join()").length() + separator.length();
        }
        budget.chars(length);
        StringBuilder result = new StringBuilder();
        for (int i = 0; i < items.size(); i++) {
            result.append(i == 0 ? "" : separator).append((String) items.get(i));
        }
        return result.toString();
    }

    private static Object affix(String text, boolean atStart, CallArguments arguments, Budget budget) {
        String name = atStart ? "str.startswith()" : "str.endswith()";
        @Nullable Object[] given = arguments.bind(name, 1, "affix", "start", "end");
        String part = range(text, given[1], given[2], name, budget);
        if (part == null) {
            return false;
        }
        List<Object> affixes = given[0] instanceof Values.Tuple tuple ? tuple.items() : List.of(text(given[0], name));
        for (Object affix : affixes) {
            budget.step();
            String wanted = text(affix, name);
            if (atStart ? part.startsWith(wanted) : part.endsWith(wanted)) {
                return true;
            }
        }
        return false;
    }

    /** Returns {@code text[start:end]}, or null if the start lies behind the end of the text. */
    private static @Nullable String range(
            String text, @Nullable Object start, @Nullable Object end, String name, Budget budget) {
        if (start == null && end == null) {
            return text;
        }
        if (start instanceof Long from && from > Values.length(text)) {
            return null;
        }
        return (String) Values.slice(text, start, end, null, budget);
    }

    private static Object search(String text, String method, CallArguments arguments, Budget budget) {
        String name = "str." + method + "()";
        @Nullable Object[] given = arguments.bind(name, 1, "sub", "start", "end");
        String wanted = text(given[0], name);
        String part = range(text, given[1], given[2], name, budget);
        if (method.equals("count")) {
            if (part == null) {
                return 0L;
            }
            return wanted.isEmpty()
                    ? Values.length(part) + 1
                    : (long) occurrences(part, wanted, Long.MAX_VALUE, budget).size();
        }
        int at = part == null ? -1
                : method.startsWith("r") ? lastIndexOf(part, wanted, budget) : indexOf(part, wanted, 0, budget);
        if (at < 0) {
            if (method.endsWith("index")) {
                throw new JinjaException(name + " did not find the string");
            }
            return -1L;
        }
        long offset = 0;
        if (given[1] != null && given[1] != None.NONE) {
            long start = Values.integer(given[1], name);
            offset = start < 0 ? Math.max(0, start + Values.length(text)) : start;
        }
        return offset + part.codePointCount(0, at);
    }

    private static Object pad(String text, String method, CallArguments arguments, Budget budget) {
        String name = "str." + method + "()";
        @Nullable Object[] given = method.equals("zfill")
                ? arguments.bind(name, 1, "width")
                : arguments.bind(name, 1, "width", "fillchar");
        long padding = Math.max(0, Values.integer(given[0], name) - Values.length(text));
        String fill = method.equals("zfill") ? "0"
                : given.length < 2 || given[1] == null ? " " : text(given[1], name);
        if (Values.length(fill) != 1) {
            throw new JinjaException(name + " fills with exactly one character");
        }
        budget.chars(Math.addExact(text.length(), Math.min(padding, Integer.MAX_VALUE) * fill.length()));
        long width = padding + Values.length(text);
        long left = switch (method) {
            case "ljust" -> 0;
            case "center" -> padding / 2 + (padding & width & 1);
            default -> padding;
        };
        String before = fill.repeat((int) left);
        if (method.equals("zfill") && (text.startsWith("-") || text.startsWith("+"))) {
            return text.charAt(0) + before + text.substring(1);
        }
        return before + text + fill.repeat((int) (padding - left));
    }

    /** Compares by code points, as Python does; Java's own order differs outside of the basic plane. */
    static int compare(String a, String b) {
        int i = 0;
        int length = Math.min(a.length(), b.length());
        while (i < length && a.charAt(i) == b.charAt(i)) {
            i++;
        }
        if (i == length) {
            return Integer.compare(a.length(), b.length());
        }
        char x = a.charAt(i);
        char y = b.charAt(i);
        boolean mixed = Character.isSurrogate(x) != Character.isSurrogate(y);
        return mixed ? (Character.isSurrogate(x) ? 1 : -1) : Character.compare(x, y);
    }

    /** Writes a string as Python's {@code repr} does. */
    static void repr(String text, StringBuilder out) {
        char quote = text.indexOf('\'') >= 0 && text.indexOf('"') < 0 ? '"' : '\'';
        out.append(quote);
        text.codePoints().forEach(c -> {
            switch (c) {
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                case '\\' -> out.append("\\\\");
                default -> {
                    if (c == quote) {
                        out.append('\\').append(quote);
                    } else if (isPrintable(c)) {
                        out.appendCodePoint(c);
                    } else {
                        out.append(c < 0x100 ? String.format(Locale.ROOT, "\\x%02x", c)
                                : c < 0x10000 ? String.format(Locale.ROOT, "\\u%04x", c)
                                : String.format(Locale.ROOT, "\\U%08x", c));
                    }
                }
            }
        });
        out.append(quote);
    }

    private static boolean isPrintable(int c) {
        return switch (Character.getType(c)) {
            case Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED,
                    Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR -> false;
            case Character.SPACE_SEPARATOR -> c == ' ';
            default -> true;
        };
    }
}
