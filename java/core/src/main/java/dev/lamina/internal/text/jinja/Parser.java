package dev.lamina.internal.text.jinja;

import dev.lamina.internal.text.jinja.Expression.Arguments;
import dev.lamina.internal.text.jinja.Statement.Target;
import dev.lamina.internal.text.jinja.Token.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/** Turns tokens into statements: the grammar of Jinja's own parser, but no inheritance, imports, recursive loops. */
final class Parser {
    private static final int MAX_DEPTH = 100;
    private static final Set<String> COMPARISONS = Set.of("==", "!=", "<", "<=", ">", ">=");
    private static final Set<String> CONSTANTS = Set.of("true", "false", "none", "True", "False", "None");

    private final List<Token> tokens;
    private int next;
    private int depth;
    private int loops;
    private boolean checksNames = true;
    private final List<JinjaException> unknownNames = new ArrayList<>();
    private MacroUse macro = new MacroUse();

    /** Which special names the macro that is being parsed uses. */
    private static final class MacroUse {
        boolean caller;
        boolean kwargs;
        boolean varargs;
    }

    private Parser(List<Token> tokens) {
        this.tokens = tokens;
    }

    static List<Statement> parse(String source) {
        Parser parser = new Parser(Lexer.tokenize(source));
        List<Statement> statements = parser.statements(Set.of());
        if (!parser.unknownNames.isEmpty()) {
            throw parser.unknownNames.getFirst();
        }
        return statements;
    }

    private Token current() {
        return tokens.get(next);
    }

    private Token advance() {
        Token token = tokens.get(next);
        if (token.kind() != Kind.END) {
            next++;
        }
        return token;
    }

    private Token look() {
        return tokens.get(Math.min(next + 1, tokens.size() - 1));
    }

    private boolean atName(String name) {
        return current().is(Kind.NAME, name);
    }

    private boolean atOperator(String operator) {
        return current().is(Kind.OPERATOR, operator);
    }

    private boolean skipName(String name) {
        boolean found = atName(name);
        if (found) {
            advance();
        }
        return found;
    }

    private boolean skipOperator(String operator) {
        boolean found = atOperator(operator);
        if (found) {
            advance();
        }
        return found;
    }

    private Token expect(Kind kind, String what) {
        if (current().kind() != kind) {
            throw unexpected(what);
        }
        return advance();
    }

    private void expectOperator(String operator) {
        if (!skipOperator(operator)) {
            throw unexpected("'" + operator + "'");
        }
    }

    private JinjaException unexpected(String wanted) {
        return new JinjaException(
                "expected " + wanted + " but found " + current().describe(), current().line());
    }

    private <T> T nested(Supplier<T> part) {
        if (++depth > MAX_DEPTH) {
            throw new JinjaException("the template nests too deeply", current().line());
        }
        try {
            return part.get();
        } finally {
            depth--;
        }
    }

    // Statements

    /** Parses up to a tag named in {@code ends}, whose name stays the current token. */
    private List<Statement> statements(Set<String> ends) {
        return nested(() -> {
            List<Statement> body = new ArrayList<>();
            while (true) {
                Token token = advance();
                switch (token.kind()) {
                    case DATA -> body.add(new Statement.Text(token.text()));
                    case VARIABLE_BEGIN -> {
                        body.add(new Statement.Print(tuple(true, Set.of())));
                        expect(Kind.VARIABLE_END, "'}}'");
                    }
                    case BLOCK_BEGIN -> {
                        if (current().kind() == Kind.NAME && ends.contains(current().text())) {
                            return body;
                        }
                        body.add(statement());
                        expect(Kind.BLOCK_END, "'%}'");
                    }
                    default -> {
                        if (!ends.isEmpty()) {
                            throw new JinjaException("the template ends inside a block that "
                                    + String.join(" or ", new TreeSet<>(ends)) + " should close",
                                    token.line());
                        }
                        return body;
                    }
                }
            }
        });
    }

