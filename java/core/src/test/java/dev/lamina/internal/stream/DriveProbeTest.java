package dev.lamina.internal.stream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.ModelOptions.Io;
import dev.lamina.internal.runtime.Rings;
import dev.lamina.internal.stream.DriveProbe.Origin;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class DriveProbeTest {
    private final TestMemory memory = new TestMemory();
    private TestFiles files;
    private Path answers = Path.of("");

    @BeforeEach
    void makeFolder() throws IOException {
        files = new TestFiles();
        answers = files.folder.resolve("cache").resolve(DriveProbe.FILE_NAME);
    }

    @AfterEach
    void removeFolder() throws IOException {
        files.close();
        assertEquals(0, memory.live());
    }

    private DriveProbe probe() {
        return new DriveProbe(memory, 48 << 20, answers);
    }

    /** A file of holes: large enough to be measured, and takes no space. */
    private Path holes() throws IOException {
        Path path = files.folder.resolve("holes");
        try (var file = new RandomAccessFile(path.toFile(), "rw")) {
            file.setLength(300L << 20);
        }
        return path;
    }

    private DriveProbe.Choice choose(Path path, Io asked, boolean anew) throws Exception {
        try {
            return probe().choose(List.of(path), asked, anew);
        } catch (NoDirectReadsException e) {
            Assumptions.abort(e.getMessage());
            throw e;
        }
    }

    @Test
    void measuresADriveOnceAndRemembers() throws Exception {
        Path path = holes();
        var first = choose(path, Io.DIRECT, false);
        assertEquals(Origin.MEASURED, first.origin());
        assertTrue(first.bytesPerSecond() > 0);
        assertTrue(first.method().mode().direct());
        assertTrue(first.reason().contains("channel ") && first.reason().contains("pread "), first.reason());
        assertTrue(memory.peak() <= 50 << 20, "took " + memory.peak());

        var second = choose(path, Io.AUTO, false);
        assertEquals(new DriveProbe.Choice(first.method(), first.bytesPerSecond(), first.cpuSecondsPerGigabyte(),
                Origin.REMEMBERED, first.reason()), second);
        assertEquals(Origin.REMEMBERED, choose(files.write(new Random(1), 10), Io.AUTO, false).origin());
        assertEquals(Origin.MEASURED, choose(path, Io.AUTO, true).origin());
        assertEquals(Origin.MEASURED, choose(path, Io.PREAD, false).origin(), "another question");
        assertEquals(IoMode.PREAD, choose(path, Io.PREAD, false).method().mode());
    }

    @Test
    void whatIsRememberedIsNotTrusted() throws Exception {
        Path path = files.write(new Random(1), 10);
        var assumed = choose(path, Io.AUTO, false);
        assertEquals(Origin.ASSUMED, assumed.origin());
        assertFalse(Files.exists(answers), "too little to measure is nothing to remember");
        assertEquals(Origin.MEASURED, choose(holes(), Io.AUTO, false).origin());
        String sound = Files.readString(answers);
        assertEquals(Origin.REMEMBERED, choose(path, Io.AUTO, false).origin());
        for (String broken : List.of("", "[]", "{", "7", sound.replace("\"depth\": ", "\"depth\": 9999"),
                sound.replace("\"mode\": \"", "\"mode\": \"X"), sound.replaceAll("\\{[^{}]*}", "3"),
                sound.replace("request_bytes", "else"), sound.replaceAll("\"mode\": \"\\w*", "\"mode\": \"BUFFERED"),
                rate(sound, "bytes_per_second", "-5e9"), rate(sound, "bytes_per_second", "0"),
                rate(sound, "bytes_per_second", "NaN"), rate(sound, "bytes_per_second", "1e999"),
                rate(sound, "cpu_seconds_per_gb", "-1"), rate(sound, "cpu_seconds_per_gb", "NaN"),
                rate(sound, "cpu_seconds_per_gb", "1e999"))) {
            Files.writeString(answers, broken);
            assertEquals(Origin.ASSUMED, choose(path, Io.AUTO, false).origin(), broken);
        }
        Files.delete(answers);
        Files.delete(answers.getParent());
        Files.writeString(answers.getParent(), "a file where the folder should be");
        assertEquals(Origin.MEASURED, choose(holes(), Io.AUTO, false).origin());
    }

    private static String rate(String answers, String name, String value) {
        return answers.replaceAll("\"" + name + "\": [^,\\s]*", "\"" + name + "\": " + value);
    }

    @Test
    void aChoiceOfWhatLittleMemoryAllowsIsNotRemembered() throws Exception {
        Path path = holes();
        choose(path, Io.CHANNEL, false);
        Files.delete(answers);
        var little = new DriveProbe(memory, 8 << 20, answers);
        assertEquals(Origin.MEASURED, little.choose(List.of(path), Io.AUTO, false).origin());
        assertFalse(Files.exists(answers));
        assertEquals(IoMode.CHANNEL, new DriveProbe(memory, 1, answers).choose(List.of(path), Io.AUTO, false)
                .method().mode());
        assertFalse(Files.exists(answers));
    }

    @Test
    void doesWithoutARingWhereTheSystemForbidsIt() throws Exception {
        Path path = holes();
        var first = choose(path, Io.AUTO, false);
        var without = probe().choose(List.of(path), Io.AUTO, false, "forbidden");
        assertEquals(first.method().mode() == IoMode.URING ? Origin.MEASURED : Origin.REMEMBERED, without.origin());
        Files.writeString(answers, Files.readString(answers)
                .replaceAll("\"mode\": \"\\w*", "\"mode\": \"URING"));
        without = probe().choose(List.of(path), Io.AUTO, false, "forbidden");
        assertEquals(Origin.MEASURED, without.origin());
        assertTrue(without.method().mode() != IoMode.URING);
        assertTrue(without.reason().endsWith(", uring: forbidden"), without.reason());
        assertEquals("--io uring is not possible here: forbidden. Use --io auto or --io pread",
                assertThrows(IOException.class, () -> probe().choose(List.of(path), Io.URING, false, "forbidden"))
                        .getMessage());
    }

    @Test
    void oneDriveIsNotFasterForTwoFolders() {
        var one = new DriveProbe.Choice(ReadMethod.DEFAULT, 8e9, 0.1, Origin.MEASURED, "");
        assertEquals(4e9, one.shared(2).bytesPerSecond());
        assertEquals(0.1, one.shared(2).cpuSecondsPerGigabyte());
    }

    @Test
    void readsThroughThePageCacheWhereTheFileSystemRefuses() throws Exception {
        Path path = Path.of("/proc/version");
        Assumptions.assumeTrue(Files.isReadable(path), "there is no file that cannot be read directly");
        var choice = probe().choose(List.of(path), Io.AUTO, false);
        assertEquals(ReadMethod.BUFFERED, choice.method());
        assertTrue(choice.summary().startsWith("buffered: the file system refuses direct reads ("), choice.summary());
        for (Io asked : List.of(Io.DIRECT, Io.CHANNEL, Io.PREAD, Io.URING)) {
            assertThrows(NoDirectReadsException.class, () -> probe().choose(List.of(path), asked, false));
        }
        assertThrows(NoSuchFileException.class,
                () -> probe().choose(List.of(files.folder.resolve("none")), Io.AUTO, false));
    }

    @Test
    void doesWhatIsAsked() throws Exception {
        Path path = files.write(new Random(1), 10);
        assertEquals(ReadMethod.BUFFERED, choose(path, Io.BUFFERED, false).method());
        assertEquals(IoMode.CHANNEL, choose(path, Io.CHANNEL, false).method().mode());
        assertEquals(IoMode.PREAD, choose(path, Io.PREAD, false).method().mode());
        Rings.assume();
        assertEquals(IoMode.URING, choose(path, Io.URING, false).method().mode());
    }
}
