package dev.lamina.internal.text.jinja;

import dev.lamina.internal.text.jinja.Expression.Arguments;
import dev.lamina.internal.text.jinja.Statement.Target;
import java.time.Clock;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/** Runs one rendering of a template. Not for more than one thread, nor for more than one rendering. */
final class Interpreter {
    static final Set<String> DICT_METHODS = Set.of("keys", "values", "items", "get", "copy");
    private static final Set<String> LIST_METHODS = Set.of("index", "count", "copy");

    /** Methods that would change a value or look behind it: the sandbox of Jinja leaves them undefined. */
    private static final Set<String> UNSAFE_DICT_METHODS = Set.of("clear", "pop", "popitem", "setdefault", "update");
    private static final Set<String> UNSAFE_LIST_METHODS = Set.of(
            "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove");
    private static final Set<String> FUNCTIONS =
            Set.of("range", "dict", "namespace", "raise_exception", "strftime_now");

    /** Functions of Jinja that are missing here: naming one is an error, where another name is just undefined. */
    private static final Set<String> UNSUPPORTED_FUNCTIONS = Set.of("lipsum", "cycler", "joiner", "self");
    private static final Set<String> NUMBER_ATTRIBUTES = Set.of(
            "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "fromhex", "hex",
            "imag", "is_integer", "numerator", "real", "to_bytes");

    private static final int STEPS_PER_ITERATION = 4;

    private enum Flow {
        NORMAL,
        BREAK,
        CONTINUE
    }

    private final Budget budget;
    private final Clock clock;
    private final Filters filters;
    private StringBuilder out = new StringBuilder();
    private int line = 1;

    Interpreter(Budget budget, Clock clock) {
        this.budget = budget;
        this.clock = clock;
        filters = new Filters(this, budget);
    }

    String render(List<Statement> template, Map<String, Object> variables) {
        Scope scope = new Scope(null);
        variables.forEach(scope::set);
        try {
            run(template, new Scope(scope));
        } catch (JinjaException e) {
            throw e.at(line);
        }
        return out.toString();
    }

    private void print(String text) {
        budget.chars(text.length());
        out.append(text);
    }

    // Statements

    private Flow run(List<Statement> statements, Scope scope) {
        budget.enter();
        for (Statement statement : statements) {
            budget.step();
            Flow flow = run(statement, scope);
            if (flow != Flow.NORMAL) {
                budget.leave();
                return flow;
            }
        }
        budget.leave();
        return Flow.NORMAL;
    }

    private Flow run(Statement statement, Scope scope) {
        switch (statement) {
            case Statement.Text(String text) -> print(text);
            case Statement.Print(Expression value) -> print(Values.str(evaluate(value, scope), budget));
            case Statement.If(List<Statement.Branch> branches, List<Statement> otherwise) -> {
                for (Statement.Branch branch : branches) {
                    if (Values.truth(evaluate(branch.test(), scope))) {
                        return run(branch.body(), scope);
                    }
                }
                return run(otherwise, scope);
            }
            case Statement.For loop -> {
                return runLoop(loop, scope);
            }
            case Statement.Set(Target target, Expression value, int at) ->
                assign(target, evaluate(value, scope), scope, at);
            case Statement.SetBlock(Target target, Expression.Filter filter, List<Statement> body, int at) -> {
                Scope inner = new Scope(scope);
                Captured captured = capture(body, inner);
                Object value = filter == null ? captured.text() : filtered(filter, captured.text(), inner);
                if (captured.flow() != Flow.NORMAL) {
                    return captured.flow();
                }
                assign(target, value, scope, at);
            }
            case Statement.MacroOf(Statement.Signature signature, int at) ->
                scope.set(signature.name(), new Macro(signature, scope));
            case Statement.CallBlock(Expression.Call call, Statement.Signature body, int at) -> {
                line = at;
                Object callee = evaluate(call.target(), scope);
                CallArguments arguments = arguments(call.arguments(), scope);
                Map<String, Object> named = new LinkedHashMap<>(arguments.named());
                named.put("caller", new Macro(body, scope));
                line = at;
                print(Values.str(call(callee, new CallArguments(arguments.positional(), named)), budget));
            }
            case Statement.FilterBlock(Expression.Filter filter, List<Statement> body, int at) -> {
                Scope inner = new Scope(scope);
                Captured captured = capture(body, inner);
                if (captured.flow() != Flow.NORMAL) {
                    return captured.flow();
                }
                print(Values.str(filtered(filter, captured.text(), inner), budget));
            }
            case Statement.With with -> {
                Scope inner = new Scope(scope);
                for (int i = 0; i < with.targets().size(); i++) {
                    assign(with.targets().get(i), evaluate(with.values().get(i), scope), inner, with.line());
                }
                return run(with.body(), inner);
            }
            case Statement.Generation(List<Statement> body) -> run(body, new Scope(scope));
            case Statement.Break ignored -> {
                return Flow.BREAK;
            }
            case Statement.Continue ignored -> {
                return Flow.CONTINUE;
            }
        }
        return Flow.NORMAL;
    }