    /** Parses the body of a block whose opening tag ends here; the name of the closing tag stays current. */
    private List<Statement> body(Set<String> ends) {
        skipOperator(":");
        expect(Kind.BLOCK_END, "'%}'");
        return statements(ends);
    }

    private List<Statement> bodyTo(String end) {
        List<Statement> body = body(Set.of(end));
        advance();
        return body;
    }

    private Statement statement() {
        Token tag = expect(Kind.NAME, "the name of a tag");
        return switch (tag.text()) {
            case "if" -> ifStatement();
            case "for" -> forStatement(tag.line());
            case "set" -> set(tag.line());
            case "macro" -> macroStatement(tag.line());
            case "call" -> call(tag.line());
            case "filter" -> new Statement.FilterBlock(filters(null, true), scoped(() -> bodyTo("endfilter")),
                    tag.line());
            case "with" -> with(tag.line());
            case "generation" -> new Statement.Generation(outsideLoops(() -> bodyTo("endgeneration")));
            case "break" -> {
                requireLoop(tag);
                yield new Statement.Break();
            }
            case "continue" -> {
                requireLoop(tag);
                yield new Statement.Continue();
            }
            default -> throw new JinjaException("the tag '" + tag.text() + "' is not supported", tag.line());
        };
    }

    private void requireLoop(Token tag) {
        if (loops == 0) {
            throw new JinjaException("'" + tag.text() + "' stands outside of a loop", tag.line());
        }
    }

    /** Filters and tests are checked when they are parsed, but in branches only when they are reached, as in Jinja. */
    private void checkName(String what, Token name, Set<String> known) {
        if (checksNames && !known.contains(name.text())) {
            unknownNames.add(
                    new JinjaException("the " + what + " '" + name.text() + "' is not supported", name.line()));
        }
    }

    private <T> T scoped(Supplier<T> part) {
        return checkingNames(true, part);
    }

    private <T> T checkingNames(boolean checks, Supplier<T> part) {
        boolean before = checksNames;
        checksNames = checks;
        try {
            return part.get();
        } finally {
            checksNames = before;
        }
    }

    private <T> T outsideLoops(Supplier<T> part) {
        int before = loops;
        loops = 0;
        try {
            return scoped(part);
        } finally {
            loops = before;
        }
    }

    private Statement ifStatement() {
        List<Statement.Branch> branches = new ArrayList<>();
        List<Statement> otherwise = List.of();
        Set<String> ends = Set.of("elif", "else", "endif");
        return checkingNames(false, () -> {
            while (true) {
                Expression test = tuple(false, Set.of());
                branches.add(new Statement.Branch(test, body(ends)));
                String end = advance().text();
                if (end.equals("else")) {
                    return new Statement.If(branches, bodyTo("endif"));
                }
                if (end.equals("endif")) {
                    return new Statement.If(branches, otherwise);
                }
            }
        });
    }

    private Statement forStatement(int line) {
        Target target = target(Set.of("in"), false);
        forbidLoopTarget(target, line);
        if (!skipName("in")) {
            throw unexpected("'in'");
        }
        Expression items = tuple(false, Set.of("recursive"));
        Expression test = skipName("if") ? expression(true) : null;
        if (atName("recursive")) {
            throw new JinjaException("recursive loops are not supported", line);
        }
        loops++;
        List<Statement> body = scoped(() -> body(Set.of("endfor", "else")));
        loops--;
        List<Statement> otherwise =
                advance().text().equals("else") ? scoped(() -> bodyTo("endfor")) : List.of();
        return new Statement.For(target, items, test, body, otherwise, line);
    }

    private static void forbidLoopTarget(Target target, int line) {
        switch (target) {
            case Statement.NameTarget(String name) -> {
                if (name.equals("loop")) {
                    throw new JinjaException("a loop cannot assign to 'loop'", line);
                }
            }
            case Statement.TupleTarget(List<Target> targets) -> targets.forEach(t -> forbidLoopTarget(t, line));
            case Statement.NamespaceTarget ignored -> { }
        }
    }

