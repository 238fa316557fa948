package dev.lamina.internal.text.jinja;

import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** The variables of a template, a loop body, a macro or a block; what is not here is looked up around it. */
final class Scope {
    private final Map<String, Object> variables = new HashMap<>();
    private final @Nullable Scope parent;

    Scope(@Nullable Scope parent) {
        this.parent = parent;
    }

    void set(String name, Object value) {
        variables.put(name, value);
    }

    @Nullable Object get(String name) {
        for (Scope scope = this; scope != null; scope = scope.parent) {
            Object value = scope.variables.get(name);
            if (value != null) {
                return value;
            }
        }
        return null;
    }
}
