package dev.lamina.internal.shard;

import static dev.lamina.internal.shard.SplitFixture.DELETE;
import static dev.lamina.internal.shard.SplitFixture.KEEP;
import static dev.lamina.internal.shard.SplitFixture.SILENT;
import static dev.lamina.internal.shard.SplitFixture.STAGES;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.FastDisk;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class SplitFaultTest {
    /** As if the process had been killed: nothing is cleaned up after it. */
    private static final class Killed extends Error {
        private static final long serialVersionUID = 1L;
    }

    @TempDir(factory = FastDisk.class)
    Path folder;

    private Path expected;

    @BeforeEach
    void splitWithoutFaults() throws IOException {
        expected = folder.resolve("expected");
        Splitter.split(SplitFixture.write(folder.resolve("whole/tiny"), 1), List.of(expected), STAGES, KEEP, SILENT);
    }

    /** Fails at one of the changes of the disk. */
    private static final class FailingDisk implements Splitter.Disk {
        private final boolean full;
        private int left;

        FailingDisk(int changes, boolean full) {
            this.left = changes;
            this.full = full;
        }

        @Override
        public long usableBytes(Path existingFolder) {
            return Long.MAX_VALUE;
        }

        @Override
        public void beforeChange(Path file) throws IOException {
            if (left-- == 0) {
                if (full) {
                    throw new IOException("No space left on device");
                }
                throw new Killed();
            }
        }
    }

    /** Returns whether the split ended before the fault came. */
    private boolean run(Path model, Path out, SplitOptions options, FailingDisk disk) {
        try {
            Splitter.split(model, List.of(out), STAGES, options, SILENT, disk);
            return true;
        } catch (Killed e) {
            return false;
        } catch (LaminaException e) {
            assertTrue(disk.full && e.getMessage().contains("the disk is full"), e.getMessage());
            return false;
        }
    }

    private void assertFinishes(Path model, Path out, SplitOptions options) throws IOException {
        Splitter.split(model, List.of(out), STAGES, options, SILENT);
        SplitFixture.assertHolds(out, 1);
        if (!options.deleteOriginal()) {
            SplitFixture.assertSameContents(folder.resolve("whole/tiny"), model);
        } else {
            assertFalse(SplitFixture.contents(model).keySet().stream().anyMatch(n -> n.endsWith(".safetensors")));
        }
        SplitFixture.assertSameContents(expected, out);
    }

    private Path freshModel(int round) throws IOException {
        return SplitFixture.write(folder.resolve("model" + round + "/tiny"), 1);
    }

    private static void delete(Path tree) throws IOException {
        try (Stream<Path> entries = Files.walk(tree)) {
            for (Path entry : entries.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(entry);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void goesOnAfterAKillAtEveryChange(boolean deleteOriginal) throws IOException {
        SplitOptions options = new SplitOptions(deleteOriginal);
        boolean finished = false;
        for (int change = 0; !finished; change++) {
            Path model = freshModel(change);
            Path out = folder.resolve("out" + change);
            finished = run(model, out, options, new FailingDisk(change, false));
            if (!finished) {
                // once more, a few steps further on
                run(model, out, options, new FailingDisk(1 + change % 5, false));
            }
            assertFinishes(model, out, options);
            delete(model);
            delete(out);
            assertTrue(change < 500);
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void aFullDiskLosesNothingAndLeavesNoHalves(boolean deleteOriginal) throws IOException {
        SplitOptions options = new SplitOptions(deleteOriginal);
        boolean finished = false;
        for (int change = 0; !finished; change++) {
            Path model = freshModel(change);
            Path out = folder.resolve("out" + change);
            finished = run(model, out, options, new FailingDisk(change, true));
            List<String> halves = SplitFixture.contents(out).keySet().stream()
                    .filter(name -> name.endsWith(".safetensors.partial")).toList();
            assertTrue(halves.isEmpty() || deleteOriginal, halves.toString());
            assertEquals(Files.exists(out), !SplitFixture.contents(out).isEmpty());
            assertFinishes(model, out, options);
            delete(model);
            delete(out);
            assertTrue(change < 500);
        }
    }

    @Test
    void finishedShardsAreNotCopiedAgain() throws IOException {
        Path model = freshModel(0);
        Path out = folder.resolve("out");
        for (int change = 20; !Files.exists(out.resolve("layer.001.safetensors")); change++) {
            assertFalse(run(model, out, KEEP, new FailingDisk(change, false)));
        }
        long[] copied = new long[1];
        Splitter.split(model, List.of(out), STAGES, KEEP, (phase, done, total) ->
                copied[0] = phase == SplitListener.Phase.COPY ? total : 0);
        long all = Files.size(out.resolve("embedding.safetensors"));
        assertTrue(copied[0] < all, "copied " + copied[0]);
        SplitFixture.assertSameContents(expected, out);
    }

    @Test
    void finishedShardsThatWereDamagedAreCopiedAgain() throws IOException {
        Path model = freshModel(0);
        Path out = folder.resolve("out");
        for (int change = 20; !Files.exists(out.resolve("layer.001.safetensors")); change++) {
            run(model, out, KEEP, new FailingDisk(change, false));
        }
        byte[] content = Files.readAllBytes(out.resolve("layer.000.safetensors"));
        content[70_000] ^= 1;
        Files.write(out.resolve("layer.000.safetensors"), content);
        byte[] embedding = Files.readAllBytes(out.resolve("embedding.safetensors"));
        embedding[20] ^= 1;
        Files.write(out.resolve("embedding.safetensors"), embedding);
        assertFinishes(model, out, KEEP);
    }

    @Test
    void aDamagedPartWithoutItsOriginalIsAnErrorAndStays() throws IOException {
        Path model = freshModel(0);
        Path out = folder.resolve("out");
        for (int change = 0; Files.exists(model.resolve("model-00001.safetensors")); change++) {
            run(model, out, DELETE, new FailingDisk(change, false));
        }
        Path shard = out.resolve("embedding.safetensors");
        byte[] content = Files.readAllBytes(shard);
        content[70_000] ^= 1;
        Files.write(shard, content);
        Path begun = out.resolve("layer.001.safetensors.partial");
        byte[] part = Files.readAllBytes(begun);
        String message = assertThrows(LaminaException.class,
                () -> Splitter.split(model, List.of(out), STAGES, DELETE, SILENT)).getMessage();
        assertTrue(message.contains("model-00001.safetensors is missing"), message);
        assertTrue(Files.exists(begun));
        assertEquals(part.length, Files.size(begun));
        content[70_000] ^= 1;
        Files.write(shard, content);
        assertFinishes(model, out, DELETE);
    }

    @Test
    void aSourceFileThatCannotBeReadBackSoundlyIsKept() throws IOException {
        Path model = freshModel(0);
        Path out = folder.resolve("out");
        // changes a byte of the shard between its writing and its reading back
        Splitter.Disk disk = new Splitter.Disk() {
            @Override
            public long usableBytes(Path existingFolder) {
                return Long.MAX_VALUE;
            }

            @Override
            public void beforeChange(Path file) throws IOException {
                Path shard = out.resolve("layer.000.safetensors.partial");
                if (Files.exists(shard) && Files.size(shard) > 50_000) {
                    try (FileChannel channel = FileChannel.open(shard, StandardOpenOption.WRITE)) {
                        channel.write(ByteBuffer.wrap(new byte[] {1, 2, 3, 4}), 9_000);
                    }
                }
            }
        };
        String message = assertThrows(LaminaException.class,
                () -> Splitter.split(model, List.of(out), STAGES, DELETE, SILENT, disk)).getMessage();
        assertTrue(message.contains("reads differently"), message);
        assertTrue(Files.exists(model.resolve("model-00001.safetensors")));
        assertFinishes(model, out, DELETE);
    }

    @Test
    void anotherModelCannotFinishASplit() throws IOException {
        Path model = freshModel(0);
        Path out = folder.resolve("out");
        for (int change = 0; Files.exists(model.resolve("model-00001.safetensors")); change++) {
            run(model, out, DELETE, new FailingDisk(change, false));
        }
        Path tuned = SplitFixture.write(folder.resolve("tuned"), 2);
        String message = assertThrows(LaminaException.class,
                () -> Splitter.split(tuned, List.of(out), STAGES, DELETE, SILENT)).getMessage();
        assertTrue(message.contains("another model"), message);
        assertThrows(LaminaException.class, () -> Checkpoint.open(out));
        assertFinishes(model, out, DELETE);
    }

    @Test
    void aJournalThatWasCutOffLosesNoMoreThanItsLastLine() throws IOException {
        Path model = freshModel(0);
        Path out = folder.resolve("out");
        assertFalse(run(model, out, KEEP, new FailingDisk(20, false)));
        byte[] journal = Files.readAllBytes(out.resolve("lamina.manifest.json.partial"));
        for (int length = 0; length < journal.length; length += 1 + journal.length / 25) {
            delete(out);
            assertFalse(run(model, out, KEEP, new FailingDisk(20, false)));
            Files.write(out.resolve("lamina.manifest.json.partial"), Arrays.copyOf(journal, length));
            assertFinishes(model, out, KEEP);
        }
    }

    @Test
    void aDamagedJournalIsAnError() throws IOException {
        Path model = freshModel(0);
        Path out = folder.resolve("out");
        assertFalse(run(model, out, KEEP, new FailingDisk(20, false)));
        Path journal = out.resolve("lamina.manifest.json.partial");
        byte[] content = Files.readAllBytes(journal);
        content[100] ^= 1;
        Files.write(journal, content);
        String message = assertThrows(LaminaException.class,
                () -> Splitter.split(model, List.of(out), STAGES, KEEP, SILENT)).getMessage();
        assertTrue(message.contains("is damaged"), message);
    }

    /** Splits in a process of its own, from one byte on its input to the next, until the test kills it. */
    public static final class Child {
        public static void main(String[] arguments) {
            Splitter.split(Path.of(arguments[0]), List.of(Path.of(arguments[1])), STAGES,
                    new SplitOptions(Boolean.parseBoolean(arguments[2])), (phase, done, total) -> {
                        try {
                            System.in.read();
                        } catch (IOException e) {
                            throw new UncheckedIOException(e);
                        }
                    });
        }
    }

    private static ProcessBuilder child(Path model, Path out, SplitOptions options) {
        List<String> command = List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"),
                Child.class.getName(), model.toString(), out.toString(), String.valueOf(options.deleteOriginal()));
        return new ProcessBuilder(command).redirectErrorStream(true);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void goesOnAfterItsProcessWasKilled(boolean deleteOriginal) throws Exception {
        SplitOptions options = new SplitOptions(deleteOriginal);
        Random random = new Random(deleteOriginal ? 5 : 6);
        Path model = freshModel(0);
        Path out = folder.resolve("out");
        int killed = 0;
        for (int round = 0; round < 4; round++) {
            Process process = child(model, out, options).start();
            try (var input = process.getOutputStream()) {
                input.write(new byte[random.nextInt(9)]);
                input.flush();
                Thread.sleep(1000);
                input.write(0);
                input.flush();
                Thread.sleep(0, random.nextInt(999_999));
                process.destroyForcibly();
            } catch (IOException e) {
                // it has ended, which its exit status tells
            }
            killed += process.waitFor() == 0 ? 0 : 1;
        }
        assertTrue(killed > 0);
        assertFinishes(model, out, options);
    }

    @Test
    void twoProcessesAtOnceAreRefused() throws Exception {
        Path model = freshModel(0);
        Path out = folder.resolve("out");
        boolean[] tried = new boolean[1];
        Splitter.split(model, List.of(out), STAGES, KEEP, (phase, done, total) -> {
            if (done > 0 && !tried[0]) {
                tried[0] = true;
                try {
                    Process process = child(model, out, KEEP).start();
                    process.getOutputStream().close();
                    String output = new String(process.getInputStream().readAllBytes());
                    assertTrue(output.contains("another split is writing"), output);
                    assertEquals(1, process.waitFor());
                } catch (IOException | InterruptedException e) {
                    throw new AssertionError(e);
                }
            }
        });
        assertTrue(tried[0]);
        SplitFixture.assertSameContents(expected, out);
    }

    /** A file system of its own, of that size; needs the right to mount one. */
    private Path smallDisk(long bytes) throws Exception {
        Path disk = Files.createDirectories(folder.resolve("disk"));
        assumeTrue(System.getProperty("os.name").equals("Linux"));
        Process mount = new ProcessBuilder("mount", "-t", "tmpfs", "-o", "size=" + bytes, "tmpfs", disk.toString())
                .redirectErrorStream(true).start();
        assumeTrue(mount.waitFor() == 0, "cannot mount a small disk here");
        return disk;
    }

    private static void unmount(Path disk) throws Exception {
        new ProcessBuilder("umount", disk.toString()).inheritIO().start().waitFor();
    }

    @Test
    void aDiskThatIsReallyFullIsAClearErrorAndNothingIsLost() throws Exception {
        Path model = freshModel(0);
        Path disk = smallDisk(1_700 << 10);
        try {
            Path out = disk.resolve("out");
            String message = assertThrows(LaminaException.class,
                    () -> Splitter.split(model, List.of(out), STAGES, KEEP, SILENT)).getMessage();
            assertTrue(message.contains("of free space"), message);
            assertFalse(Files.exists(out));
            // somebody else took the space that was free when the split began
            assertFalse(run(model, out, KEEP, new FailingDisk(Integer.MAX_VALUE, true)));
            assertTrue(Files.exists(out.resolve("layer.000.safetensors")));
            // and gave it back
            new ProcessBuilder("mount", "-o", "remount,size=" + (16 << 20), disk.toString()).start().waitFor();
            assertFinishes(model, out, KEEP);
        } finally {
            unmount(disk);
        }
    }

    @Test
    void whatAKilledRunLeftDoesNotTakeTheSpaceOfTheNext() throws Exception {
        Path model = freshModel(0);
        long all = 0;
        for (String file : SplitFixture.tensors(1).keySet()) {
            all += Files.size(model.resolve(file));
        }
        Path disk = smallDisk(all + (1_300 << 10));
        try {
            Path out = disk.resolve("out");
            Path begun = out.resolve("embedding.safetensors.partial");
            for (int change = 0; !Files.exists(begun) || Files.size(begun) < 1_300_001; change++) {
                assertFalse(run(model, out, KEEP, new FailingDisk(change, false)));
            }
            assertFinishes(model, out, KEEP);
        } finally {
            unmount(disk);
        }
    }

    @Test
    void deletingTheOriginalTakesTheModelAndOneOfItsFiles() throws Exception {
        Path whole = folder.resolve("whole/tiny");
        long model = 0;
        long largest = 0;
        for (String file : SplitFixture.tensors(1).keySet()) {
            model += Files.size(whole.resolve(file));
            largest = Math.max(largest, Files.size(whole.resolve(file)));
        }
        Path disk = smallDisk(model + largest + (1_300 << 10));
        try {
            Path copy = SplitFixture.write(disk.resolve("tiny"), 1);
            Path out = disk.resolve("out");
            assertThrows(LaminaException.class, () -> Splitter.split(copy, List.of(out), STAGES, KEEP, SILENT));
            assertFinishes(copy, out, DELETE);
        } finally {
            unmount(disk);
        }
    }
}
