package dev.lamina.internal.model;

import dev.lamina.internal.checkpoint.Checkpoint;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;

/**
 * Tensors of a checkpoint that a program leaves alone, such as an encoder of images, or numbers that follow from the
 * configuration.
 *
 * @param count how many
 * @param bytes of all
 * @param names what their names begin with: up to the dot where these differ from those that are used
 */
public record UnusedTensors(int count, long bytes, List<String> names) {
    private static final int MOST_NAMES = 3;

    /** Copies the list. */
    public UnusedTensors {
        names = List.copyOf(names);
    }

    /** Finds them. */
    public static UnusedTensors of(Program program, Checkpoint checkpoint) {
        var used = new HashSet<String>();
        var beginnings = new HashSet<String>();
        for (var stage : program.stages()) {
            for (var name : stage.tensors()) {
                used.add(name);
                for (int dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
                    beginnings.add(name.substring(0, dot));
                }
            }
        }
        int count = 0;
        long bytes = 0;
        var names = new LinkedHashSet<String>();
        for (var tensor : checkpoint.tensors()) {
            if (!used.contains(tensor.name())) {
                count++;
                bytes += tensor.bytes();
                names.add(beginning(tensor.name(), beginnings));
            }
        }
        return new UnusedTensors(count, bytes, new ArrayList<>(names));
    }

    private static String beginning(String name, HashSet<String> known) {
        for (int dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
            if (!known.contains(name.substring(0, dot))) {
                return name.substring(0, dot);
            }
        }
        return name;
    }

    /** Whether there are none. */
    public boolean isEmpty() {
        return count == 0;
    }

    /** The names of a few, for messages. */
    public String examples() {
        var few = String.join(", ", names.subList(0, Math.min(MOST_NAMES, names.size())));
        return names.size() > MOST_NAMES ? few + " and others" : few;
    }
}
