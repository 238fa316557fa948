package dev.lamina.internal.shard;

import static dev.lamina.internal.shard.SplitFixture.SILENT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.FastDisk;
import dev.lamina.internal.checkpoint.SafetensorsFiles;
import dev.lamina.internal.checkpoint.SafetensorsLayout;
import dev.lamina.internal.checkpoint.SafetensorsWriter;
import dev.lamina.internal.checkpoint.ShardManifest;
import dev.lamina.internal.checkpoint.Tensor;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Splits over folders on several drives. */
class StripedSplitTest {
    private static final int LAYERS = 2;
    private static final Function<Checkpoint, List<StageTensors>> STAGES = checkpoint -> stages();
    private static final List<Long> RATES = List.of(300L, 100L);

    @TempDir(factory = FastDisk.class)
    Path folder;

    private Path model;

    @BeforeEach
    void writeModel() throws IOException {
        model = write(folder.resolve("model"), 1);
    }

    /** As if the process had been killed: nothing is cleaned up after it. */
    private static final class Killed extends Error {
        private static final long serialVersionUID = 1L;
    }

    /** Writes a model of two files: matrices, vectors, a matrix too small to be cut, and one that no stage uses. */
    private static Path write(Path folder, long seed) throws IOException {
        Files.createDirectories(folder);
        Files.writeString(folder.resolve("config.json"), "{\"model_type\":\"llama\"}");
        Files.writeString(folder.resolve("tokenizer.json"), "{}");
        List<List<SafetensorsLayout.Entry>> files = List.of(new ArrayList<>(), new ArrayList<>());
        files.get(0).add(new SafetensorsLayout.Entry("embed", DType.F16, List.of(301L, 128L)));
        for (int i = 0; i < LAYERS; i++) {
            String layer = "layers." + i + ".";
            files.get(i % 2).add(new SafetensorsLayout.Entry(layer + "q", DType.F32, List.of(64L, 128L)));
            files.get(i % 2).add(new SafetensorsLayout.Entry(layer + "small", DType.F32, List.of(4L, 100L)));
            files.get(1 - i % 2).add(new SafetensorsLayout.Entry(layer + "norm", DType.F32, List.of(128L)));
            files.get(1 - i % 2).add(new SafetensorsLayout.Entry(layer + "down", DType.BF16, List.of(1023L, 33L)));
        }
        files.get(1).add(new SafetensorsLayout.Entry("spare", DType.U8, List.of(50L, 20L, 50L)));
        files.get(1).add(new SafetensorsLayout.Entry("inv_freq", DType.F32, List.of(16L)));
        Random random = new Random(seed);
        List<String> index = new ArrayList<>();
        for (int i = 0; i < files.size(); i++) {
            String name = "model-0000" + (i + 1) + ".safetensors";
            try (var writer = SafetensorsWriter.create(folder.resolve(name), SafetensorsLayout.packed(files.get(i)))) {
                for (int j = 0; j < files.get(i).size(); j++) {
                    byte[] content = new byte[Math.toIntExact(files.get(i).get(j).bytes())];
                    random.nextBytes(content);
                    writer.write(j, 0, ByteBuffer.wrap(content));
                    index.add("\"" + files.get(i).get(j).name() + "\":\"" + name + "\"");
                }
                writer.commit();
            }
        }
        Files.writeString(folder.resolve("model.safetensors.index.json"),
                "{\"weight_map\":{" + String.join(",", index) + "}}");
        return folder;
    }

    private static List<StageTensors> stages() {
        List<StageTensors> stages = new ArrayList<>();
        stages.add(new StageTensors("embedding", List.of("embed")));
        for (int i = 0; i < LAYERS; i++) {
            String layer = "layers." + i + ".";
            stages.add(new StageTensors("layer.%03d".formatted(i),
                    List.of(layer + "norm", layer + "q", layer + "small", layer + "down")));
        }
        stages.add(new StageTensors("head", List.of("embed")));
        return stages;
    }

    private static Map<String, byte[]> tensors(Checkpoint checkpoint) throws IOException {
        Map<String, byte[]> contents = new TreeMap<>();
        for (Tensor tensor : checkpoint.tensors()) {
            contents.put(tensor.name() + tensor.dtype() + tensor.shape(), SafetensorsFiles.content(tensor));
        }
        return contents;
    }

    private List<Path> outs(String name, int count) {
        return IntStream.range(0, count).mapToObj(i -> folder.resolve("drive" + i).resolve(name)).toList();
    }

    private static SplitOptions options(boolean deleteOriginal, List<Long> rates) {
        return new SplitOptions(deleteOriginal, rates);
    }

