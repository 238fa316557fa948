package dev.lamina.internal.text.jinja;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Evaluated arguments of a call, a filter or a test. */
record CallArguments(List<Object> positional, Map<String, Object> named) {
    static final CallArguments NONE = new CallArguments(List.of(), Map.of());

    /**
     * Puts arguments in the order of parameters.
     *
     * @param function name for error messages
     * @param required how many parameters must be given
     * @param parameters names of all parameters
     * @return an array of their values; what was not given is null
     */
    @Nullable Object[] bind(String function, int required, String... parameters) {
        if (positional.size() > parameters.length) {
            throw new JinjaException(function + " takes at most " + parameters.length + " arguments");
        }
        @Nullable Object[] values = new @Nullable Object[parameters.length];
        Map<String, Object> rest = new LinkedHashMap<>(named);
        for (int i = 0; i < parameters.length; i++) {
            if (i < positional.size()) {
                values[i] = positional.get(i);
            } else {
                values[i] = rest.remove(parameters[i]);
            }
            if (i < required && values[i] == null) {
                throw new JinjaException(function + " needs the argument '" + parameters[i] + "'");
            }
        }
        if (!rest.isEmpty()) {
            throw new JinjaException(
                    function + " takes no argument '" + rest.keySet().iterator().next() + "'");
        }
        return values;
    }

    /** Returns the arguments after the first {@code count} by position. */
    CallArguments drop(int count) {
        return new CallArguments(positional.subList(count, positional.size()), named);
    }
}
