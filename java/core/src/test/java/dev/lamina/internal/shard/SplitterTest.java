package dev.lamina.internal.shard;

import static dev.lamina.internal.shard.SplitFixture.DELETE;
import static dev.lamina.internal.shard.SplitFixture.KEEP;
import static dev.lamina.internal.shard.SplitFixture.SILENT;
import static dev.lamina.internal.shard.SplitFixture.STAGES;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.SafetensorsFiles;
import dev.lamina.internal.checkpoint.ShardManifest;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.runtime.PageCache;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.zip.CRC32C;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

class SplitterTest {
    @TempDir
    Path folder;

    private Path model;
    private Path out;

    @BeforeEach
    void writeModel() throws IOException {
        model = SplitFixture.write(folder.resolve("model"), 1);
        out = folder.resolve("sets/out");
    }

    private SplitResult split(SplitOptions options) {
        return Splitter.split(model, List.of(out), STAGES, options, SILENT);
    }

    private String refusal(Path from, Path to, SplitOptions options) {
        String message = assertThrows(LaminaException.class,
                () -> Splitter.split(from, List.of(to), STAGES, options, SILENT)).getMessage();
        assertEquals(1, message.lines().count(), message);
        return message;
    }

    private static void flip(Path file, long position) throws IOException {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            ByteBuffer one = ByteBuffer.allocate(1);
            channel.read(one, position);
            channel.write(ByteBuffer.wrap(new byte[] {(byte) (one.get(0) ^ 4)}), position);
        }
    }

    /** But for the pages of its header, which is written last. */
    @Test
    @EnabledOnOs(OS.LINUX)
    void leavesNoWeightsInThePageCache() throws IOException {
        Path demo = folder.resolve("demo");
        Files.createDirectories(demo);
        Path weights = Files.copy(Path.of("../cli/src/main/resources/dev/lamina/cli/demo/model.safetensors"),
                demo.resolve("model.safetensors"));
        Files.writeString(demo.resolve("config.json"), "{}");
        Splitter.split(demo, List.of(out), checkpoint -> List.of(new StageTensors("all",
                checkpoint.tensors().stream().map(Tensor::name).toList())), KEEP, SILENT);
        Path shard = out.resolve("all.safetensors");
        assertTrue(Files.size(shard) > Files.size(weights) / 2);
        if (!Files.getFileStore(folder).type().equals("tmpfs")) { // whose files are in memory for good
            assertTrue(PageCache.residentBytes(shard) <= 64 << 10, PageCache.residentBytes(shard) + " bytes");
        }
    }

    @Test
    void keepsEveryTensorInTheOrderOfItsUse() throws IOException {
        SplitResult result = split(KEEP);
        SplitFixture.assertHolds(out, 1);
        assertFalse(result.alreadyComplete());
        assertEquals(Set.of("embedding.safetensors", "layer.000.safetensors", "layer.001.safetensors",
                "layer.002.safetensors", "layer.003.safetensors", "head.safetensors", "unused.safetensors",
                "lamina.manifest.json", "config.json", "tokenizer.json", "chat_template.jinja", "LICENSE"),
                SplitFixture.contents(out).keySet());
        Checkpoint set = Checkpoint.open(out);
        assertEquals(List.of("embed", "layers.0.norm", "layers.0.q", "layers.0.down"),
                set.tensors().stream().limit(4).map(Tensor::name).toList());
        assertEquals(List.of("norm"), set.tensors().stream()
                .filter(tensor -> tensor.file().endsWith("head.safetensors")).map(Tensor::name).toList());
        assertEquals(Set.of("inv_freq", "nothing"), new TreeSet<>(set.tensors().stream()
                .filter(tensor -> tensor.file().endsWith("unused.safetensors")).map(Tensor::name).toList()));
        for (Tensor tensor : set.tensors()) {
            assertEquals(0, tensor.offset() % 4096, tensor.name());
            assertEquals(0, Files.size(tensor.file()) % 4096, tensor.name());
        }
        assertArrayEquals(Files.readAllBytes(model.resolve("tokenizer.json")),
                Files.readAllBytes(out.resolve("tokenizer.json")));
    }

    @Test
    void givesTheChecksumOfEachMebibyte() throws IOException {
        split(KEEP);
        Checkpoint set = Checkpoint.open(out);
        for (Path file : set.files()) {
            byte[] content = Files.readAllBytes(file);
            int[] checksums = set.checksums(file);
            assertNotNull(checksums);
            assertEquals((content.length + (1 << 20) - 1) >> 20, checksums.length);
            for (int i = 0; i < checksums.length; i++) {
                CRC32C expected = new CRC32C();
                expected.update(content, i << 20, Math.min(1 << 20, content.length - (i << 20)));
                assertEquals((int) expected.getValue(), checksums[i], file + " " + i);
            }
        }
    }

    @Test
    void reportsProgressUpToTheTotal() {
        List<long[]> copied = new ArrayList<>();
        SplitResult result = Splitter.split(model, List.of(out), STAGES, KEEP, (phase, done, total) -> {
            assertEquals(SplitListener.Phase.COPY, phase);
            copied.add(new long[] {done, total});
        });
        assertEquals(0, copied.getFirst()[0]);
        assertEquals(result.copiedBytes(), copied.getLast()[0]);
        assertEquals(result.copiedBytes(), copied.getLast()[1]);
        assertEquals(SplitFixture.tensors(1).values().stream().flatMap(file -> file.values().stream())
                .mapToLong(content -> content.length).sum(), result.copiedBytes());
    }

    @Test
    void damageIsFoundAtOpenOrByVerification() throws IOException {
        split(KEEP);
        Path shard = out.resolve("embedding.safetensors");
        long payload = 4096 + (1 << 20) + 77;
        flip(shard, payload);
        flip(shard, payload + 3);
        assertEquals(List.of(new Verifier.Damage(shard, 1 << 20, 1)),
                Verifier.verify(Checkpoint.open(out), SILENT));
        flip(shard, payload);
        flip(shard, payload + 3);
        flip(shard, 4096 + 5);
        assertEquals(List.of(new Verifier.Damage(shard, 0, 1)), Verifier.verify(Checkpoint.open(out), SILENT));
        flip(shard, 4096 + 5);
        SplitFixture.assertHolds(out, 1);
        for (int position : new int[] {0, 7, 8, 40, 300, 4095}) {
            flip(shard, position);
            assertThrows(LaminaException.class, () -> Checkpoint.open(out), "byte " + position);
            flip(shard, position);
        }
        byte[] content = Files.readAllBytes(shard);
        Files.write(shard, Arrays.copyOf(content, content.length - 4096));
        assertThrows(LaminaException.class, () -> Checkpoint.open(out));
        Files.delete(shard);
        assertThrows(LaminaException.class, () -> Checkpoint.open(out));
    }

    @Test
    void unsplitCheckpointsCannotBeVerified() {
        Checkpoint unsplit = Checkpoint.open(model);
        assertTrue(assertThrows(LaminaException.class, () -> Verifier.verify(unsplit, SILENT)).getMessage()
                .contains("no checksums"));
    }

    @Test
    void saysThatASetIsComplete() throws IOException {
        split(KEEP);
        Map<String, byte[]> before = SplitFixture.contents(out);
        assertTrue(Splitter.split(model, List.of(out), checkpoint -> {
            throw new AssertionError("not needed");
        }, KEEP, SILENT).alreadyComplete());
        SplitFixture.assertSameContents(before, SplitFixture.contents(out));
    }

    @Test
    void twoModelsNeverShareAFolder() throws IOException {
        split(KEEP);
        Map<String, byte[]> before = SplitFixture.contents(out);
        Path fineTuned = SplitFixture.write(folder.resolve("tuned"), 2);
        assertTrue(refusal(fineTuned, out, KEEP).contains("another model"));
        Files.writeString(model.resolve("config.json"), "{\"model_type\":\"llama\",\"rope_theta\":1}");
        assertTrue(refusal(model, out, DELETE).contains("another model"));
        SplitFixture.assertSameContents(before, SplitFixture.contents(out));
        assertTrue(Files.exists(model.resolve("model-00001.safetensors")));
    }

    @Test
    void refusesFoldersThatAreNotItsOwn() throws IOException {
        Path other = Files.createDirectories(folder.resolve("other"));
        Files.writeString(other.resolve("thesis.txt"), "x");
        assertTrue(refusal(model, other, KEEP).contains("not empty"));
        assertTrue(refusal(model, model, KEEP).contains("in the model's folder"));
        assertTrue(refusal(model, model.resolve("shards"), KEEP).contains("in the model's folder"));
        assertTrue(refusal(model, model.resolve("new/../shards"), KEEP).contains("in the model's folder"));
        assertTrue(refusal(model, folder.resolve("new/../model"), KEEP).contains("in the model's folder"));
        assertTrue(refusal(model, folder, KEEP).contains("around it"));
        assertTrue(refusal(model, other.resolve("thesis.txt"), KEEP).contains("is a file"));
        Path link = Files.createSymbolicLink(folder.resolve("link"), model);
        assertTrue(refusal(model, link, KEEP).contains("in the model's folder"));
        assertTrue(refusal(folder.resolve("none"), out, KEEP).contains("does not exist"));
        split(KEEP);
        assertTrue(refusal(out, folder.resolve("again"), KEEP).contains("shard set already"));
        assertFalse(Files.exists(folder.resolve("new")));
        assertEquals(Set.of("thesis.txt"), SplitFixture.contents(other).keySet());
    }

    @Test
    void aBadModelLeavesNothingBehind() throws IOException {
        flip(model.resolve("model-00002.safetensors"), 12);
        refusal(model, out, KEEP);
        assertFalse(Files.exists(folder.resolve("sets")));
    }

    @Test
    void twoSplitsAtOnceAreRefused() throws IOException {
        boolean[] tried = new boolean[1];
        Splitter.split(model, List.of(out), STAGES, KEEP, (phase, done, total) -> {
            if (done > 0 && !tried[0]) {
                tried[0] = true;
                assertTrue(refusal(model, out, KEEP).contains("another split is writing"));
            }
        });
        assertTrue(tried[0]);
        SplitFixture.assertHolds(out, 1);
    }

    /** A disk with so much free space. */
    private static Splitter.Disk free(long bytes) {
        return new Splitter.Disk() {
            @Override
            public long usableBytes(Path existingFolder) {
                return bytes;
            }

            @Override
            public void beforeChange(Path file) {}
        };
    }

    @Test
    void needsTheModelOrOneOfItsFilesAsFreeSpace() throws IOException {
        List<Long> sizes = new ArrayList<>();
        for (String file : SplitFixture.tensors(1).keySet()) {
            sizes.add(Files.size(model.resolve(file)));
        }
        long all = sizes.stream().mapToLong(size -> size).sum();
        long largest = sizes.stream().mapToLong(size -> size).max().orElseThrow();
        String message = assertThrows(LaminaException.class,
                () -> Splitter.split(model, List.of(out), STAGES, KEEP, SILENT, free(all + (1 << 20)))).getMessage();
        assertTrue(message.contains("MiB of free space"), message);
        assertTrue(message.contains("--delete-original"), message);
        assertThrows(LaminaException.class,
                () -> Splitter.split(model, List.of(out), STAGES, DELETE, SILENT, free(largest)));
        assertFalse(Files.exists(folder.resolve("sets")));
        Splitter.split(model, List.of(out), STAGES, DELETE, SILENT, free(largest + (2 << 20)));
        SplitFixture.assertHolds(out, 1);
    }

    @Test
    void deletesTheOriginalFileByFile() throws IOException {
        assertEquals(3, split(DELETE).freed().size());
        SplitFixture.assertHolds(out, 1);
        assertFalse(SplitFixture.contents(model).keySet().stream().anyMatch(name -> name.endsWith(".safetensors")));
        assertTrue(Files.exists(model.resolve("config.json")));
        assertTrue(split(DELETE).alreadyComplete());
        assertTrue(split(KEEP).alreadyComplete());
    }

    @Test
    void anotherModelIsRecognisedWithoutTheOriginal() throws IOException {
        split(DELETE);
        Path fineTuned = SplitFixture.write(folder.resolve("tuned"), 2);
        assertTrue(refusal(fineTuned, out, KEEP).contains("another model"));
        Files.delete(fineTuned.resolve("model-00002.safetensors"));
        assertTrue(refusal(fineTuned, out, KEEP).contains("another model"));
    }

    @Test
    void deletesTheOriginalOfACompleteSetIfTheyAreEqual() throws IOException {
        split(KEEP);
        flip(out.resolve("layer.002.safetensors"), 8192 + 4096 + 9);
        assertTrue(refusal(model, out, DELETE).contains("differs from"));
        assertTrue(Files.exists(model.resolve("model-00002.safetensors")));
        flip(out.resolve("layer.002.safetensors"), 8192 + 4096 + 9);
        SplitResult result = split(DELETE);
        assertTrue(result.alreadyComplete());
        assertEquals(2, result.freed().size());
        assertFalse(Files.exists(model.resolve("model-00003.safetensors")));
        SplitFixture.assertHolds(out, 1);
    }

    /** Puts the weights where the hub's cache would put them, with one of them in a second snapshot too. */
    private Path hubCache() throws IOException {
        Path repository = folder.resolve("hub/models--org--tiny");
        Path blobs = Files.createDirectories(repository.resolve("blobs"));
        Path snapshot = Files.createDirectories(repository.resolve("snapshots/c1"));
        Path older = Files.createDirectories(repository.resolve("snapshots/c0"));
        for (String name : SplitFixture.contents(model).keySet()) {
            Files.move(model.resolve(name), blobs.resolve("etag-" + name));
            Files.createSymbolicLink(snapshot.resolve(name), Path.of("../../blobs/etag-" + name));
        }
        Files.createSymbolicLink(older.resolve("old.safetensors"), Path.of("../../blobs/etag-model-00002.safetensors"));
        return snapshot;
    }

    @Test
    void inAHubCacheItFreesTheBlobsThatNoOtherSnapshotUses() throws IOException {
        model = hubCache();
        Path blobs = model.resolve("../../blobs");
        SplitResult result = split(DELETE);
        SplitFixture.assertHolds(out, 1);
        assertEquals(List.of(model.resolve("model-00001.safetensors"), model.resolve("model-00003.safetensors")),
                result.freed());
        assertEquals(1, result.kept().size());
        assertTrue(result.kept().getFirst().contains("old.safetensors"), result.kept().getFirst());
        assertFalse(Files.exists(blobs.resolve("etag-model-00001.safetensors")));
        assertFalse(Files.isSymbolicLink(model.resolve("model-00001.safetensors")));
        assertTrue(Files.exists(blobs.resolve("etag-model-00002.safetensors")));
        assertTrue(Files.exists(model.resolve("model-00002.safetensors")));
        assertTrue(Files.exists(model.resolve("config.json")));
        ShardManifest manifest = Checkpoint.open(out).manifest();
        assertNotNull(manifest);
        assertEquals("org/tiny", manifest.source().name());
        assertTrue(split(DELETE).alreadyComplete());
    }

    @Test
    void linksElsewhereAreNotFollowedToDelete() throws IOException {
        Path elsewhere = folder.resolve("elsewhere.safetensors");
        Files.move(model.resolve("model-00001.safetensors"), elsewhere);
        Files.createSymbolicLink(model.resolve("model-00001.safetensors"), elsewhere);
        SplitResult result = split(DELETE);
        assertTrue(Files.exists(elsewhere));
        assertEquals(2, result.freed().size());
        assertTrue(result.kept().getFirst().contains("not in a hub cache"));
    }

    @Test
    void splitsARealModelFile() throws IOException {
        Path real = Path.of("src/test/resources/checkpoint/qwen2_tied");
        List<String> names = Checkpoint.open(real).tensors().stream().map(Tensor::name).sorted().toList();
        Splitter.split(real, List.of(out), checkpoint -> List.of(new StageTensors("all", names)), KEEP, SILENT);
        Checkpoint set = Checkpoint.open(out);
        for (Tensor tensor : Checkpoint.open(real).tensors()) {
            Tensor copy = set.tensor(tensor.name());
            assertEquals(tensor.dtype(), copy.dtype());
            assertEquals(tensor.shape(), copy.shape());
            assertArrayEquals(SafetensorsFiles.content(tensor), SafetensorsFiles.content(copy));
        }
        assertEquals(names, set.tensors().stream().map(Tensor::name).toList());
        assertEquals(List.of(), Verifier.verify(set, SILENT));
    }
}
