package dev.lamina.internal.shard;

import static dev.lamina.internal.shard.SplitFixture.DELETE;
import static dev.lamina.internal.shard.SplitFixture.KEEP;
import static dev.lamina.internal.shard.SplitFixture.SILENT;
import static dev.lamina.internal.shard.SplitFixture.STAGES;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.FastDisk;
import dev.lamina.internal.checkpoint.SafetensorsFiles;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.checkpoint.TorchFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What {@link SplitterTest} and {@link SplitFaultTest} show of safetensors files, of files of PyTorch. */
class TorchSplitTest {
    private static final String FIRST = "pytorch_model-00001.bin";
    private static final String SECOND = "pytorch_model-00002.bin";

    private static final class Killed extends Error {
        private static final long serialVersionUID = 1L;
    }

    @TempDir(factory = FastDisk.class)
    Path folder;

    private Path model;
    private Path out;

    @BeforeEach
    void writeModel() throws IOException {
        model = write(folder.resolve("model"), 1);
        out = folder.resolve("out");
    }

    /** The same model as {@link SplitFixture#write} makes. */
    private static Path write(Path folder, long seed) throws IOException {
        SplitFixture.write(folder, seed);
        addTorch(folder, seed);
        for (Path file : files(folder, ".safetensors")) {
            Files.delete(file);
        }
        Files.delete(folder.resolve(Checkpoint.INDEX_FILE_NAME));
        return folder;
    }

    private static void addTorch(Path folder, long seed) throws IOException {
        Map<String, Map<String, byte[]>> files = new LinkedHashMap<>();
        SplitFixture.tensors(seed).forEach((name, tensors) -> files.put(
                name.replace("model", "pytorch_model").replace(".safetensors", ".bin"), tensors));
        TorchFiles.writeIndexed(folder, files);
    }

    private static List<Path> files(Path folder, String extension) throws IOException {
        try (Stream<Path> entries = Files.list(folder)) {
            return entries.filter(file -> file.toString().endsWith(extension)).sorted().toList();
        }
    }

    private SplitResult split(SplitOptions options) {
        return Splitter.split(model, List.of(out), STAGES, options, SILENT);
    }

    private String refusal(SplitOptions options) {
        return assertThrows(LaminaException.class, () -> split(options)).getMessage();
    }

    /** A disk at one of the changes of which the process is killed. */
    private static Splitter.Disk killing(int change) {
        int[] left = {change};
        return new Splitter.Disk() {
            @Override
            public long usableBytes(Path existingFolder) {
                return Long.MAX_VALUE;
            }

            @Override
            public void beforeChange(Path file) {
                if (left[0]-- == 0) {
                    throw new Killed();
                }
            }
        };
    }

    private static void flip(Path file, long position) throws IOException {
        byte[] content = Files.readAllBytes(file);
        content[Math.toIntExact(position)] ^= 4;
        Files.write(file, content);
    }

    @Test
    void makesTheShardsThatSafetensorsMake() throws IOException {
        split(KEEP);
        SplitFixture.assertHolds(out, 1);
        Path other = folder.resolve("other");
        Splitter.split(SplitFixture.write(folder.resolve("safetensors"), 1), List.of(other), STAGES, KEEP, SILENT);
        Map<String, byte[]> expected = SplitFixture.contents(other);
        Map<String, byte[]> actual = SplitFixture.contents(out);
        expected.remove("lamina.manifest.json"); // which names the source
        actual.remove("lamina.manifest.json");
        SplitFixture.assertSameContents(expected, actual);
        assertTrue(split(KEEP).alreadyComplete());
        assertEquals(3, files(model, ".bin").size());
    }

    @Test
    void deletesTheOriginalFileByFile() throws IOException {
        List<Path> originals = files(model, ".bin");
        assertEquals(originals, split(DELETE).freed());
        SplitFixture.assertHolds(out, 1);
        assertEquals(List.of(), files(model, ".bin"));
        assertTrue(split(DELETE).alreadyComplete());
    }

    @Test
    void deletesTheOriginalOfACompleteSetIfTheyAreEqual() throws IOException {
        split(KEEP);
        flip(out.resolve("layer.002.safetensors"), 8192 + 4096 + 9);
        assertTrue(refusal(DELETE).contains("differs from"));
        assertTrue(Files.exists(model.resolve(SECOND)));
        flip(out.resolve("layer.002.safetensors"), 8192 + 4096 + 9);
        assertTrue(split(DELETE).alreadyComplete());
        assertEquals(List.of(), files(model, ".bin"));
        SplitFixture.assertHolds(out, 1);
    }

