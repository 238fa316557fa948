package dev.lamina.internal.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.SafetensorsLayout.Entry;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import java.util.zip.CRC32C;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Shard sets over several folders, sound ones and hostile ones. */
class StripesTest {
    @TempDir(factory = FastDisk.class)
    Path folder;

    private static Entry matrix(String name, long rows) {
        return new Entry(name, DType.U8, List.of(rows, 3L));
    }

    /** Writes a folder with one shard, the bytes of which all have the value of the index. */
    private Path write(String name, ShardManifest.Stripe stripe, Entry... entries) throws IOException {
        Path set = Files.createDirectories(folder.resolve(name));
        Path file = set.resolve("layer.000.safetensors");
        int index = stripe == null ? 0 : stripe.index();
        SafetensorsLayout layout = SafetensorsLayout.aligned(List.of(entries), 4096);
        byte[] content = Arrays.copyOf(layout.header(), Math.toIntExact(layout.fileBytes()));
        Arrays.fill(content, layout.headerBytes(), content.length, (byte) index);
        Files.write(file, content);
        ShardManifest.Shard shard = new ShardManifest.Shard("layer.000.safetensors", content.length,
                layout.headerBytes(), checksum(layout.header()), new int[] {checksum(content)});
        Files.write(set.resolve(ShardManifest.FILE_NAME), new ShardManifest("test",
                new ShardManifest.Source("org/" + name, "id", "config", List.of()), stripe,
                entries.length == 0 ? List.of() : List.of(shard)).encode());
        return set;
    }

    private static int checksum(byte[] bytes) {
        CRC32C checksum = new CRC32C();
        checksum.update(bytes);
        return (int) checksum.getValue();
    }

    private static ShardManifest.Stripe stripe(int index, int count) {
        return new ShardManifest.Stripe(index, count, "set");
    }

    private String refusal(Path... folders) {
        String message = assertThrows(LaminaException.class, () -> Checkpoint.open(List.of(folders))).getMessage();
        assertEquals(1, message.lines().count(), message);
        return message;
    }

    @Test
    void tensorsAreTheRowsOfAllFoldersInOrder() throws IOException {
        Path a = write("a", stripe(0, 3), matrix("w", 2), new Entry("norm", DType.U8, List.of(5L)));
        Path b = write("b", stripe(1, 3), matrix("w", 1));
        Path c = write("c", stripe(2, 3), matrix("other", 4), matrix("w", 4));
        for (List<Path> folders : List.of(List.of(a, b, c), List.of(c, a, b), List.of(b, c, a))) {
            Checkpoint set = Checkpoint.open(folders);
            assertEquals(List.of(a, b, c), set.folders());
            assertEquals(a, set.directory());
            Tensor w = set.tensor("w");
            assertEquals(List.of(7L, 3L), w.shape());
            assertEquals(21, w.bytes());
            assertEquals(List.of(0, 1, 2), w.parts().stream().map(part -> set.folder(part.file())).toList());
            assertArrayEquals(new byte[] {0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2},
                    SafetensorsFiles.content(w));
            assertThrows(IllegalStateException.class, w::offset);
            assertEquals(c.resolve("layer.000.safetensors"), set.tensor("other").file());
            assertEquals(3, set.files().size());
            for (Path file : set.files()) {
                assertArrayEquals(new int[] {checksum(Files.readAllBytes(file))}, set.checksums(file));
            }
        }
    }

    @Test
    void onePartIsNotTheSet() throws IOException {
        Path a = write("a", stripe(0, 2), matrix("w", 2));
        String message = assertThrows(LaminaException.class, () -> Checkpoint.open(a)).getMessage();
        assertTrue(message.contains(a + " is part 1 of 2 of a shard set; name all its folders: --shards"), message);
    }

