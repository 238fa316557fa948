package dev.lamina.internal.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.lamina.LaminaException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class StepTest {
    private static final int WIDTH = 8; // of queries, keys, values and what comes out: one head
    private static final int CAPACITY = 8;

    /** A row: which token it is, and where. */
    private record Row(int token, int position, int... places) {}

    /** Two tokens, two alternatives for the third, and one token behind each of them. */
    private static final List<Row> TREE = List.of(new Row(0, 0), new Row(1, 1), new Row(2, 2), new Row(3, 2, 7),
            new Row(4, 3, 5), new Row(5, 3, 3, 7));

    @ParameterizedTest
    @ValueSource(strings = {"cpu", "cuda-emulated"})
    void alternativesHaveTheBitsOfSequencesOfTheirOwn(String name) {
        try (var device = open(name);
                var queue = device.openQueue();
                var arena = Arena.ofConfined()) {
            var memory = device.allocateOnDevice((long) Float.BYTES * 4 * TREE.size() * WIDTH);
            try (var step = new Step(TREE.size(), 1, 1, 3, memory, arena.allocate(1))) {
                var tree = attend(device, queue, step, memory, TREE);
                for (var path : List.of(new int[] {0, 1, 2, 4}, new int[] {0, 1, 3, 5})) {
                    var rows = Arrays.stream(path).mapToObj(i -> new Row(i, TREE.get(i).position)).toList();
                    var plain = attend(device, queue, step, memory, rows);
                    for (int i = 0; i < path.length; i++) {
                        assertArrayEquals(plain[i], tree[path[i]], "token " + path[i]);
                    }
                }
                assertFalse(Arrays.equals(tree[2], tree[3]));
            } finally {
                device.freeOnDevice(memory);
            }
        }
    }

    @Test
    void aRowHasNoMorePlacesThanTheStepHasRoomFor() {
        try (var arena = Arena.ofConfined();
                var step = new Step(1, 1, 1, 2, arena.allocate(1), arena.allocate(1))) {
            step.clear();
            assertThrows(IllegalArgumentException.class, () -> step.addRow(0, 2, false, new int[] {2, 1, 0}));
        }
    }

    private static Device open(String name) {
        try {
            return Device.open(name, 1, false);
        } catch (LaminaException e) {
            Assumptions.assumeFalse(String.valueOf(e.getMessage()).contains("this build has no"), e.getMessage());
            throw e;
        }
    }

    /** Stores rows in a KV cache of their own and attends to them: (rows, WIDTH). */
    private static float[][] attend(Device device, Queue queue, Step step, MemorySegment memory, List<Row> rows) {
        var layout = new KvLayout(List.of(new KvLayout.Layer(1, WIDTH, WIDTH)), false);
        try (var arena = Arena.ofConfined();
                var cache = device.createKv(layout, CAPACITY, 0);
                var ops = new OpArray(2)) {
            var host = arena.allocate(memory.byteSize(), Float.BYTES);
            step.clear();
            int sequence = step.addSequence(cache);
            var views = new View[4]; // queries, keys, values, what comes out
            for (int i = 0; i < views.length; i++) {
                views[i] = new View((long) i * rows.size() * WIDTH, WIDTH, WIDTH);
            }
            for (int r = 0; r < rows.size(); r++) {
                var row = rows.get(r);
                step.addRow(sequence, row.position, false, row.places);
                var random = new Random(row.token);
                for (int i = 0; i < 3 * WIDTH; i++) {
                    host.setAtIndex(ValueLayout.JAVA_FLOAT, views[i / WIDTH].offset() + r * WIDTH + i % WIDTH,
                            random.nextFloat());
                }
            }
            ops.kvStore(0, views[1], views[2], 0);
            ops.attention(1, views[3], views[0], 0, 1, WIDTH,
                    new OpArray.Attending(1, 0, 0, 0, OpArray.AttentionKind.PLAIN, null));
            queue.copyToDevice(memory, host);
            queue.submit(ops, 0, 2, step);
            queue.await(queue.copyToHost(host, memory));
            var out = new float[rows.size()][WIDTH];
            for (int r = 0; r < out.length; r++) {
                MemorySegment.copy(host, ValueLayout.JAVA_FLOAT, Float.BYTES * (views[3].offset() + r * WIDTH), out[r],
                        0, WIDTH);
            }
            return out;
        }
    }
}
