package dev.lamina.internal.text.jinja;

import java.util.ArrayList;
import java.util.List;

/** Python's arithmetic operators, on numbers and where they mean something on strings, lists and tuples too. */
final class Arithmetic {
    private Arithmetic() {}

    static Object apply(String operator, Object left, Object right, Budget budget) {
        Values.throwIfUndefined(left);
        if (operator.equals("%") && left instanceof String format) {
            return Format.percent(format, right, budget);
        }
        Values.throwIfUndefined(right);
        Number x = Values.number(left);
        Number y = Values.number(right);
        if (x != null && y != null) {
            try {
                return x instanceof Long a && y instanceof Long b
                        ? integers(operator, a, b, budget)
                        : floats(operator, x.doubleValue(), y.doubleValue());
            } catch (ArithmeticException e) {
                throw new JinjaException(left + " " + operator + " " + right + " leaves the range of 64-bit integers");
            }
        }
        if (operator.equals("+")) {
            if (left instanceof String a && right instanceof String b) {
                budget.chars((long) a.length() + b.length());
                return a.concat(b);
            }
            if (left instanceof List<?> a && right instanceof List<?> b) {
                return joined(a, b, budget);
            }
            if (left instanceof Values.Tuple(List<Object> a) && right instanceof Values.Tuple(List<Object> b)) {
                return new Values.Tuple(joined(a, b, budget));
            }
        }
        if (operator.equals("*")) {
            if (y instanceof Long count) {
                return repeated(left, count, budget);
            }
            if (x instanceof Long count) {
                return repeated(right, count, budget);
            }
        }
        throw new JinjaException("a " + Values.typeName(left) + " " + operator + " a " + Values.typeName(right)
                + " is not possible");
    }

    private static List<Object> joined(List<?> a, List<?> b, Budget budget) {
        budget.elements((long) a.size() + b.size());
        List<Object> result = new ArrayList<>(a);
        result.addAll(b);
        return result;
    }

    private static Object repeated(Object value, long count, Budget budget) {
        long times = Math.max(0, count);
        switch (value) {
            case String s -> {
                budget.chars(size(s.length(), times));
                return s.repeat((int) (s.isEmpty() ? 0 : times));
            }
            case List<?> list -> {
                return repeatedList(list, times, budget);
            }
            case Values.Tuple tuple -> {
                return new Values.Tuple(repeatedList(tuple.items(), times, budget));
            }
            default -> throw new JinjaException("a " + Values.typeName(value) + " cannot be repeated");
        }
    }

    private static List<Object> repeatedList(List<?> list, long times, Budget budget) {
        budget.elements(size(list.size(), times));
        List<Object> result = new ArrayList<>();
        for (long i = 0; i < times && !list.isEmpty(); i++) {
            result.addAll(list);
        }
        return result;
    }

    /** Returns the size of a repeated value, or more than any budget if it does not fit. */
    private static long size(int length, long times) {
        return length == 0 ? 0 : times > Integer.MAX_VALUE ? Integer.MAX_VALUE : length * times;
    }

    private static Object integers(String operator, long a, long b, Budget budget) {
        return switch (operator) {
            case "+" -> Math.addExact(a, b);
            case "-" -> Math.subtractExact(a, b);
            case "*" -> Math.multiplyExact(a, b);
            case "/" -> (double) a / requireDivisor(b);
            case "//" -> Math.floorDiv(a, requireDivisor(b));
            case "%" -> Math.floorMod(a, requireDivisor(b));
            default -> {
                if (b < 0) {
                    yield power((double) a, (double) b);
                }
                yield power(a, b, budget);
            }
        };
    }

    private static long requireDivisor(long divisor) {
        if (divisor == 0) {
            throw new JinjaException("division by zero");
        }
        return divisor;
    }

    private static long power(long base, long exponent, Budget budget) {
        if (base == 0 || base == 1 || base == -1) {
            return exponent == 0 ? 1 : base == -1 && exponent % 2 == 0 ? 1 : base;
        }
        long result = 1;
        for (long i = 0; i < exponent; i++) {
            budget.step();
            result = Math.multiplyExact(result, base);
        }
        return result;
    }

    private static double power(double base, double exponent) {
        if (base == 0 && exponent < 0) {
            throw new JinjaException("division by zero");
        }
        double result = Math.pow(base, exponent);
        if (base < 0 && exponent != Math.rint(exponent)) {
            throw new JinjaException("complex numbers are not supported");
        }
        return result;
    }

    private static Object floats(String operator, double a, double b) {
        if (b == 0 && (operator.equals("/") || operator.equals("//") || operator.equals("%"))) {
            throw new JinjaException("division by zero");
        }
        return switch (operator) {
            case "+" -> a + b;
            case "-" -> a - b;
            case "*" -> a * b;
            case "/" -> a / b;
            case "//" -> floorDivision(a, b);
            case "%" -> modulo(a, b);
            default -> power(a, b);
        };
    }

    /** The remainder has the sign of the divisor. */
    private static double modulo(double a, double b) {
        double remainder = a % b;
        if (remainder == 0) {
            return Math.copySign(0.0, b);
        }
        return (remainder < 0) != (b < 0) ? remainder + b : remainder;
    }

    /** As CPython computes it: from the exact remainder, so that the quotient is never off by one. */
    private static double floorDivision(double a, double b) {
        double remainder = a % b;
        double quotient = (a - remainder) / b;
        if (remainder != 0 && (remainder < 0) != (b < 0)) {
            quotient -= 1;
        }
        if (quotient == 0) {
            return Math.copySign(0.0, a / b);
        }
        double floor = Math.floor(quotient);
        return quotient - floor > 0.5 ? floor + 1 : floor;
    }

    static Object sign(boolean negative, Object value) {
        Values.throwIfUndefined(value);
        Number number = Values.number(value);
        if (number == null) {
            throw new JinjaException("a " + Values.typeName(value) + " has no sign");
        }
        if (!negative) {
            return number;
        }
        if (number instanceof Double d) {
            return -d;
        }
        if (number.longValue() == Long.MIN_VALUE) {
            throw new JinjaException("-" + number + " leaves the range of 64-bit integers");
        }
        return -number.longValue();
    }
}
