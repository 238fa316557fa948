package dev.lamina.internal.text.jinja;

import java.util.List;
import java.util.Map;
import java.util.Set;

/** The tests of {@code is}, as Jinja defines them. */
final class Tests {
    static final Set<String> NAMES = Set.of(
            "odd", "even", "divisibleby", "defined", "undefined", "filter", "test", "none", "boolean", "false", "true",
            "integer", "float", "lower", "upper", "string", "mapping", "number", "sequence", "iterable", "callable",
            "sameas", "in", "eq", "equalto", "ne", "gt", "greaterthan", "ge", "lt", "lessthan", "le",
            "==", "!=", ">", ">=", "<", "<=");

    private Tests() {}

    static boolean apply(String name, Object value, CallArguments arguments, Budget budget) {
        String where = "the test '" + name + "'";
        return switch (name) {
            case "divisibleby", "sameas", "in", "eq", "==", "equalto", "ne", "!=", "gt", ">", "greaterthan", "ge", ">=",
                    "lt", "<", "lessthan", "le", "<=" ->
                compare(name, value, arguments.bind(where, 1, "other")[0], budget);
            default -> {
                arguments.bind(where, 0);
                yield is(name, value, budget);
            }
        };
    }

    private static boolean is(String name, Object value, Budget budget) {
        return switch (name) {
            case "odd" -> remainder(value, 2, budget) == 1;
            case "even" -> remainder(value, 2, budget) == 0;
            case "defined" -> !(value instanceof Undefined);
            case "undefined" -> value instanceof Undefined;
            case "filter" -> value instanceof String s && Filters.NAMES.contains(s);
            case "test" -> value instanceof String s && NAMES.contains(s);
            case "none" -> value == None.NONE;
            case "boolean" -> value instanceof Boolean;
            case "false" -> Boolean.FALSE.equals(value);
            case "true" -> Boolean.TRUE.equals(value);
            case "integer" -> value instanceof Long;
            case "float" -> value instanceof Double;
            case "lower" -> PyString.isLower(Values.str(value, budget));
            case "upper" -> PyString.isUpper(Values.str(value, budget));
            case "string" -> value instanceof String || value instanceof Values.Safe;
            case "mapping" -> value instanceof Map<?, ?>;
            case "number" -> Values.number(value) != null;
            case "sequence" -> value instanceof String || value instanceof Values.Safe || value instanceof List<?>
                    || value instanceof Values.Tuple || value instanceof Map<?, ?> || value instanceof Values.Range
                    || value instanceof Undefined;
            case "iterable" -> Values.isIterable(value) || value instanceof Values.Safe;
            case "callable" -> value instanceof Values.Function || value instanceof Values.Method
                    || value instanceof Macro || value instanceof Loop || value instanceof Undefined;
            default -> throw new JinjaException("the test '" + name + "' is not supported");
        };
    }

    private static long remainder(Object value, long divisor, Budget budget) {
        Object result = Arithmetic.apply("%", value, divisor, budget);
        return result instanceof Long n ? n : result instanceof Double d && d == Math.rint(d) ? d.longValue() : -1;
    }

    private static boolean compare(String name, Object value, Object other, Budget budget) {
        return switch (name) {
            case "divisibleby" -> Values.equal(Arithmetic.apply("%", value, other, budget), 0L, budget);
            case "sameas" -> value == other
                    || (value instanceof Boolean || value instanceof Long) && value.equals(other);
            case "in" -> Values.contains(other, value, budget);
            case "eq", "==", "equalto" -> Values.equal(value, other, budget);
            case "ne", "!=" -> !Values.equal(value, other, budget);
            case "gt", ">", "greaterthan" -> Values.compare(value, other, budget) > 0;
            case "ge", ">=" -> Values.compare(value, other, budget) >= 0;
            case "lt", "<", "lessthan" -> Values.compare(value, other, budget) < 0;
            default -> Values.compare(value, other, budget) <= 0;
        };
    }
}