    @Test
    void verifiesTheChecksumsOfTheOriginal() throws IOException {
        Checkpoint checkpoint = Checkpoint.open(model);
        assertTrue(Verifier.hasChecksums(checkpoint));
        List<long[]> read = new ArrayList<>();
        assertEquals(List.of(),
                Verifier.verify(checkpoint, (phase, done, total) -> read.add(new long[] {done, total})));
        assertEquals(read.getLast()[1], read.getLast()[0]);
        assertTrue(read.getLast()[0] > checkpoint.tensors().stream().mapToLong(Tensor::bytes).sum());
        Tensor embed = checkpoint.tensor("embed");
        Tensor down = checkpoint.tensor("layers.0.down");
        assertEquals(embed.file(), down.file());
        flip(embed.file(), embed.offset() + embed.bytes() - 1);
        flip(embed.file(), embed.offset());
        assertEquals(List.of(new Verifier.Damage(embed.file(), embed.offset(), 1)),
                Verifier.verify(checkpoint, SILENT));
        flip(down.file(), down.offset() + 4096);
        flip(checkpoint.tensor("norm").file(), checkpoint.tensor("norm").offset() + 3);
        assertEquals(List.of(new Verifier.Damage(embed.file(), embed.offset(), 2),
                        new Verifier.Damage(checkpoint.tensor("norm").file(), checkpoint.tensor("norm").offset(), 1)),
                Verifier.verify(checkpoint, SILENT));
        assertFalse(Verifier.hasChecksums(Checkpoint.open(SplitFixture.write(folder.resolve("safetensors"), 1))));
    }

    @Test
    void keepsAFileThatHoldsMoreThanTheModel() throws IOException {
        Path second = model.resolve(SECOND);
        TorchFiles.writeWithNumber(second, SplitFixture.tensors(1).get("model-00002.safetensors"), "global_step");
        SplitResult result = split(DELETE);
        SplitFixture.assertHolds(out, 1);
        assertEquals(List.of(second), files(model, ".bin"));
        assertEquals(2, result.freed().size());
        assertEquals(List.of(second + " also holds 'global_step', which is no weight of the model"), result.kept());
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void goesOnAfterAKill(boolean deleteOriginal) throws IOException {
        SplitOptions options = new SplitOptions(deleteOriginal);
        boolean finished = false;
        for (int change = 0; !finished; change += 3) {
            assertTrue(change < 500);
            model = write(folder.resolve("model" + change), 1);
            out = folder.resolve("out" + change);
            try {
                Splitter.split(model, List.of(out), STAGES, options, SILENT, killing(change));
                finished = true;
            } catch (Killed e) {
                split(options);
            }
            SplitFixture.assertHolds(out, 1);
            assertEquals(deleteOriginal ? 0 : 3, files(model, ".bin").size());
            for (Path tree : List.of(model, out)) {
                try (Stream<Path> entries = Files.list(tree)) {
                    for (Path entry : entries.toList()) {
                        Files.delete(entry);
                    }
                }
            }
        }
    }

    @Test
    void noticesThatTheOriginalChangedMeanwhile() throws IOException {
        assertThrows(Killed.class, () -> Splitter.split(model, List.of(out), STAGES, KEEP, SILENT, killing(12)));
        addTorch(model, 2);
        assertTrue(refusal(KEEP).contains("another model"));
        addTorch(model, 1);
        split(KEEP);
        SplitFixture.assertHolds(out, 1);
    }

    @Test
    void onlyTheFormatThatWasReadIsDeleted() throws IOException {
        model = SplitFixture.write(folder.resolve("both"), 1);
        addTorch(model, 1);
        split(DELETE);
        SplitFixture.assertHolds(out, 1);
        assertEquals(List.of(), files(model, ".safetensors"));
        assertEquals(3, files(model, ".bin").size());
        // what is left in the other format does not make it another model
        Splitter.checkSameModel(model, List.of(out));
        assertTrue(split(KEEP).alreadyComplete());
        Files.writeString(model.resolve("config.json"), "{\"model_type\":\"llama\",\"rope_theta\":1}");
        assertThrows(LaminaException.class, () -> Splitter.checkSameModel(model, List.of(out)));
    }

    @Test
    void anotherModelIsRecognised() throws IOException {
        split(DELETE);
        model = write(folder.resolve("tuned"), 2);
        assertTrue(refusal(KEEP).contains("another model"));
        Files.delete(model.resolve(FIRST));
        assertTrue(refusal(KEEP).contains("another model"));
    }

    @Test
    void tiedTensorsAreWrittenWhole() throws IOException {
        byte[] content = new byte[5000];
        new Random(5).nextBytes(content);
        TorchFiles.writeTied(folder.resolve("model/pytorch_model.bin"), List.of("embed", "head"), content);
        Splitter.split(model, List.of(out), checkpoint -> List.of(new StageTensors("all", List.of("embed"))), DELETE,
                SILENT);
        Checkpoint set = Checkpoint.open(out);
        for (String name : List.of("embed", "head")) {
            assertArrayEquals(content, SafetensorsFiles.content(set.tensor(name)), name);
        }
        assertFalse(Files.exists(model.resolve("pytorch_model.bin")));
        assertTrue(Files.exists(model.resolve(FIRST))); // which was not read
    }
}