    private SplitResult split(List<Path> outs, List<Long> rates) {
        return Splitter.split(model, outs, STAGES, options(false, rates), SILENT);
    }

    private String refusal(Path from, List<Path> outs, SplitOptions options) {
        String message = assertThrows(LaminaException.class,
                () -> Splitter.split(from, outs, STAGES, options, SILENT)).getMessage();
        assertEquals(1, message.lines().count(), message);
        return message;
    }

    private static void delete(Path tree) throws IOException {
        if (Files.exists(tree)) {
            try (Stream<Path> entries = Files.walk(tree)) {
                for (Path entry : entries.sorted(Comparator.reverseOrder()).toList()) {
                    Files.delete(entry);
                }
            }
        }
    }

    /** Returns what is in each folder, by its place in the set. */
    private static Map<Integer, Map<String, byte[]>> contents(List<Path> outs) throws IOException {
        Map<Integer, Map<String, byte[]>> contents = new TreeMap<>();
        for (Path out : outs) {
            ShardManifest manifest = ShardManifest.read(out.resolve(ShardManifest.FILE_NAME));
            contents.put(Objects.requireNonNull(manifest.stripe()).index(), SplitFixture.contents(out));
        }
        return contents;
    }

    private static void assertSame(Map<Integer, Map<String, byte[]>> expected, List<Path> outs) throws IOException {
        var actual = contents(outs);
        assertEquals(expected.keySet(), actual.keySet());
        for (int stripe : expected.keySet()) {
            SplitFixture.assertSameContents(expected.get(stripe), actual.get(stripe));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"1,1", "3,1", "1,3", "3,2,1", "2000000000000,1000000000000,500000000000", "1,1,1,1"})
    void eachFolderGetsRowsOfEveryMatrixInProportionToItsRate(String list) throws IOException {
        List<Long> rates = Stream.of(list.split(",")).map(Long::valueOf).toList();
        List<Path> outs = outs("set", rates.size());
        assertEquals(List.of(), split(outs, rates).rates());
        Checkpoint original = Checkpoint.open(model);
        Checkpoint set = Checkpoint.open(outs);
        SplitFixture.assertSameContents(tensors(original), tensors(set));
        assertEquals(List.of(), Verifier.verify(set, SILENT));
        double sum = rates.stream().mapToDouble(rate -> rate).sum();
        for (Tensor tensor : set.tensors()) {
            boolean cut = tensor.shape().size() > 1 && !tensor.name().endsWith("small");
            assertEquals(cut ? rates.size() : 1, tensor.parts().size(), tensor.name());
            for (int i = 0; i < tensor.parts().size(); i++) {
                Tensor.Part part = tensor.parts().get(i);
                assertEquals(i, set.folder(part.file()), tensor.name());
                assertEquals(0, part.offset() % 4096);
                if (cut) {
                    double rows = (double) part.bytes() / tensor.bytes() * tensor.shape().getFirst();
                    assertEquals(tensor.shape().getFirst() * (rates.get(i) / sum), rows, 1.001, tensor.name());
                }
            }
        }
        for (Path out : outs) {
            assertTrue(Files.exists(out.resolve("config.json")) && Files.exists(out.resolve("tokenizer.json")));
            assertTrue(assertThrows(LaminaException.class, () -> Checkpoint.open(out)).getMessage().contains("part"));
        }
        assertTrue(split(outs.reversed(), List.of()).alreadyComplete());
    }

    @Test
    void aSetInOneFolderIsAsTheFirstVersionWroteIt() throws IOException {
        Path out = folder.resolve("single");
        split(List.of(out), List.of());
        ShardManifest manifest = ShardManifest.read(out.resolve(ShardManifest.FILE_NAME));
        assertNull(manifest.stripe());
        String text = Files.readString(out.resolve(ShardManifest.FILE_NAME));
        assertTrue(text.startsWith("{\"format\":\"lamina shard set\",\"version\":1,\"tool\":"), text);
        SplitFixture.assertSameContents(tensors(Checkpoint.open(model)), tensors(Checkpoint.open(out)));
    }

    @Test
    void ratesAreMeasuredWhereNoneAreGiven() throws IOException {
        List<Path> outs = outs("set", 2);
        SplitResult result = split(outs, List.of());
        if (result.notes().isEmpty()) {
            assertEquals(2, result.rates().size());
            assertTrue(result.rates().stream().allMatch(rate -> rate > 0));
        } else { // the file system has no direct reads
            assertEquals(List.of(), result.rates());
            assertTrue(result.notes().getFirst().contains("an equal share"), result.notes().toString());
        }
        SplitFixture.assertSameContents(tensors(Checkpoint.open(model)), tensors(Checkpoint.open(outs)));
        try (Stream<Path> entries = Files.list(folder)) {
            assertEquals(List.of("drive0", "drive1", "model"),
                    entries.map(entry -> entry.getFileName().toString()).sorted().toList());
        }
    }

