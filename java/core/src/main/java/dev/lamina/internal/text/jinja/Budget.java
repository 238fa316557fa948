package dev.lamina.internal.text.jinja;

/**
 * What one rendering may use. Every node that is evaluated is a step; work that grows with the size of a value
 * (searching a string, copying a list) is charged in proportion, so that the sum bounds time and memory.
 */
final class Budget {
    private static final long MAX_STEPS = 30_000_000;
    private static final long MAX_CREATED = 16L << 20;
    private static final long CREATED_PER_INPUT = 32;
    private static final int MAX_DEPTH = 800;
    private static final int CHARS_PER_STEP = 16;
    private static final int CHARS_PER_ELEMENT = 8;

    private long steps;
    private long created;
    private int depth;
    private final long maxCreated;

    /**
     * Makes the budget of one rendering.
     *
     * @param inputChars size of the variables in chars: a long conversation may create more
     */
    Budget(long inputChars) {
        maxCreated = MAX_CREATED + CREATED_PER_INPUT * inputChars;
    }

    void step() {
        work(1);
    }

    /** Charges work in steps. */
    void work(long amount) {
        steps += amount;
        if (steps > MAX_STEPS) {
            throw new JinjaException("the template runs too long (more than " + MAX_STEPS + " steps)");
        }
    }

    /** Charges reading through a string. */
    void scan(String text) {
        work(1 + text.length() / CHARS_PER_STEP);
    }

    /** Charges a string that is going to be made; call it before making it. */
    void chars(long count) {
        created += count;
        if (count < 0 || created > maxCreated) {
            throw new JinjaException("the template makes too much text (more than " + maxCreated + " characters)");
        }
        work(1 + count / CHARS_PER_STEP);
    }

    /** Charges a collection that is going to be made; call it before making it. */
    void elements(long count) {
        chars(Math.multiplyExact(Math.min(count, Integer.MAX_VALUE), CHARS_PER_ELEMENT));
    }

    void enter() {
        if (++depth > MAX_DEPTH) {
            throw new JinjaException("the template nests too deeply (more than " + MAX_DEPTH + " levels)");
        }
    }

    void leave() {
        depth--;
    }
}
