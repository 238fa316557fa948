package dev.lamina.internal.text.jinja;

/** A template cannot be parsed or rendered: a construct that is not supported, an error, or a refusal of its own. */
public final class JinjaException extends RuntimeException {
    private static final long serialVersionUID = 1L;
    private final int line;
    private final boolean raisedByTemplate;

    JinjaException(String message) {
        this(message, 0, false);
    }

    JinjaException(String message, int line) {
        this(message, line, false);
    }

    JinjaException(String message, int line, boolean raisedByTemplate) {
        super(message);
        this.line = line;
        this.raisedByTemplate = raisedByTemplate;
    }

    /** Returns the line of the template, counted from 1, or 0 if it is not known. */
    public int line() {
        return line;
    }

    /** Returns whether the template itself called {@code raise_exception}. */
    public boolean raisedByTemplate() {
        return raisedByTemplate;
    }

    /** Returns this error with a line if it has none yet. */
    JinjaException at(int where) {
        if (line != 0) {
            return this;
        }
        JinjaException located = new JinjaException(getMessage(), where, raisedByTemplate);
        located.setStackTrace(getStackTrace());
        return located;
    }
}