    @Test
    void foldersMustBeApart() throws IOException {
        Path a = folder.resolve("a");
        Path link = Files.createSymbolicLink(folder.resolve("link"), Files.createDirectory(a));
        SplitOptions keep = options(false, RATES);
        assertTrue(refusal(model, List.of(a, a), keep).contains("are the same folder"));
        assertTrue(refusal(model, List.of(a, folder.resolve("x/../a")), keep).contains("are the same folder"));
        assertTrue(refusal(model, List.of(a, link), keep).contains("are the same folder"));
        assertTrue(refusal(model, List.of(a, a.resolve("b")), keep).contains("lie in each other"));
        assertTrue(refusal(model, List.of(a, model.resolve("b")), keep).contains("in the model's folder"));
        assertTrue(refusal(model, List.of(), keep).contains("not 0"));
        assertTrue(refusal(model, outs("x", 3), keep).contains("2 rates are given for 3 folders"));
        assertTrue(refusal(model, outs("x", 2), options(false, List.of(1L, 0L))).contains("above 0"));
        assertTrue(refusal(model, outs("x", 2), options(false, List.of(1_000_000L, 1L))).contains("too small"));
        assertEquals(Map.of(), SplitFixture.contents(a));
        assertFalse(Files.exists(folder.resolve("drive0")));
    }

    @Test
    void foldersOfDifferentSplitsAreNotMixed() throws IOException {
        List<Path> set = outs("set", 2);
        List<Path> cutElsewhere = outs("other", 2);
        split(set, RATES);
        split(cutElsewhere, List.of(1L, 1L));
        Path whole = folder.resolve("whole");
        split(List.of(whole), List.of());
        SplitOptions keep = options(false, RATES);
        assertTrue(refusal(model, List.of(set.get(0), cutElsewhere.get(1)), keep).contains("different shard sets"));
        assertTrue(refusal(model, List.of(set.get(0), whole), keep).contains("name it alone"));
        assertTrue(refusal(model, List.of(set.get(0)), options(false, List.of())).contains("is part 1 of 2"));
        assertTrue(refusal(model, List.of(set.get(0), folder.resolve("new")), keep).contains("not all of"));
        assertFalse(Files.exists(folder.resolve("new")));
        Path tuned = write(folder.resolve("tuned"), 2);
        assertTrue(refusal(tuned, set, keep).contains("another model"));
    }

    /** Fails at one of the changes of the disk, or of those in one folder. */
    private static final class FailingDisk implements Splitter.Disk {
        private final Path full;
        private int left;

        FailingDisk(int changes, Path full) {
            this.left = changes;
            this.full = full;
        }

        @Override
        public long usableBytes(Path existingFolder) {
            return Long.MAX_VALUE;
        }

        @Override
        public void beforeChange(Path file) throws IOException {
            if (full != null && file.startsWith(full) && left-- <= 0) {
                throw new IOException("No space left on device");
            }
            if (full == null && left-- == 0) {
                throw new Killed();
            }
        }
    }

    /** Returns whether the split ended before the fault came. */
    private boolean run(Path from, List<Path> outs, boolean deleteOriginal, FailingDisk disk) {
        try {
            Splitter.split(from, outs, STAGES, options(deleteOriginal, RATES), SILENT, disk);
            return true;
        } catch (Killed e) {
            return false;
        } catch (LaminaException e) {
            String at = "(at " + disk.full;
            assertTrue(e.getMessage().contains("the disk is full") && e.getMessage().contains(at), e.getMessage());
            return false;
        }
    }

    /** Returns what an undisturbed split makes. */
    private Map<Integer, Map<String, byte[]>> expected() throws IOException {
        List<Path> outs = outs("expected", 2);
        Splitter.split(write(folder.resolve("whole/tiny"), 1), outs, STAGES, options(false, RATES), SILENT);
        return contents(outs);
    }

