package dev.lamina.internal.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import dev.lamina.LaminaException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CheckpointTest {
    @TempDir
    Path folder;

    private void assertRefused(String reason) {
        String message = assertThrows(LaminaException.class, () -> Checkpoint.open(folder)).getMessage();
        assertTrue(message.contains(reason), message);
        assertEquals(1, message.lines().count(), message);
    }

    private void twoFiles() throws IOException {
        SafetensorsFiles.writeIndexed(folder, Map.of(
                "m-1.safetensors", Map.of("a", new byte[] {1, 2}),
                "m-2.safetensors", Map.of("b", new byte[] {3}, "c", new byte[0])));
    }

    @Test
    void opensSeveralFilesByTheirIndex() throws IOException {
        twoFiles();
        Checkpoint checkpoint = Checkpoint.open(folder);
        assertEquals(3, checkpoint.tensors().size());
        assertEquals(List.of(folder.resolve("m-1.safetensors"), folder.resolve("m-2.safetensors")),
                checkpoint.files());
        assertArrayEquals(new byte[] {3}, SafetensorsFiles.content(checkpoint.tensor("b")));
        assertNull(checkpoint.find("d"));
        assertNull(checkpoint.manifest());
        assertNull(checkpoint.checksums(checkpoint.files().getFirst()));
        assertTrue(assertThrows(LaminaException.class, () -> checkpoint.tensor("d")).getMessage().contains("'d'"));
    }

    @Test
    void prefersTheSingleFile() throws IOException {
        twoFiles();
        SafetensorsFiles.write(folder.resolve("model.safetensors"), Map.of("x", new byte[1]));
        assertEquals(1, Checkpoint.open(folder).tensors().size());
    }

    @Test
    void opensTheOnlySafetensorsFileThroughALink() throws IOException {
        Path blob = folder.resolve("blob");
        SafetensorsFiles.write(blob, Map.of("x", new byte[] {4}));
        Path snapshot = Files.createDirectories(folder.resolve("snapshots/1"));
        Files.createSymbolicLink(snapshot.resolve("weights.safetensors"), Path.of("../../blob"));
        Checkpoint checkpoint = Checkpoint.open(snapshot);
        assertArrayEquals(new byte[] {4}, SafetensorsFiles.content(checkpoint.tensor("x")));
        Files.delete(blob);
        assertTrue(assertThrows(LaminaException.class, () -> Checkpoint.open(snapshot)).getMessage()
                .contains("link to a file that is not there"));
    }

    @Test
    void refusesAMissingFile() throws IOException {
        twoFiles();
        Files.delete(folder.resolve("m-2.safetensors"));
        assertRefused("m-2.safetensors does not exist");
    }

    @Test
    void refusesATensorThatItsFileDoesNotHold() throws IOException {
        twoFiles();
        SafetensorsFiles.write(folder.resolve("m-1.safetensors"), Map.of("z", new byte[1]));
        assertRefused("'a'");
    }

    @Test
    void refusesATensorInTwoFiles() throws IOException {
        twoFiles();
        SafetensorsFiles.write(folder.resolve("m-2.safetensors"),
                Map.of("a", new byte[2], "b", new byte[1], "c", new byte[0]));
        assertRefused("tensor 'a' is in");
    }

    private void twoTorchFiles() throws IOException {
        TorchFiles.writeIndexed(folder, Map.of(
                "pytorch_model-00001-of-00002.bin", Map.of("a", new byte[] {1, 2}),
                "pytorch_model-00002-of-00002.bin", Map.of("b", new byte[] {3}, "c", new byte[0])));
    }

    @Test
    void opensFilesOfPyTorchByTheirIndex() throws IOException {
        twoTorchFiles();
        Checkpoint checkpoint = Checkpoint.open(folder);
        assertEquals(Set.of("a", "b", "c"),
                checkpoint.tensors().stream().map(Tensor::name).collect(Collectors.toSet()));
        assertEquals(List.of(folder.resolve("pytorch_model-00001-of-00002.bin"),
                folder.resolve("pytorch_model-00002-of-00002.bin")), checkpoint.files());
        assertArrayEquals(new byte[] {1, 2}, SafetensorsFiles.content(checkpoint.tensor("a")));
        Files.delete(folder.resolve("pytorch_model-00002-of-00002.bin"));
        assertRefused("pytorch_model-00002-of-00002.bin does not exist");
    }

    /** transformers, too, looks for safetensors first, and for a single file before several. */
    @Test
    void prefersSafetensorsAndSingleFiles() throws IOException {
        twoTorchFiles();
        Files.writeString(folder.resolve("adapter.safetensors"), "x");
        assertEquals(3, Checkpoint.open(folder).tensors().size());
        TorchFiles.write(folder.resolve("pytorch_model.bin"), Map.of("p", new byte[1]));
        assertEquals("p", Checkpoint.open(folder).tensors().iterator().next().name());
        twoFiles();
        assertEquals(folder.resolve("m-1.safetensors"), Checkpoint.open(folder).files().getFirst());
        SafetensorsFiles.write(folder.resolve("model.safetensors"), Map.of("s", new byte[1]));
        assertEquals("s", Checkpoint.open(folder).tensors().iterator().next().name());
    }

    @ParameterizedTest
    @ValueSource(strings = {"../m.bin", "/etc/passwd", "sub/m.bin"})
    void refusesFilesOfPyTorchOutsideOfTheFolder(String file) throws IOException {
        Files.writeString(folder.resolve("pytorch_model.bin.index.json"), "{\"weight_map\":{\"a\":\"" + file + "\"}}");
        assertRefused("not in the model's folder");
    }

    @ParameterizedTest
    @ValueSource(strings = {"../m.safetensors", "/etc/passwd", "..", "sub/m.safetensors", "a\\\\b", "", "a\\u0000b"})
    void refusesFilesOutsideOfTheFolder(String file) throws IOException {
        Files.writeString(folder.resolve(Checkpoint.INDEX_FILE_NAME), "{\"weight_map\":{\"a\":\"" + file + "\"}}");
        assertRefused("not in the model's folder");
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "{}", "{\"weight_map\":{}}", "{\"weight_map\":[]}", "{\"weight_map\":{}} x",
        "{\"weight_map\":{\"a\":1}}", "{\"weight_map\":{\"a\":\"m\",\"a\":\"m\"}}", "{\"weight_map\":{\"a\":\"m\"",
        "{\"weight_map\":{\"a\":\"m\"},\"weight_map\":{\"a\":\"m\"}}"})
    void refusesADamagedIndex(String text) throws IOException {
        Files.writeString(folder.resolve(Checkpoint.INDEX_FILE_NAME), text);
        assertRefused("download it again");
    }

    @Test
    void refusesAnIndexThatIsNotUtf8() throws IOException {
        Files.write(folder.resolve(Checkpoint.INDEX_FILE_NAME),
                "{\"weight_map\":{\"\u00e4\":\"m\"}}".getBytes(StandardCharsets.ISO_8859_1));
        assertRefused("not valid");
    }

    @Test
    void saysWhatElseIsThere() throws IOException {
        assertRefused("holds no weights");
        Files.writeString(folder.resolve("training_args.bin"), "x");
        assertRefused("neither pytorch_model.bin nor pytorch_model.bin.index.json");
        Files.writeString(folder.resolve("a.safetensors"), "x");
        Files.writeString(folder.resolve("b.safetensors"), "x");
        assertRefused("no model.safetensors.index.json");
        Files.writeString(folder.resolve(ShardManifest.FILE_NAME + ".partial"), "x");
        assertRefused("not finished");
    }

    @Test
    void refusesMissingFoldersAndFiles() throws IOException {
        Path file = Files.writeString(folder.resolve("f"), "x");
        assertTrue(assertThrows(LaminaException.class, () -> Checkpoint.open(file)).getMessage().contains("is a file"));
        assertTrue(assertThrows(LaminaException.class, () -> Checkpoint.open(folder.resolve("none"))).getMessage()
                .contains("does not exist"));
    }

    @Test
    void saysWhenThereIsNoPermission() throws IOException {
        SafetensorsFiles.write(folder.resolve("model.safetensors"), Map.of("x", new byte[1]));
        Files.setPosixFilePermissions(folder.resolve("model.safetensors"), Set.of());
        // root may read everything
        assumeFalse(Files.isReadable(folder.resolve("model.safetensors")));
        assertRefused("no permission");
    }

    @Test
    void hidesFillers() throws IOException {
        SafetensorsFiles.write(folder.resolve("model.safetensors"),
                Map.of("x", new byte[1], "lamina.padding.0", new byte[3]));
        assertEquals(List.of("x"), Checkpoint.open(folder).tensors().stream().map(Tensor::name).toList());
    }
}
