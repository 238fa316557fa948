package dev.lamina.internal.text.jinja;

/** Python's {@code None}. */
enum None {
    NONE
}
