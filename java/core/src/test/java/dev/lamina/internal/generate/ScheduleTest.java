package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.FastDisk;
import dev.lamina.internal.checkpoint.SafetensorsFiles;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.stream.Extent;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Panels of a shard set over several drives. */
class ScheduleTest {
    @TempDir(factory = FastDisk.class)
    private Path temporary;

    /** A panel's rows of one matrix, and their bytes. */
    private record Piece(Schedule.Slice slice, Extent extent) {
        long bytes() {
            return slice.rows() * slice.rowBytes();
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"1,1", "3,1", "1,2,1"})
    void allDrivesAreReadInProportionEverywhere(String rates) throws IOException {
        for (var fixture : Fixture.find(List.of("llama32_tied", "mistral_swa"))) {
            var folders = ModesTest.split(fixture.directory(), temporary.resolve(fixture.toString()),
                    Stream.of(rates.split(",")).map(Long::valueOf).toList());
            var set = Checkpoint.open(folders);
            var program = Architectures.program(ModelConfig.load(folders.getFirst()), set);
            var numbers = new HashMap<Path, Integer>();
            set.files().forEach(file -> numbers.put(file, numbers.size()));
            boolean interleaved = false;
            for (long panel : new long[] {1, 700, 3000, 1 << 20}) {
                var schedule = Schedule.of(program, set, numbers, panel, new int[program.stages().size()]);
                for (var matrix : matrices(schedule).entrySet()) {
                    interleaved |= check(set, matrix.getKey(), matrix.getValue());
                }
            }
            assertTrue(interleaved, "nothing was cut");
        }
    }

    /** The pieces of each weight, in the order of reading. */
    private static Map<Op.Linear, List<Piece>> matrices(Schedule schedule) {
        var matrices = new HashMap<Op.Linear, List<Piece>>();
        for (var panel : schedule.panels()) {
            for (int i = panel.firstOp(); i < panel.firstOp() + panel.opCount(); i++) {
                var op = schedule.ops().get(i);
                if (op.op() instanceof Op.Linear linear) {
                    matrices.computeIfAbsent(linear, weight -> new ArrayList<>())
                            .add(new Piece(op.slice(), panel.extent()));
                }
            }
        }
        return matrices;
    }

    /** Whether there were several parts to take turns. */
    private static boolean check(Checkpoint set, Op.Linear linear, List<Piece> pieces) throws IOException {
        var tensor = set.tensor(linear.matrix().tensor());
        var content = SafetensorsFiles.content(tensor);
        var seen = new boolean[linear.out().width()];
        var total = new HashMap<Integer, Long>();
        var largest = new HashMap<Integer, Long>();
        pieces.forEach(piece -> {
            total.merge(piece.extent.file(), piece.bytes(), Long::sum);
            largest.merge(piece.extent.file(), piece.bytes(), Math::max);
        });
        assertEquals(tensor.parts().size(), total.size());
        var done = new HashMap<Integer, Long>();
        for (var piece : pieces) {
            var slice = piece.slice;
            for (int row = slice.firstRow(); row < slice.firstRow() + slice.rows(); row++) {
                assertTrue(!seen[row], "row " + row + " twice");
                seen[row] = true;
            }
            var bytes = ByteBuffer.allocate(Math.toIntExact(piece.bytes()));
            try (var file = FileChannel.open(set.files().get(piece.extent.file()))) {
                while (bytes.hasRemaining()
                        && file.read(bytes, piece.extent.offset() + slice.offset() + bytes.position()) > 0) {
                    continue;
                }
            }
            int from = Math.toIntExact(slice.firstRow() * slice.rowBytes());
            assertArrayEquals(Arrays.copyOfRange(content, from, from + bytes.capacity()), bytes.array());
            done.merge(piece.extent.file(), piece.bytes(), Long::sum);
            for (int a : total.keySet()) {
                for (int b : total.keySet()) {
                    // no drive is further ahead of another than half a panel of each
                    double ahead = (double) done.getOrDefault(a, 0L) / total.get(a)
                            - (double) done.getOrDefault(b, 0L) / total.get(b);
                    double most = 0.5 * largest.get(a) / total.get(a) + 0.5 * largest.get(b) / total.get(b);
                    assertTrue(a == b || ahead <= most + 1e-9, linear.matrix().tensor() + ": " + done + " of " + total);
                }
            }
        }
        for (boolean row : seen) {
            assertTrue(row);
        }
        return total.size() > 1 && pieces.size() > total.size();
    }
}
