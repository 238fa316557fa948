package dev.lamina.internal.text.jinja;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** A statement of a template, or text between its tags. */
sealed interface Statement {
    record Text(String text) implements Statement {}

    record Print(Expression value) implements Statement {}

    record If(List<Branch> branches, List<Statement> otherwise) implements Statement {}

    record Branch(Expression test, List<Statement> body) {}

    record For(
            Target target,
            Expression items,
            @Nullable Expression test,
            List<Statement> body,
            List<Statement> otherwise,
            int line)
            implements Statement {}

    record Set(Target target, Expression value, int line) implements Statement {}

    record SetBlock(Target target, Expression.@Nullable Filter filter, List<Statement> body, int line)
            implements Statement {}

    record MacroOf(Signature signature, int line) implements Statement {}

    record CallBlock(Expression.Call call, Signature caller, int line) implements Statement {}

    record FilterBlock(Expression.Filter filter, List<Statement> body, int line) implements Statement {}

    record With(List<Target> targets, List<Expression> values, List<Statement> body, int line)
            implements Statement {}

    /** The tag with which transformers marks what the model wrote: its body is output as it is. */
    record Generation(List<Statement> body) implements Statement {}

    record Break() implements Statement {}

    record Continue() implements Statement {}

    /**
     * What a macro takes and does.
     *
     * @param defaults values of the last parameters
     * @param usesCaller whether the body names {@code caller}; the others likewise
     */
    record Signature(
            String name,
            List<String> parameters,
            List<Expression> defaults,
            boolean usesCaller,
            boolean usesKwargs,
            boolean usesVarargs,
            List<Statement> body) {}

    /** Where an assignment goes. */
    sealed interface Target {}

    record NameTarget(String name) implements Target {}

    record NamespaceTarget(String name, String attribute) implements Target {}

    record TupleTarget(List<Target> targets) implements Target {}
}
