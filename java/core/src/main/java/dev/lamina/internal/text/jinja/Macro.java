package dev.lamina.internal.text.jinja;

/**
 * A macro, or the body of a call block.
 *
 * @param signature what it takes and does
 * @param scope where it was defined: its body sees the variables there
 */
record Macro(Statement.Signature signature, Scope scope) {
    @Override
    public boolean equals(Object other) {
        return this == other;
    }

    @Override
    public int hashCode() {
        return System.identityHashCode(this);
    }
}