    private Statement set(int line) {
        Target target = target(Set.of(), true);
        if (skipOperator("=")) {
            return new Statement.Set(target, tuple(true, Set.of()), line);
        }
        Expression.Filter filter = atOperator("|") ? filters(null, false) : null;
        return new Statement.SetBlock(target, filter, scoped(() -> bodyTo("endset")), line);
    }

    private Statement macroStatement(int line) {
        String name = expect(Kind.NAME, "the name of a macro").text();
        return new Statement.MacroOf(signature(name, "endmacro", true), line);
    }

    private Statement call(int line) {
        int start = next;
        if (atOperator("(")) {
            skipParentheses();
        }
        Expression expression = expression(true);
        if (!(expression instanceof Expression.Call callee)) {
            throw new JinjaException("'call' needs a call of a macro", line);
        }
        int end = next;
        next = start;
        Statement.Signature caller = signature("caller", "endcall", atOperator("("), end);
        return new Statement.CallBlock(callee, caller, line);
    }

    private void skipParentheses() {
        int open = 0;
        do {
            Token token = advance();
            if (token.kind() == Kind.END) {
                throw new JinjaException("unexpected end of the template", token.line());
            }
            open += token.is(Kind.OPERATOR, "(") ? 1 : token.is(Kind.OPERATOR, ")") ? -1 : 0;
        } while (open > 0);
    }

    private Statement.Signature signature(String name, String end, boolean parameters) {
        return signature(name, end, parameters, -1);
    }

    /** Parses parameters, then the body, which begins at the token {@code bodyAt} unless that is -1. */
    private Statement.Signature signature(String name, String end, boolean hasParameters, int bodyAt) {
        List<String> parameters = new ArrayList<>();
        List<Expression> defaults = new ArrayList<>();
        MacroUse outer = macro;
        macro = new MacroUse();
        try {
            if (hasParameters) {
                expectOperator("(");
                while (!atOperator(")")) {
                    if (!parameters.isEmpty()) {
                        expectOperator(",");
                    }
                    Token parameter = expect(Kind.NAME, "the name of a parameter");
                    if (Set.of("caller", "kwargs", "varargs").contains(parameter.text())) {
                        throw new JinjaException(
                                "a parameter cannot be called '" + parameter.text() + "'", parameter.line());
                    }
                    parameters.add(parameter.text());
                    if (skipOperator("=")) {
                        defaults.add(expression(true));
                    } else if (!defaults.isEmpty()) {
                        throw new JinjaException("a parameter without default follows one with a default",
                                parameter.line());
                    }
                }
                expectOperator(")");
            }
            if (bodyAt >= 0) {
                next = bodyAt;
            }
            List<Statement> body = outsideLoops(() -> bodyTo(end));
            MacroUse use = macro;
            outer.caller |= use.caller;
            outer.kwargs |= use.kwargs;
            outer.varargs |= use.varargs;
            return new Statement.Signature(
                    name, parameters, defaults, use.caller, use.kwargs, use.varargs, body);
        } finally {
            macro = outer;
        }
    }

    private Statement with(int line) {
        List<Target> targets = new ArrayList<>();
        List<Expression> values = new ArrayList<>();
        while (current().kind() != Kind.BLOCK_END) {
            if (!targets.isEmpty()) {
                expectOperator(",");
            }
            targets.add(target(Set.of(), false));
            expectOperator("=");
            values.add(expression(true));
        }
        return new Statement.With(targets, values, scoped(() -> bodyTo("endwith")), line);
    }

