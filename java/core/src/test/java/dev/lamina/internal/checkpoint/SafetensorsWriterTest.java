package dev.lamina.internal.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SafetensorsWriterTest {
    private static final SafetensorsLayout LAYOUT = SafetensorsLayout.packed(List.of(
            new SafetensorsLayout.Entry("logits.0", DType.U8, List.of(2L, 3L)),
            new SafetensorsLayout.Entry("logits.1", DType.U8, List.of(4L))));

    @TempDir
    Path folder;

    private List<String> names() throws IOException {
        try (Stream<Path> entries = Files.list(folder)) {
            return entries.map(entry -> entry.getFileName().toString()).toList();
        }
    }

    @Test
    void partsComeInAnyOrder() throws IOException {
        Path target = folder.resolve("x.safetensors");
        Files.writeString(target, "an older file");
        try (SafetensorsWriter writer = SafetensorsWriter.create(target, LAYOUT)) {
            writer.write(1, 0, ByteBuffer.wrap(new byte[] {7, 8, 9, 10}));
            writer.write(0, 2, ByteBuffer.wrap(new byte[] {3, 4, 5, 6}));
            writer.write(0, 0, ByteBuffer.wrap(new byte[] {1, 2}));
            assertEquals("an older file", Files.readString(target));
            writer.commit();
        }
        assertEquals(List.of("x.safetensors"), names());
        Checkpoint checkpoint = Checkpoint.open(folder);
        assertArrayEquals(new byte[] {1, 2, 3, 4, 5, 6}, SafetensorsFiles.content(checkpoint.tensor("logits.0")));
        assertArrayEquals(new byte[] {7, 8, 9, 10}, SafetensorsFiles.content(checkpoint.tensor("logits.1")));
    }

    @Test
    void leavesNothingWithoutCommit() throws IOException {
        try (SafetensorsWriter writer = SafetensorsWriter.create(folder.resolve("x.safetensors"), LAYOUT)) {
            writer.write(0, 0, ByteBuffer.wrap(new byte[] {1, 2}));
            assertThrows(IllegalStateException.class, writer::commit);
        }
        assertEquals(List.of(), names());
    }

    @Test
    void refusesBytesOutsideOfATensor() throws IOException {
        try (SafetensorsWriter writer = SafetensorsWriter.create(folder.resolve("x.safetensors"), LAYOUT)) {
            assertThrows(IllegalArgumentException.class, () -> writer.write(0, 5, ByteBuffer.wrap(new byte[2])));
            assertThrows(IllegalArgumentException.class, () -> writer.write(0, -1, ByteBuffer.wrap(new byte[2])));
            assertThrows(IllegalArgumentException.class, () -> writer.write(1, 0, ByteBuffer.wrap(new byte[5])));
        }
    }

    @Test
    void refusesReservedAndRepeatedNames() {
        var entry = new SafetensorsLayout.Entry("a", DType.U8, List.of(1L));
        assertThrows(IllegalArgumentException.class, () -> SafetensorsLayout.packed(List.of(entry, entry)));
        var filler = new SafetensorsLayout.Entry("lamina.padding.0", DType.U8, List.of(1L));
        assertThrows(IllegalArgumentException.class, () -> SafetensorsLayout.packed(List.of(filler)));
    }

    @Test
    void leavesFilesOfOthersAlone() throws IOException {
        Path target = folder.resolve("x.safetensors");
        Path other = folder.resolve("x.safetensors.partial");
        Files.writeString(other, "somebody else's");
        SafetensorsWriter.create(target, LAYOUT).close();
        assertEquals("somebody else's", Files.readString(other));
        try (var first = SafetensorsWriter.create(target, LAYOUT); var second = SafetensorsWriter.create(target, LAYOUT);
                var names = Files.list(folder)) {
            assertEquals(3, names.count(), "two writers of one target do not share a file: " + first + second);
        }
    }
}
