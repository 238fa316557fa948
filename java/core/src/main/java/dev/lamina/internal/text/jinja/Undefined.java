package dev.lamina.internal.text.jinja;

/**
 * A value that is not there: it prints as nothing, is false and empty, and every other use of it is an error.
 *
 * @param reason what is missing
 */
record Undefined(String reason) {
    JinjaException error() {
        return new JinjaException(reason);
    }

    /** All undefined values are equal, as in Jinja. */
    @Override
    public boolean equals(Object other) {
        return other instanceof Undefined;
    }

    @Override
    public int hashCode() {
        return 1;
    }
}