    private Target target(Set<String> ends, boolean withNamespace) {
        int line = current().line();
        List<Target> targets = new ArrayList<>();
        boolean isTuple = false;
        while (true) {
            if (current().kind() == Kind.NAME && ends.contains(current().text())
                    || atOperator(")") || atOperator("=") || current().kind() == Kind.BLOCK_END) {
                break;
            }
            targets.add(simpleTarget(withNamespace));
            if (!skipOperator(",")) {
                break;
            }
            isTuple = true;
        }
        if (targets.isEmpty()) {
            throw new JinjaException("expected a name to assign to", line);
        }
        return isTuple ? new Statement.TupleTarget(targets) : targets.getFirst();
    }

    private Target simpleTarget(boolean withNamespace) {
        if (skipOperator("(")) {
            Target target = nested(() -> target(Set.of(), withNamespace));
            expectOperator(")");
            return target;
        }
        Token name = expect(Kind.NAME, "a name to assign to");
        if (CONSTANTS.contains(name.text())) {
            throw new JinjaException("cannot assign to '" + name.text() + "'", name.line());
        }
        if (withNamespace && skipOperator(".")) {
            return new Statement.NamespaceTarget(name.text(), expect(Kind.NAME, "an attribute").text());
        }
        return new Statement.NameTarget(name.text());
    }

    // Expressions

    private Expression tuple(boolean withConditional, Set<String> ends) {
        return tuple(withConditional, ends, false);
    }

    private Expression tuple(boolean withConditional, Set<String> ends, boolean inParentheses) {
        int line = current().line();
        List<Expression> items = new ArrayList<>();
        boolean isTuple = false;
        while (!atTupleEnd(ends)) {
            items.add(expression(withConditional));
            if (!skipOperator(",")) {
                break;
            }
            isTuple = true;
        }
        if (!isTuple && !items.isEmpty()) {
            return items.getFirst();
        }
        if (!isTuple && !inParentheses) {
            throw unexpected("an expression");
        }
        return new Expression.TupleOf(items, line);
    }

    private boolean atTupleEnd(Set<String> ends) {
        Token token = current();
        return token.kind() == Kind.VARIABLE_END || token.kind() == Kind.BLOCK_END || token.is(Kind.OPERATOR, ")")
                || token.kind() == Kind.NAME && ends.contains(token.text());
    }

    private Expression expression(boolean withConditional) {
        return nested(() -> withConditional ? conditional() : or());
    }

    private Expression conditional() {
        int line = current().line();
        int unknown = unknownNames.size();
        Expression value = or();
        if (!atName("if")) {
            return value;
        }
        unknownNames.subList(unknown, unknownNames.size()).clear();
        while (skipName("if")) {
            Expression then = value;
            value = checkingNames(false, () -> {
                Expression test = or();
                Expression otherwise = skipName("else") ? nested(this::conditional) : null;
                return new Expression.Conditional(test, then, otherwise, line);
            });
        }
        return value;
    }

    private Expression or() {
        int line = current().line();
        Expression left = and();
        while (skipName("or")) {
            left = new Expression.Or(left, and(), line);
        }
        return left;
    }

    private Expression and() {
        int line = current().line();
        Expression left = not();
        while (skipName("and")) {
            left = new Expression.And(left, not(), line);
        }
        return left;
    }

    private Expression not() {
        int line = current().line();
        if (skipName("not")) {
            return new Expression.Not(nested(this::not), line);
        }
        return compare();
    }

    private Expression compare() {
        int line = current().line();
        Expression first = sum();
        List<String> operators = new ArrayList<>();
        List<Expression> rest = new ArrayList<>();
        while (true) {
            if (current().kind() == Kind.OPERATOR && COMPARISONS.contains(current().text())) {
                operators.add(advance().text());
            } else if (skipName("in")) {
                operators.add("in");
            } else if (atName("not") && look().is(Kind.NAME, "in")) {
                advance();
                advance();
                operators.add("not in");
            } else {
                break;
            }
            rest.add(sum());
        }
        return operators.isEmpty() ? first : new Expression.Compare(first, operators, rest, line);
    }

    private Expression sum() {
        int line = current().line();
        Expression left = concat();
        while (atOperator("+") || atOperator("-")) {
            left = new Expression.Arithmetic(advance().text(), left, concat(), line);
        }
        return left;
    }