    private void assertFinishes(Path from, List<Path> outs, boolean deleteOriginal,
            Map<Integer, Map<String, byte[]>> expected) throws IOException {
        // whatever the rates are now, the cut stays; before it is stored, they are those that are given
        List<Long> rates = Stream.of(outs.get(0), outs.get(1)).anyMatch(StripedSplitTest::hasPlan)
                ? List.of(1L, 1L) : RATES;
        SplitResult result = Splitter.split(from, outs, STAGES, options(deleteOriginal, rates), SILENT);
        assertEquals(rates.equals(RATES) || result.alreadyComplete() ? 0 : 1, result.notes().size());
        assertSame(expected, outs);
        SplitFixture.assertSameContents(tensors(Checkpoint.open(folder.resolve("whole/tiny"))),
                tensors(Checkpoint.open(outs)));
        assertEquals(!deleteOriginal, Files.exists(from.resolve("model-00001.safetensors")));
        assertEquals(!deleteOriginal, Files.exists(from.resolve("model-00002.safetensors")));
    }

    private static boolean hasPlan(Path out) {
        try {
            Path journal = out.resolve(ShardManifest.FILE_NAME + ".partial");
            return Files.exists(journal) && Files.size(journal) > 0
                    || Files.exists(out.resolve(ShardManifest.FILE_NAME));
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void goesOnAfterAKillAtEveryChange(boolean deleteOriginal) throws IOException {
        var expected = expected();
        boolean finished = false;
        for (int change = 0; !finished; change++) {
            Path from = write(folder.resolve("from/tiny"), 1);
            List<Path> outs = outs("out", 2);
            finished = run(from, outs, deleteOriginal, new FailingDisk(change, null));
            // the order in which the folders are named does not count
            List<Path> again = change % 2 == 0 ? outs : outs.reversed();
            if (!finished) {
                run(from, again, deleteOriginal, new FailingDisk(1 + change % 5, null));
            }
            assertFinishes(from, change % 3 == 0 ? again.reversed() : again, deleteOriginal, expected);
            delete(from);
            for (Path out : outs) {
                delete(out);
            }
            assertTrue(change < 500);
        }
    }

    @ParameterizedTest
    @CsvSource({"0, false", "1, false", "0, true", "1, true"})
    void aFullDiskInOneFolderLosesNothing(int full, boolean deleteOriginal) throws IOException {
        var expected = expected();
        boolean finished = false;
        for (int change = 0; !finished; change++) {
            Path from = write(folder.resolve("from/tiny"), 1);
            List<Path> outs = outs("out", 2);
            finished = run(from, outs, deleteOriginal, new FailingDisk(change, outs.get(full)));
            if (!finished && !deleteOriginal) {
                for (Path out : outs) {
                    List<String> halves = SplitFixture.contents(out).keySet().stream()
                            .filter(name -> name.endsWith(".safetensors.partial")).toList();
                    assertEquals(List.of(), halves);
                }
            }
            assertFinishes(from, outs, deleteOriginal, expected);
            delete(from);
            for (Path out : outs) {
                delete(out);
            }
            assertTrue(change < 500);
        }
    }

    /** Drives with so much free space each. */
    private record Drives(Map<Path, Long> free) implements Splitter.Disk {
        @Override
        public long usableBytes(Path existingFolder) {
            return free.get(existingFolder);
        }

        @Override
        public Object drive(Path existingFolder) {
            return existingFolder;
        }

        @Override
        public void beforeChange(Path file) {}
    }

    @Test
    void eachDriveNeedsRoomForItsPart() throws IOException {
        List<Path> outs = outs("out", 2);
        Map<Path, Long> free = new HashMap<>();
        for (Path out : outs) {
            free.put(Files.createDirectories(out.getParent()), 10L << 20);
        }
        SplitOptions keep = options(false, RATES);
        for (Path out : outs) {
            Map<Path, Long> little = new LinkedHashMap<>(free);
            little.put(out.getParent(), 1L << 20);
            String message = assertThrows(LaminaException.class,
                    () -> Splitter.split(model, outs, STAGES, keep, SILENT, new Drives(little))).getMessage();
            assertTrue(message.contains("of free space in " + out.getParent() + ","), message);
            assertFalse(Files.exists(outs.get(0)) || Files.exists(outs.get(1)));
        }
        // a quarter of the matrices is enough for the second
        long weights = Checkpoint.open(model).tensors().stream().mapToLong(Tensor::bytes).sum();
        free.put(outs.get(1).getParent(), (1L << 20) + weights / 4 + (64L << 10));
        Splitter.split(model, outs, STAGES, keep, SILENT, new Drives(free));
        // folders on one drive need its room together
        Map<Path, Long> shared = Map.of(folder, (1L << 20) + weights * 9 / 10);
        assertThrows(LaminaException.class, () -> Splitter.split(model,
                List.of(folder.resolve("p"), folder.resolve("q")), STAGES, keep, SILENT, new Drives(shared)));
    }

    @Test
    void whatCannotFitIsRefusedBeforeDrivesAreMeasured() throws IOException {
        List<Path> outs = outs("out", 2);
        Map<Path, Long> free = new HashMap<>();
        for (Path out : outs) {
            free.put(Files.createDirectories(out.getParent()), 1L << 10);
        }
        String message = assertThrows(LaminaException.class, () -> Splitter.split(model, outs, STAGES,
                options(false, List.of()), SILENT, new Drives(free))).getMessage();
        assertTrue(message.contains("2.0 KiB together") || message.contains("0.1 MiB together"), message);
    }

    @Test
    void givenRatesAreComparedWithTheCutByFolder() throws IOException {
        List<Path> outs = outs("out", 2);
        assertFalse(run(model, outs, false, new FailingDisk(20, null)));
        List<Long> reversed = RATES.reversed();
        SplitResult result = Splitter.split(model, outs.reversed(), STAGES, options(false, reversed), SILENT);
        assertEquals(List.of(), result.notes());
    }

    @Test
    void comparingASetWithAModelWritesNothing() throws IOException {
        List<Path> outs = outs("out", 2);
        split(outs, RATES);
        Path journal = outs.get(0).resolve(ShardManifest.FILE_NAME + ".partial");
        Files.writeString(journal, "");
        Splitter.checkSameModel(model, outs);
        assertTrue(Files.exists(journal));
        Path tuned = write(folder.resolve("tuned"), 2);
        assertTrue(assertThrows(LaminaException.class, () -> Splitter.checkSameModel(tuned, outs)).getMessage()
                .contains("another model"));
    }

    @Test
    void anOriginalIsDeletedOnlyIfAllFoldersHaveIt() throws IOException {
        List<Path> outs = outs("out", 2);
        split(outs, RATES);
        Path shard = outs.get(1).resolve("layer.001.safetensors");
        byte[] content = Files.readAllBytes(shard);
        content[4096 + 9] ^= 4;
        Files.write(shard, content);
        String message = refusal(model, outs, options(true, List.of()));
        assertTrue(message.contains(shard + " differs from") && message.contains("the original was kept"), message);
        content[4096 + 9] ^= 4;
        Files.write(shard, content);
        SplitResult result = Splitter.split(model, outs, STAGES, options(true, List.of()), SILENT);
        assertTrue(result.alreadyComplete());
        assertFalse(Files.exists(model.resolve("model-00001.safetensors")));
        assertEquals(List.of(), Verifier.verify(Checkpoint.open(outs), SILENT));
    }

    @Test
    void damageInAnyFolderIsFound() throws IOException {
        List<Path> outs = outs("out", 2);
        split(outs, RATES);
        for (Path out : outs) {
            Path shard = out.resolve("embedding.safetensors");
            byte[] content = Files.readAllBytes(shard);
            content[4096 + 9] ^= 4;
            Files.write(shard, content);
            assertEquals(List.of(new Verifier.Damage(shard, 0, 1)), Verifier.verify(Checkpoint.open(outs), SILENT));
            content[4096 + 9] ^= 4;
            Files.write(shard, content);
        }
    }

    @Test
    void anUnfinishedSplitKeepsItsFolders() throws IOException {
        List<Path> outs = outs("out", 2);
        assertFalse(run(model, outs, false, new FailingDisk(20, null)));
        SplitOptions keep = options(false, List.of());
        assertTrue(refusal(model, List.of(outs.get(0)), keep).contains("an unfinished split into 2 folders, and 1 is"));
        assertTrue(refusal(model, List.of(outs.get(0), outs.get(1), folder.resolve("third")), keep)
                .contains("3 are named"));
        assertFalse(Files.exists(folder.resolve("third")));
        List<Path> others = outs("others", 2);
        assertFalse(run(write(folder.resolve("tuned"), 2), others, false, new FailingDisk(20, null)));
        assertTrue(refusal(model, List.of(outs.get(0), others.get(1)), keep).contains("different splits"));
        Path copy = Files.createDirectory(folder.resolve("copy"));
        String journal = ShardManifest.FILE_NAME + ".partial";
        Files.copy(outs.get(0).resolve(journal), copy.resolve(journal));
        assertTrue(refusal(model, List.of(outs.get(0), copy), keep).contains("the same part"));
        assertTrue(assertThrows(LaminaException.class, () -> Checkpoint.open(outs)).getMessage()
                .contains("was not finished"));
        // a folder that was lost is made again
        delete(outs.get(1));
        split(List.of(folder.resolve("replaced"), outs.get(0)), List.of());
        SplitFixture.assertSameContents(tensors(Checkpoint.open(model)),
                tensors(Checkpoint.open(List.of(outs.get(0), folder.resolve("replaced")))));
    }
}
