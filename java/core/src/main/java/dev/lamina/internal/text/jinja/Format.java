package dev.lamina.internal.text.jinja;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.List;
import java.util.Map;

/** Python's two ways to format a string: {@code '%s' % x} and {@code '{}'.format(x)}, in their simple forms. */
final class Format {
    private static final int MAX_WIDTH = 1000;
    private static final int MAX_PRECISION = 100;

    private Format() {}

    /** Formats with {@code %}: {@code %s %r %d %i %f %x %%} and {@code %(name)s}, with flags, width and precision. */
    static String percent(String format, Object argument, Budget budget) {
        StringBuilder out = new StringBuilder();
        List<Object> items = argument instanceof Values.Tuple tuple ? tuple.items() : List.of(argument);
        int used = 0;
        boolean named = false;
        int i = 0;
        while (i < format.length()) {
            int percent = format.indexOf('%', i);
            if (percent < 0) {
                break;
            }
            out.append(format, i, percent);
            i = percent + 1;
            String key = null;
            if (i < format.length() && format.charAt(i) == '(') {
                int close = format.indexOf(')', i);
                if (close < 0) {
                    throw new JinjaException("a format has '%(' without ')'");
                }
                key = format.substring(i + 1, close);
                i = close + 1;
            }
            int start = i;
            while (i < format.length() && "-+ 0#.123456789".indexOf(format.charAt(i)) >= 0) {
                i++;
            }
            if (i == format.length()) {
                throw new JinjaException("a format ends inside a '%'");
            }
            String flags = format.substring(start, i);
            char conversion = format.charAt(i++);
            if (conversion == '%') {
                out.append('%');
                continue;
            }
            Object value;
            if (key != null) {
                named = true;
                Object item = argument instanceof Map<?, ?> dict ? dict.get(key) : null;
                if (item == null) {
                    throw new JinjaException("a format has no value for '" + key + "'");
                }
                value = item;
            } else {
                if (used == items.size()) {
                    throw new JinjaException("a format has more '%' than values");
                }
                value = items.get(used++);
            }
            String text = convert(flags, conversion, value, budget);
            budget.chars(text.length());
            out.append(text);
        }
        // Python lets what could be looked into by name go unused.
        boolean mayBeUnused = argument instanceof Map<?, ?> || argument instanceof List<?>
                || argument instanceof Undefined;
        if (!named && used < items.size() && !mayBeUnused) {
            throw new JinjaException("a format has fewer '%' than values");
        }
        budget.chars(format.length());
        return out.append(format, i, format.length()).toString();
    }

    private static String convert(String flags, char conversion, Object value, Budget budget) {
        int digits = 0;
        while (digits < flags.length() && "-+ 0#".indexOf(flags.charAt(digits)) >= 0) {
            digits++;
        }
        String signs = flags.substring(0, digits);
        int dot = flags.indexOf('.', digits);
        int width = size(flags.substring(digits, dot < 0 ? flags.length() : dot), MAX_WIDTH);
        int precision = dot < 0 ? -1 : size(flags.substring(dot + 1), MAX_PRECISION);
        if (signs.contains("#")) {
            throw new JinjaException("the flag '#' of a format is not supported");
        }
        String text;
        boolean numeric = true;
        switch (conversion) {
            case 's', 'r' -> {
                numeric = false;
                if (conversion == 's') {
                    text = Values.str(value, budget);
                } else {
                    StringBuilder repr = new StringBuilder();
                    Values.repr(value, repr, budget);
                    text = repr.toString();
                }
                if (precision >= 0 && Values.length(text) > precision) {
                    text = text.substring(0, text.offsetByCodePoints(0, precision));
                }
            }
            case 'd', 'i' -> {
                Number number = requireNumber(value);
                text = number instanceof Double d
                        ? new BigDecimal(d).setScale(0, RoundingMode.DOWN).toPlainString()
                        : number.toString();
            }
            case 'f' -> text = fixed(requireNumber(value), precision < 0 ? 6 : precision);
            case 'x' -> {
                long number = Values.integer(value, "the format %x");
                text = (number < 0 ? "-" : "") + Long.toHexString(Math.absExact(number));
            }
            default -> throw new JinjaException("the format '%" + conversion + "' is not supported");
        }
        if (numeric && !text.startsWith("-")) {
            text = (signs.contains("+") ? "+" : signs.contains(" ") ? " " : "") + text;
        }
        int padding = (int) Math.max(0, width - Values.length(text));
        if (signs.contains("-")) {
            return text + " ".repeat(padding);
        }
        if (numeric && signs.contains("0")) {
            int sign = !text.isEmpty() && "+- ".indexOf(text.charAt(0)) >= 0 ? 1 : 0;
            return text.substring(0, sign) + "0".repeat(padding) + text.substring(sign);
        }
        return " ".repeat(padding) + text;
    }

    private static int size(String digits, int max) {
        if (digits.isEmpty()) {
            return 0;
        }
        int value = digits.length() > 4 || !digits.chars().allMatch(Character::isDigit)
                ? max + 1
                : Integer.parseInt(digits);
        if (value > max) {
            throw new JinjaException("a width or precision '" + digits + "' in a format is not supported");
        }
        return value;
    }

    private static Number requireNumber(Object value) {
        Number number = Values.number(value);
        if (number == null || number instanceof Double d && !Double.isFinite(d)) {
            Values.throwIfUndefined(value);
            throw new JinjaException("a format needs a finite number and got a " + Values.typeName(value));
        }
        return number;
    }

    private static String fixed(Number value, int precision) {
        double number = value.doubleValue();
        String text = new BigDecimal(number).setScale(precision, RoundingMode.HALF_EVEN).toPlainString();
        return (number < 0 || 1 / number < 0) && !text.startsWith("-") ? "-" + text : text;
    }

    /** Formats with braces: {@code {}}, {@code {0}} and {@code {name}}, without format specifications. */
    static String braces(String format, CallArguments arguments, Budget budget) {
        StringBuilder out = new StringBuilder();
        int automatic = 0;
        int i = 0;
        while (i < format.length()) {
            char c = format.charAt(i++);
            boolean doubled = i < format.length() && format.charAt(i) == c;
            if ((c == '{' || c == '}') && doubled) {
                out.append(c);
                i++;
            } else if (c == '}') {
                throw new JinjaException("a format has a single '}'");
            } else if (c == '{') {
                int close = format.indexOf('}', i);
                if (close < 0) {
                    throw new JinjaException("a format has a single '{'");
                }
                String field = format.substring(i, close);
                i = close + 1;
                Object value;
                if (field.isEmpty() || field.length() < 5 && field.chars().allMatch(d -> d >= '0' && d <= '9')) {
                    int index = field.isEmpty() ? automatic++ : Integer.parseInt(field);
                    if (index >= arguments.positional().size()) {
                        throw new JinjaException("a format has no value number " + index);
                    }
                    value = arguments.positional().get(index);
                } else {
                    Object named = arguments.named().get(field);
                    if (named == null) {
                        throw new JinjaException(
                                "the field '{" + field + "}' of a format is not supported or has no value");
                    }
                    value = named;
                }
                String text = Values.str(value, budget);
                budget.chars(text.length());
                out.append(text);
            } else {
                out.append(c);
            }
        }
        budget.chars(format.length());
        return out.toString();
    }
}