    private Expression concat() {
        int line = current().line();
        List<Expression> parts = new ArrayList<>(List.of(product()));
        while (skipOperator("~")) {
            parts.add(product());
        }
        return parts.size() == 1 ? parts.getFirst() : new Expression.Concat(parts, line);
    }

    private Expression product() {
        int line = current().line();
        Expression left = power();
        while (atOperator("*") || atOperator("/") || atOperator("//") || atOperator("%")) {
            left = new Expression.Arithmetic(advance().text(), left, power(), line);
        }
        return left;
    }

    private Expression power() {
        int line = current().line();
        Expression left = unary(true);
        while (skipOperator("**")) {
            left = new Expression.Arithmetic("**", left, unary(true), line);
        }
        return left;
    }

    private Expression unary(boolean withFilter) {
        int line = current().line();
        Expression value;
        if (atOperator("-") || atOperator("+")) {
            boolean negative = advance().text().equals("-");
            value = new Expression.Sign(negative, nested(() -> unary(false)), line);
        } else {
            value = primary();
        }
        value = postfix(value);
        return withFilter ? filtersAndTests(value) : value;
    }

    private Expression primary() {
        Token token = advance();
        int line = token.line();
        return switch (token.kind()) {
            case NAME -> switch (token.text()) {
                case "true", "True" -> new Expression.Constant(true, line);
                case "false", "False" -> new Expression.Constant(false, line);
                case "none", "None" -> new Expression.Constant(None.NONE, line);
                default -> name(token);
            };
            case STRING -> {
                StringBuilder value = new StringBuilder(token.text());
                while (current().kind() == Kind.STRING) {
                    value.append(advance().text());
                }
                yield new Expression.Constant(value.toString(), line);
            }
            case INTEGER -> new Expression.Constant(integer(token), line);
            case FLOAT -> new Expression.Constant(Double.parseDouble(token.text()), line);
            case OPERATOR -> switch (token.text()) {
                case "(" -> {
                    Expression value = nested(() -> tuple(true, Set.of(), true));
                    expectOperator(")");
                    yield value;
                }
                case "[" -> new Expression.ListOf(listItems(), line);
                case "{" -> dict(line);
                default -> throw new JinjaException("unexpected " + token.describe(), line);
            };
            default -> throw new JinjaException("unexpected " + token.describe(), line);
        };
    }

    private Expression name(Token token) {
        switch (token.text()) {
            case "caller" -> macro.caller = true;
            case "kwargs" -> macro.kwargs = true;
            case "varargs" -> macro.varargs = true;
            default -> { }
        }
        return new Expression.Name(token.text(), token.line());
    }

    private static Long integer(Token token) {
        try {
            return Long.parseLong(token.text());
        } catch (NumberFormatException e) {
            throw new JinjaException("the number " + token.text() + " is too large", token.line());
        }
    }

    private List<Expression> listItems() {
        List<Expression> items = new ArrayList<>();
        while (!atOperator("]")) {
            items.add(expression(true));
            if (!atOperator("]")) {
                expectOperator(",");
            }
        }
        advance();
        return items;
    }

    private Expression dict(int line) {
        List<Expression> keys = new ArrayList<>();
        List<Expression> values = new ArrayList<>();
        while (!atOperator("}")) {
            keys.add(expression(true));
            expectOperator(":");
            values.add(expression(true));
            if (!atOperator("}")) {
                expectOperator(",");
            }
        }
        advance();
        return new Expression.DictOf(keys, values, line);
    }

