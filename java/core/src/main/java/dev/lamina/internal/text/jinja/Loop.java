package dev.lamina.internal.text.jinja;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** The variable {@code loop}: where a loop is. It looks one item ahead only when it is asked to. */
final class Loop {
    private Iterator<Object> items;
    private final Object source;
    private @Nullable Object before;
    private @Nullable Object current;
    private @Nullable Object after;
    private @Nullable Object lastChanged;
    private long index0 = -1;
    private long length = -1;

    /**
     * Starts before the first item.
     *
     * @param source what is iterated; asked for its length
     * @param items its items
     */
    Loop(Object source, Iterator<Object> items) {
        this.source = source;
        this.items = items;
    }

    boolean hasNext() {
        return after != null || items.hasNext();
    }

    Object next() {
        Object item = after != null ? after : items.next();
        after = null;
        before = current;
        current = item;
        index0++;
        return item;
    }

    private @Nullable Object peek() {
        if (after == null && items.hasNext()) {
            after = items.next();
        }
        return after;
    }

    long length() {
        if (length < 0) {
            if (Values.hasLength(source)) {
                length = Values.length(source);
            } else {
                List<Object> rest = new ArrayList<>();
                items.forEachRemaining(rest::add);
                items = rest.iterator();
                length = rest.size() + index0 + 1 + (after != null ? 1 : 0);
            }
        }
        return length;
    }

    /** Returns an attribute, or null if there is none of this name. */
    @Nullable Object attribute(String name) {
        return switch (name) {
            case "index" -> index0 + 1;
            case "index0" -> index0;
            case "revindex" -> length() - index0;
            case "revindex0" -> length() - index0 - 1;
            case "first" -> index0 == 0;
            case "last" -> peek() == null;
            case "length" -> length();
            case "depth" -> 1L;
            case "depth0" -> 0L;
            case "previtem" -> index0 == 0 || before == null ? new Undefined("there is no previous item") : before;
            case "nextitem" -> {
                Object following = peek();
                yield following == null ? new Undefined("there is no next item") : following;
            }
            case "cycle", "changed" -> new Values.Method(this, name);
            default -> null;
        };
    }

    Object cycle(List<Object> choices) {
        if (choices.isEmpty()) {
            throw new JinjaException("loop.cycle() needs items");
        }
        return choices.get((int) (index0 % choices.size()));
    }

    boolean changed(List<Object> value, Budget budget) {
        boolean changed = lastChanged == null || !Values.equal(lastChanged, value, budget);
        lastChanged = value;
        return changed;
    }
}