    @Test
    void foldersThatAreNotTheSetAreNamed() throws IOException {
        Path a = write("a", stripe(0, 3), matrix("w", 2));
        Path b = write("b", stripe(1, 3), matrix("w", 2));
        Path again = write("again", stripe(1, 3), matrix("w", 2));
        Path whole = write("whole", null, matrix("w", 2));
        Path other = write("other", new ShardManifest.Stripe(2, 3, "another"), matrix("w", 2));
        Path begun = Files.createDirectory(folder.resolve("begun"));
        Files.writeString(begun.resolve(ShardManifest.FILE_NAME + DurableFiles.PARTIAL), "x");
        Path empty = Files.createDirectory(folder.resolve("empty"));
        assertTrue(refusal(a, b).contains("part 3 of the shard set in " + a + " is missing"));
        assertTrue(refusal(a, b, b).contains(b + " is named twice"));
        assertTrue(refusal(a, b, again).contains(b + " and " + again + " are both part 2 of 3"));
        assertTrue(refusal(a, b, whole).contains(whole + " holds all of a shard set"));
        assertTrue(refusal(a, b, other).contains(other + " (from org/other) and " + a + " are parts of different"));
        assertTrue(refusal(a, b, begun).contains(begun + " holds a split that was not finished"));
        assertTrue(refusal(a, b, empty).contains(empty + " holds no shard set"));
        assertTrue(refusal(a, b, folder.resolve("none")).contains("none does not exist"));
        assertTrue(refusal().contains("no folder"));
        assertTrue(refusal(a, write("few", stripe(1, 2), matrix("w", 2))).contains("different shard sets"));
        assertTrue(refusal(a, b, write("nothing", stripe(2, 3))).contains("lists no shards"));
    }

    @ParameterizedTest
    @CsvSource({"0, 0", "0, 1", "2, 2", "-1, 2", "0, -2", "0, 257", "0, 2147483647", "5, 3"})
    void placesThatCannotBeAreDamage(int index, int count) throws IOException {
        Path a = write("a", stripe(index, count), matrix("w", 2));
        Path b = write("b", stripe(1, 2), matrix("w", 2));
        assertTrue(refusal(a).contains("is damaged"));
        assertTrue(refusal(a, b).contains("is damaged"));
    }

    static Stream<List<Entry>> disagreements() {
        return Stream.of(
                List.of(matrix("w", 2), new Entry("w", DType.U8, List.of(2L, 4L))),
                List.of(matrix("w", 2), new Entry("w", DType.I8, List.of(2L, 3L))),
                List.of(matrix("w", 2), new Entry("w", DType.U8, List.of(2L, 3L, 1L))),
                List.of(matrix("w", 2), new Entry("w", DType.U8, List.of(6L))),
                List.of(new Entry("w", DType.U8, List.of(6L)), new Entry("w", DType.U8, List.of(6L))),
                List.of(new Entry("w", DType.U8, List.of()), new Entry("w", DType.U8, List.of())),
                List.of(matrix("w", 2), matrix("w", 0)),
                List.of(new Entry("w", DType.U8, List.of(2L, 0L)), new Entry("w", DType.U8, List.of(2L, 0L))));
    }

    @ParameterizedTest
    @MethodSource("disagreements")
    void stripesThatDoNotMakeOneTensorAreRefused(List<Entry> entries) throws IOException {
        Path a = write("a", stripe(0, 2), entries.get(0), matrix("more", 1));
        Path b = write("b", stripe(1, 2), entries.get(1), matrix("else", 1));
        String message = refusal(a, b);
        assertTrue(message.contains(b.toString()) && message.contains("'w'") && message.contains("split the model"),
                message);
    }

    @Test
    void sizesDoNotOverflow() {
        Tensor huge = new Tensor("w", DType.U8, List.of(Long.MAX_VALUE / 2, 2L), folder, 0, Long.MAX_VALUE - 1);
        assertThrows(IllegalArgumentException.class, () -> huge.append(huge));
    }

    @Test
    void rowsOfATensorAreThoseBytes() {
        Tensor tensor = new Tensor("w", DType.F32, List.of(5L, 2L, 3L), folder, 100, 120);
        assertEquals(new Tensor("w", DType.F32, List.of(2L, 2L, 3L), folder, 124, 48), tensor.rows(1, 2));
    }
}