    private Flow runLoop(Statement.For statement, Scope scope) {
        Object source = evaluate(statement.items(), scope);
        line = statement.line();
        Object items = source;
        Expression test = statement.test();
        if (test != null) {
            items = new Values.Lazy(selected(Values.iterate(source), statement, test, scope));
        }
        Loop loop = new Loop(items, Values.iterate(items));
        boolean completedOnce = false;
        while (loop.hasNext()) {
            budget.work(STEPS_PER_ITERATION);
            Scope inner = new Scope(scope);
            inner.set("loop", loop);
            assign(statement.target(), loop.next(), inner, statement.line());
            Flow flow = run(statement.body(), inner);
            // As in Jinja, the else branch runs unless a body came to its end, even after a break.
            completedOnce |= flow == Flow.NORMAL;
            if (flow == Flow.BREAK) {
                break;
            }
        }
        return completedOnce ? Flow.NORMAL : run(statement.otherwise(), new Scope(scope));
    }

    private Iterator<Object> selected(
            Iterator<Object> items, Statement.For statement, Expression test, Scope scope) {
        return new Iterator<>() {
            private @Nullable Object following;

            @Override
            public boolean hasNext() {
                while (following == null && items.hasNext()) {
                    budget.work(STEPS_PER_ITERATION);
                    Object item = items.next();
                    Scope inner = new Scope(scope);
                    assign(statement.target(), item, inner, statement.line());
                    if (Values.truth(evaluate(test, inner))) {
                        following = item;
                    }
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
        };
    }

    private record Captured(String text, Flow flow) {}

    private Captured capture(List<Statement> body, Scope scope) {
        StringBuilder outer = out;
        out = new StringBuilder();
        try {
            Flow flow = run(body, scope);
            return new Captured(out.toString(), flow);
        } finally {
            out = outer;
        }
    }

    private void assign(Target target, Object value, Scope scope, int at) {
        switch (target) {
            case Statement.NameTarget(String name) -> scope.set(name, value);
            case Statement.NamespaceTarget(String name, String attribute) -> {
                line = at;
                if (!(scope.get(name) instanceof Values.Namespace namespace)) {
                    throw new JinjaException("'" + name + "' is no namespace, so '" + name + "." + attribute
                            + "' cannot be set");
                }
                namespace.attributes().put(attribute, value);
            }
            case Statement.TupleTarget(List<Target> targets) -> {
                line = at;
                List<Object> items = Values.list(value, budget);
                if (items.size() != targets.size()) {
                    throw new JinjaException(
                            items.size() + " values cannot be assigned to " + targets.size() + " names");
                }
                for (int i = 0; i < items.size(); i++) {
                    assign(targets.get(i), items.get(i), scope, at);
                }
            }
        }
    }

    // Expressions

    private Object evaluate(Expression expression, Scope scope) {
        budget.step();
        budget.enter();
        line = expression.line();
        Object value = evaluateNested(expression, scope);
        budget.leave();
        return value;
    }

    private Object evaluateNested(Expression expression, Scope scope) {
        return switch (expression) {
            case Expression.Constant(Object value, int at) -> value;
            case Expression.Name(String name, int at) -> name(name, scope);
            case Expression.ListOf(List<Expression> items, int at) -> all(items, scope);
            case Expression.TupleOf(List<Expression> items, int at) -> new Values.Tuple(all(items, scope));
            case Expression.DictOf dict -> dict(dict, scope);
            case Expression.Sign(boolean negative, Expression operand, int at) ->
                Arithmetic.sign(negative, evaluate(operand, scope));
            case Expression.Arithmetic(String operator, Expression left, Expression right, int at) -> {
                Object a = evaluate(left, scope);
                Object b = evaluate(right, scope);
                line = at;
                yield Arithmetic.apply(operator, a, b, budget);
            }
            case Expression.Concat(List<Expression> parts, int at) -> concat(parts, scope);
            case Expression.And(Expression left, Expression right, int at) -> {
                Object value = evaluate(left, scope);
                yield Values.truth(value) ? evaluate(right, scope) : value;
            }
            case Expression.Or(Expression left, Expression right, int at) -> {
                Object value = evaluate(left, scope);
                yield Values.truth(value) ? value : evaluate(right, scope);
            }
            case Expression.Not(Expression operand, int at) -> !Values.truth(evaluate(operand, scope));
            case Expression.Compare compare -> compare(compare, scope);
            case Expression.Conditional(Expression test, Expression then, Expression otherwise, int at) ->
                Values.truth(evaluate(test, scope)) ? evaluate(then, scope)
                        : otherwise != null ? evaluate(otherwise, scope)
                        : new Undefined("an inline 'if' in line " + at + " is false and has no 'else'");
            case Expression.Attribute(Expression target, String name, int at) -> {
                Object value = evaluate(target, scope);
                line = at;
                yield attribute(value, name);
            }
            case Expression.Item(Expression target, Expression key, int at) -> {
                Object value = evaluate(target, scope);
                Object index = evaluate(key, scope);
                line = at;
                yield item(value, index);
            }
            case Expression.Slice slice -> {
                Object value = evaluate(slice.target(), scope);
                Object start = slice.start() == null ? null : evaluate(slice.start(), scope);
                Object stop = slice.stop() == null ? null : evaluate(slice.stop(), scope);
                Object step = slice.step() == null ? null : evaluate(slice.step(), scope);
                line = slice.line();
                yield Values.slice(value, start, stop, step, budget);
            }
            case Expression.Call(Expression target, Arguments arguments, int at) -> {
                Object callee = evaluate(target, scope);
                CallArguments given = arguments(arguments, scope);
                line = at;
                yield call(callee, given);
            }
            case Expression.Filter(Expression target, String name, Arguments arguments, int at) -> {
                if (target == null) {
                    throw new IllegalStateException("a filter of a block was evaluated without its text");
                }
                Object value = evaluate(target, scope);
                CallArguments given = arguments(arguments, scope);
                line = at;
                yield filters.apply(name, value, given);
            }
            case Expression.Test(Expression target, String name, Arguments arguments, int at) -> {
                Object value = evaluate(target, scope);
                CallArguments given = arguments(arguments, scope);
                line = at;
                yield Tests.apply(name, value, given, budget);
            }
        };
    }

    /** Applies the filters of a block to its text. */
    private Object filtered(Expression.Filter filter, String text, Scope scope) {
        Object value = filter.target() instanceof Expression.Filter inner ? filtered(inner, text, scope) : text;
        CallArguments given = arguments(filter.arguments(), scope);
        line = filter.line();
        return filters.apply(filter.name(), value, given);
    }

    private Object name(String name, Scope scope) {
        Object value = scope.get(name);
        if (value != null) {
            return value;
        }
        if (UNSUPPORTED_FUNCTIONS.contains(name)) {
            throw new JinjaException("the function '" + name + "' is not supported");
        }
        return FUNCTIONS.contains(name)
                ? new Values.Function(name)
                : new Undefined("'" + name + "' is undefined");
    }

    private List<Object> all(List<Expression> expressions, Scope scope) {
        budget.elements(expressions.size());
        List<Object> values = new ArrayList<>(expressions.size());
        for (Expression expression : expressions) {
            values.add(evaluate(expression, scope));
        }
        return values;
    }

    private Object dict(Expression.DictOf dict, Scope scope) {
        budget.elements(2L * dict.keys().size());
        Map<Object, Object> result = new LinkedHashMap<>();
        for (int i = 0; i < dict.keys().size(); i++) {
            Object key = Values.key(evaluate(dict.keys().get(i), scope));
            result.put(Values.keyIn(result, key), evaluate(dict.values().get(i), scope));
        }
        return result;
    }

    private String concat(List<Expression> parts, Scope scope) {
        StringBuilder result = new StringBuilder();
        for (Expression part : parts) {
            String text = Values.str(evaluate(part, scope), budget);
            budget.chars(text.length());
            result.append(text);
        }
        return result.toString();
    }

    private boolean compare(Expression.Compare compare, Scope scope) {
        Object left = evaluate(compare.first(), scope);
        for (int i = 0; i < compare.operators().size(); i++) {
            Object right = evaluate(compare.rest().get(i), scope);
            line = compare.line();
            boolean holds = switch (compare.operators().get(i)) {
                case "==" -> Values.equal(left, right, budget);
                case "!=" -> !Values.equal(left, right, budget);
                case "in" -> Values.contains(right, left, budget);
                case "not in" -> !Values.contains(right, left, budget);
                case "<" -> Values.compare(left, right, budget) < 0;
                case "<=" -> Values.compare(left, right, budget) <= 0;
                case ">" -> Values.compare(left, right, budget) > 0;
                default -> Values.compare(left, right, budget) >= 0;
            };
            if (!holds) {
                return false;
            }
            left = right;
        }
        return true;
    }

    /** Returns {@code value.name}: an attribute or a method, else an item. */
    Object attribute(Object value, String name) {
        Values.throwIfUndefined(value);
        Object own = own(value, name);
        if (own != null) {
            return own;
        }
        Object item = Values.item(value, name);
        return item != null ? item : missing(value, "attribute", name);
    }

    /** Returns {@code value[key]}: an item, else an attribute or a method. */
    Object item(Object value, Object key) {
        Values.throwIfUndefined(value);
        if (value instanceof String text) {
            budget.scan(text);
        }
        Object item = Values.item(value, key);
        if (item != null) {
            return item;
        }
        Object own = key instanceof String name ? own(value, name) : null;
        return own != null ? own : missing(value, "item", key);
    }

    private static Undefined missing(Object value, String what, Object key) {
        String name = key instanceof String || key instanceof Number ? " '" + key + "'" : " of this kind";
        return new Undefined("a " + Values.typeName(value) + " has no " + what + name);
    }

    /** Returns what a value has by itself under a name: a method, or an attribute of a namespace or loop; or null. */
    private static @Nullable Object own(Object value, String name) {
        return switch (value) {
            case String ignored when PyString.METHODS.contains(name) -> new Values.Method(value, name);
            case String ignored when PyString.UNSUPPORTED_METHODS.contains(name) -> throw unsupported(value, name);
            case Map<?, ?> ignored when DICT_METHODS.contains(name) -> new Values.Method(value, name);
            case Map<?, ?> ignored when UNSAFE_DICT_METHODS.contains(name) -> unsafe(value, name);
            case Map<?, ?> ignored when name.equals("fromkeys") -> throw unsupported(value, name);
            case List<?> ignored when LIST_METHODS.contains(name) -> new Values.Method(value, name);
            case List<?> ignored when UNSAFE_LIST_METHODS.contains(name) -> unsafe(value, name);
            case Values.Tuple ignored when name.equals("index") || name.equals("count") ->
                new Values.Method(value, name);
            case Values.Namespace namespace when !name.startsWith("_") -> namespace.attributes().get(name);
            case Loop loop -> loop.attribute(name);
            case Macro macro when name.equals("name") -> macro.signature().name();
            case Values.Safe ignored -> throw unsupported(value, name);
            case Long ignored when NUMBER_ATTRIBUTES.contains(name) -> throw unsupported(value, name);
            case Double ignored when NUMBER_ATTRIBUTES.contains(name) -> throw unsupported(value, name);
            case Boolean ignored when NUMBER_ATTRIBUTES.contains(name) -> throw unsupported(value, name);
            default -> null;
        };
    }

    private static JinjaException unsupported(Object value, String name) {
        return new JinjaException("'" + name + "' of a " + Values.typeName(value) + " is not supported");
    }

    private static Undefined unsafe(Object value, String name) {
        return new Undefined("'" + name + "' of a " + Values.typeName(value) + " would change it: not allowed");
    }

    // Calls

    private CallArguments arguments(Arguments arguments, Scope scope) {
        if (arguments == Arguments.NONE) {
            return CallArguments.NONE;
        }
        List<Object> positional = all(arguments.positional(), scope);
        Map<String, Object> named = new LinkedHashMap<>();
        if (arguments.star() != null) {
            positional.addAll(Values.list(evaluate(arguments.star(), scope), budget));
        }
        for (int i = 0; i < arguments.names().size(); i++) {
            putArgument(named, arguments.names().get(i), evaluate(arguments.named().get(i), scope));
        }
        if (arguments.starStar() != null) {
            if (!(evaluate(arguments.starStar(), scope) instanceof Map<?, ?> dict)) {
                throw new JinjaException("'**' in a call needs a dict");
            }
            dict.forEach((key, value) -> putArgument(named, PyString.text(key, "'**' in a call"), value));
        }
        return new CallArguments(positional, named);
    }

    private static void putArgument(Map<String, Object> named, String name, Object value) {
        if (named.put(name, value) != null) {
            throw new JinjaException("the argument '" + name + "' is given twice");
        }
    }

    private Object call(Object callee, CallArguments arguments) {
        return switch (callee) {
            case Macro macro -> callMacro(macro, arguments);
            case Values.Function(String name) -> callFunction(name, arguments);
            case Values.Method(Object self, String name) -> callMethod(self, name, arguments);
            case Undefined undefined -> throw undefined.error();
            case Loop ignored -> throw new JinjaException("recursive loops are not supported");
            default -> throw new JinjaException("a " + Values.typeName(callee) + " cannot be called");
        };
    }

    private Object callFunction(String name, CallArguments arguments) {
        switch (name) {
            case "range" -> {
                if (!arguments.named().isEmpty()) {
                    throw new JinjaException("range() takes no named arguments");
                }
                return Values.Range.of(arguments.positional());
            }
            case "namespace", "dict" -> {
                Map<Object, Object> values = new LinkedHashMap<>();
                if (!arguments.positional().isEmpty()) {
                    if (arguments.positional().size() > 1
                            || !(arguments.positional().getFirst() instanceof Map<?, ?> d)) {
                        throw new JinjaException(name + "() takes a dict and named arguments");
                    }
                    values.putAll(d);
                }
                values.putAll(arguments.named());
                budget.elements(2L * values.size());
                if (name.equals("dict")) {
                    return values;
                }
                Map<String, Object> attributes = new LinkedHashMap<>();
                values.forEach((key, value) -> attributes.put(PyString.text(key, "namespace()"), value));
                return new Values.Namespace(attributes);
            }
            case "raise_exception" -> {
                String message = Values.str(arguments.bind("raise_exception()", 1, "message")[0], budget);
                throw new JinjaException(message, line, true);
            }
            default -> {
                String format = PyString.text(arguments.bind("strftime_now()", 1, "format")[0], "strftime_now()");
                String text = Clocks.format(format, LocalDateTime.now(clock));
                budget.chars(text.length());
                return text;
            }
        }
    }

    private Object callMethod(Object self, String name, CallArguments arguments) {
        String where = name + "()";
        return switch (self) {
            case String text -> PyString.call(text, name, arguments, budget);
            case Map<?, ?> dict -> switch (name) {
                case "get" -> {
                    @Nullable Object[] given = arguments.bind(where, 1, "key", "default");
                    Object key = given[0] instanceof Undefined undefined ? undefined : Values.key(given[0]);
                    Object value = Values.item(dict, key);
                    yield value != null ? value : given[1] != null ? given[1] : None.NONE;
                }
                case "copy" -> {
                    arguments.bind(where, 0);
                    budget.elements(2L * dict.size());
                    yield new LinkedHashMap<>(dict);
                }
                default -> {
                    arguments.bind(where, 0);
                    yield new Values.DictView(name, Values.dict(dict));
                }
            };
            case List<?> list -> callListMethod(Values.objects(list), name, arguments);
            case Values.Tuple tuple -> callListMethod(tuple.items(), name, arguments);
            case Loop loop -> {
                if (!arguments.named().isEmpty()) {
                    throw new JinjaException(where + " takes no named arguments");
                }
                yield name.equals("cycle")
                        ? loop.cycle(arguments.positional())
                        : loop.changed(arguments.positional(), budget);
            }
            default -> throw new IllegalStateException(name);
        };
    }

    private Object callListMethod(List<Object> list, String name, CallArguments arguments) {
        if (name.equals("copy")) {
            arguments.bind("copy()", 0);
            budget.elements(list.size());
            return new ArrayList<>(list);
        }
        Object wanted = arguments.bind(name + "()", 1, "value")[0];
        long count = 0;
        for (int i = 0; i < list.size(); i++) {
            if (Values.equal(list.get(i), wanted, budget)) {
                if (name.equals("index")) {
                    return (long) i;
                }
                count++;
            }
        }
        if (name.equals("index")) {
            throw new JinjaException("index() did not find the value");
        }
        return count;
    }

    private Object callMacro(Macro macro, CallArguments arguments) {
        Statement.Signature signature = macro.signature();
        List<String> parameters = signature.parameters();
        Scope scope = new Scope(macro.scope());
        Map<String, Object> rest = new LinkedHashMap<>(arguments.named());
        List<Object> positional = arguments.positional();
        int firstDefault = parameters.size() - signature.defaults().size();
        for (int i = 0; i < parameters.size(); i++) {
            String parameter = parameters.get(i);
            Object value = i < positional.size() ? positional.get(i) : rest.remove(parameter);
            if (value == null) {
                value = i >= firstDefault
                        ? evaluate(signature.defaults().get(i - firstDefault), scope)
                        : new Undefined("the parameter '" + parameter + "' was not given");
            }
            scope.set(parameter, value);
        }
        if (signature.usesCaller()) {
            Object caller = rest.remove("caller");
            scope.set("caller", caller != null ? caller : new Undefined("no caller is defined"));
        }
        if (signature.usesKwargs()) {
            scope.set("kwargs", new LinkedHashMap<Object, Object>(rest));
        } else if (!rest.isEmpty()) {
            throw new JinjaException("the macro '" + signature.name() + "' takes no argument '"
                    + rest.keySet().iterator().next() + "'");
        }
        if (signature.usesVarargs()) {
            int taken = Math.min(parameters.size(), positional.size());
            scope.set("varargs", new Values.Tuple(List.copyOf(positional.subList(taken, positional.size()))));
        } else if (positional.size() > parameters.size()) {
            throw new JinjaException(
                    "the macro '" + signature.name() + "' takes at most " + parameters.size() + " arguments");
        }
        return capture(signature.body(), scope).text();
    }
}
