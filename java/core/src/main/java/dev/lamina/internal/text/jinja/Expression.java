package dev.lamina.internal.text.jinja;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** An expression of a template; each knows its line for error messages. */
sealed interface Expression {
    int line();

    record Constant(Object value, int line) implements Expression {}

    record Name(String name, int line) implements Expression {}

    record ListOf(List<Expression> items, int line) implements Expression {}

    record TupleOf(List<Expression> items, int line) implements Expression {}

    record DictOf(List<Expression> keys, List<Expression> values, int line) implements Expression {}

    record Sign(boolean negative, Expression operand, int line) implements Expression {}

    record Arithmetic(String operator, Expression left, Expression right, int line) implements Expression {}

    record Concat(List<Expression> parts, int line) implements Expression {}

    record And(Expression left, Expression right, int line) implements Expression {}

    record Or(Expression left, Expression right, int line) implements Expression {}

    record Not(Expression operand, int line) implements Expression {}

    /** {@code first op0 rest0 op1 rest1 ...}: every neighbouring pair is compared. */
    record Compare(Expression first, List<String> operators, List<Expression> rest, int line)
            implements Expression {}

    record Conditional(Expression test, Expression then, @Nullable Expression otherwise, int line)
            implements Expression {}

    record Attribute(Expression target, String name, int line) implements Expression {}

    record Item(Expression target, Expression key, int line) implements Expression {}

    record Slice(
            Expression target,
            @Nullable Expression start,
            @Nullable Expression stop,
            @Nullable Expression step,
            int line)
            implements Expression {}

    record Call(Expression target, Arguments arguments, int line) implements Expression {}

    /** A filter; one without target stands for the text of a block. */
    record Filter(@Nullable Expression target, String name, Arguments arguments, int line) implements Expression {}

    record Test(Expression target, String name, Arguments arguments, int line) implements Expression {}

    /** Arguments as written: by position, by name, and unpacked with {@code *} and {@code **}. */
    record Arguments(
            List<Expression> positional,
            List<String> names,
            List<Expression> named,
            @Nullable Expression star,
            @Nullable Expression starStar) {
        static final Arguments NONE = new Arguments(List.of(), List.of(), List.of(), null, null);
    }
}