    private Expression postfix(Expression start) {
        Expression value = start;
        while (true) {
            int line = current().line();
            if (skipOperator(".")) {
                Token attribute = advance();
                value = switch (attribute.kind()) {
                    case NAME -> new Expression.Attribute(value, attribute.text(), line);
                    case INTEGER -> new Expression.Item(
                            value, new Expression.Constant(integer(attribute), line), line);
                    default -> throw new JinjaException("expected a name or a number after '.'", line);
                };
            } else if (skipOperator("[")) {
                value = subscript(value, line);
            } else if (atOperator("(")) {
                value = new Expression.Call(value, arguments(), line);
            } else {
                return value;
            }
        }
    }

    private Expression subscript(Expression target, int line) {
        Expression start = atOperator(":") ? null : expression(true);
        if (start != null && skipOperator("]")) {
            return new Expression.Item(target, start, line);
        }
        expectOperator(":");
        Expression stop = atOperator(":") || atOperator("]") ? null : expression(true);
        Expression step = skipOperator(":") && !atOperator("]") ? expression(true) : null;
        expectOperator("]");
        return new Expression.Slice(target, start, stop, step, line);
    }

    private Expression filtersAndTests(Expression start) {
        Expression value = start;
        while (true) {
            if (atOperator("|")) {
                value = filters(value, false);
            } else if (atName("is")) {
                value = test(value);
            } else if (atOperator("(")) {
                value = new Expression.Call(value, arguments(), current().line());
            } else {
                return value;
            }
        }
    }

    private Expression.Filter filters(@Nullable Expression start, boolean startsInline) {
        Expression value = start;
        boolean first = startsInline;
        Expression.@Nullable Filter filter = null;
        while (first || atOperator("|")) {
            if (!first) {
                advance();
            }
            first = false;
            Token name = expect(Kind.NAME, "the name of a filter");
            checkName("filter", name, Filters.NAMES);
            Arguments arguments = atOperator("(") ? arguments() : Arguments.NONE;
            filter = new Expression.Filter(value, name.text(), arguments, name.line());
            value = filter;
        }
        if (filter == null) {
            throw unexpected("a filter");
        }
        return filter;
    }

    private Expression test(Expression value) {
        advance();
        boolean negated = skipName("not");
        Token name = expect(Kind.NAME, "the name of a test");
        checkName("test", name, Tests.NAMES);
        Arguments arguments = Arguments.NONE;
        if (atOperator("(")) {
            arguments = arguments();
        } else if (startsOperand()) {
            if (atName("is")) {
                throw new JinjaException("tests cannot be chained with 'is'", name.line());
            }
            arguments = new Arguments(List.of(postfix(primary())), List.of(), List.of(), null, null);
        }
        Expression test = new Expression.Test(value, name.text(), arguments, name.line());
        return negated ? new Expression.Not(test, name.line()) : test;
    }

    private boolean startsOperand() {
        return switch (current().kind()) {
            case STRING, INTEGER, FLOAT -> true;
            case NAME -> !Set.of("else", "or", "and").contains(current().text());
            case OPERATOR -> atOperator("[") || atOperator("{");
            default -> false;
        };
    }

    private Arguments arguments() {
        int line = current().line();
        expectOperator("(");
        List<Expression> positional = new ArrayList<>();
        List<String> names = new ArrayList<>();
        List<Expression> named = new ArrayList<>();
        Expression star = null;
        Expression starStar = null;
        while (!atOperator(")")) {
            if (starStar != null) {
                throw new JinjaException("an argument follows '**'", line);
            }
            if (skipOperator("*")) {
                if (star != null) {
                    throw new JinjaException("'*' stands twice in a call", line);
                }
                star = expression(true);
            } else if (skipOperator("**")) {
                starStar = expression(true);
            } else if (current().kind() == Kind.NAME && look().is(Kind.OPERATOR, "=")) {
                names.add(advance().text());
                advance();
                named.add(expression(true));
            } else {
                if (star != null || !names.isEmpty()) {
                    throw new JinjaException("an argument without name follows one with a name", line);
                }
                positional.add(expression(true));
            }
            if (!atOperator(")")) {
                expectOperator(",");
            }
        }
        advance();
        return new Arguments(positional, names, named, star, starStar);
    }
}
