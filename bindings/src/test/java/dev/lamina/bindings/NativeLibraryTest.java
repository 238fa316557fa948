package dev.lamina.bindings;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NativeLibraryTest {
    private static final String NAME = System.mapLibraryName("lamina");

    @TempDir
    Path folder;

    private byte[] content;

    @BeforeEach
    void readLibrary() {
        content = NativeLibrary.packaged(NativeLibrary.platform(), NAME);
    }

    /** Loads the library in a process of its own and prints where from. */
    static final class Loader {
        public static void main(String[] args) {
            try {
                Path file = NativeLibrary.load();
                assertEquals(file, NativeLibrary.load());
                System.out.println(file);
            } catch (UnsatisfiedLinkError e) {
                System.out.println("failed: " + e.getMessage());
                System.exit(1);
            }
        }
    }

    /** Loads a library as that of a backend, but not from the folder that it is given, and prints what is loaded. */
    static final class BackendLoader {
        public static void main(String[] args) {
            try {
                NativeLibrary.loadBackend("lamina", file -> {
                    if (file.startsWith(args[0])) {
                        throw new IllegalStateException(file.getFileName() + " is on a file system that is noexec");
                    }
                    System.load(file.toString());
                    System.out.println(file);
                });
            } catch (UnsatisfiedLinkError e) {
                System.out.println("failed: " + e.getMessage());
                System.exit(1);
            }
        }
    }

    @Test
    void backendIsLoadedFromTheCacheFolderOnceItIsThere() throws Exception {
        Path cache = folder.resolve("cache");
        for (int i = 0; i < 2; i++) {
            String loaded = outputOf(start(BackendLoader.class, cache, "/nowhere"), 0);
            assertEquals(onlyFile(cache).toString(), loaded);
        }
    }

    @Test
    void backendThatCannotBeLoadedFromTheCacheFolderIsLoadedFromATemporaryOne() throws Exception {
        Path temporary = Files.createDirectory(folder.resolve("tmp")).toRealPath();
        for (Path cache : List.of(folder.resolve("cache"), Files.createFile(folder.resolve("a file, not a folder")))) {
            String loaded = outputOf(start(BackendLoader.class, cache, cache.toString(),
                    "-Djava.io.tmpdir=" + temporary), 0);
            assertTrue(loaded.startsWith(temporary.toString()), loaded);
            assumeTrue(isPosix());
            try (Stream<Path> left = Files.list(temporary)) {
                assertEquals(List.of(), left.toList());
            }
        }
    }

    @Test
    void backendThatNoFolderCanHoldIsOneLineWithWhatToDo() throws Exception {
        Path temporary = Files.createDirectory(folder.resolve("tmp"));
        String message = outputOf(start(BackendLoader.class, folder.resolve("cache"), folder.toRealPath().toString(),
                "-Djava.io.tmpdir=" + temporary), 1);
        assertEquals(1, message.lines().count(), message);
        assertTrue(message.startsWith("failed: cannot load " + NAME + " (") && message.contains("is noexec; ")
                && message.endsWith("on a file system that is not mounted noexec"), message);
    }

    @Test
    void processesThatStartAtOnceShareOneCopy() throws Exception {
        Path cache = folder.resolve("not yet there/cache");
        List<Process> processes = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            processes.add(start(cache));
        }
        for (Process process : processes) {
            String loaded = outputOf(process, 0);
            assertEquals(onlyFile(cache).toString(), loaded);
        }
        assertArrayEquals(content, Files.readAllBytes(onlyFile(cache)));
    }

    @Test
    void damagedCopyIsReplaced() throws Exception {
        Path file = NativeLibrary.cached(folder, NAME, content);
        byte[] flipped = content.clone();
        flipped[flipped.length / 2] ^= 1;
        Files.write(file, flipped);
        assertEquals(file, NativeLibrary.cached(folder, NAME, content));
        assertArrayEquals(content, Files.readAllBytes(file));

        Files.write(file, new byte[10]);
        assertEquals(file.toString(), outputOf(start(folder), 0));
        assertArrayEquals(content, Files.readAllBytes(onlyFile(folder)));
    }

    @Test
    void intactCopyIsLeftAlone() throws IOException {
        Path file = NativeLibrary.cached(folder, NAME, content);
        Object key = Files.readAttributes(file, BasicFileAttributes.class).fileKey();
        NativeLibrary.cached(folder, NAME, content);
        assertEquals(key, Files.readAttributes(file, BasicFileAttributes.class).fileKey());
    }

    @Test
    void libraryWithOtherContentGetsANameOfItsOwn() throws IOException {
        Path file = NativeLibrary.cached(folder, NAME, content);
        Path other = NativeLibrary.cached(folder, NAME, new byte[] {1});
        assertFalse(file.equals(other));
        assertArrayEquals(content, Files.readAllBytes(file));
    }

    @Test
    void linkInPlaceOfTheCopyIsReplaced() throws IOException {
        assumeTrue(isPosix());
        Path file = NativeLibrary.cached(folder, NAME, content);
        Path target = Files.write(folder.resolve("target"), content);
        Files.delete(file);
        Files.createSymbolicLink(file, target);
        NativeLibrary.cached(folder, NAME, content);
        assertTrue(Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS));
    }

    @Test
    void unusableCacheFolderIsReplacedByATemporaryOne() throws Exception {
        Path temporary = Files.createDirectory(folder.resolve("tmp"));
        Path cache = Files.createFile(folder.resolve("a file, not a folder"));
        String loaded = outputOf(start(cache, "-Djava.io.tmpdir=" + temporary), 0);
        assertTrue(loaded.startsWith(temporary.toRealPath().toString()), loaded);
        assumeTrue(isPosix());
        try (Stream<Path> left = Files.list(temporary)) {
            assertEquals(List.of(), left.toList());
        }
    }

    @Test
    void folderThatOthersCanWriteIsNotTrusted() throws IOException {
        assumeTrue(isPosix());
        Path file = NativeLibrary.cached(folder, NAME, content);
        Files.setPosixFilePermissions(file.getParent(), PosixFilePermissions.fromString("rwxrwx---"));
        var error = assertThrows(IOException.class, () -> NativeLibrary.cached(folder, NAME, content));
        assertTrue(error.getMessage().contains("can be written by other users"), error.getMessage());
    }

    @Test
    void fileOfAnotherUserIsNotTrusted() throws IOException {
        assumeTrue(isPosix());
        Path file = NativeLibrary.cached(folder, NAME, content);
        try {
            Files.setOwner(file, file.getFileSystem().getUserPrincipalLookupService().lookupPrincipalByName("nobody"));
        } catch (IOException e) {
            assumeTrue(false, "only root can give a file away");
        }
        var error = assertThrows(IOException.class, () -> NativeLibrary.cached(folder, NAME, content));
        assertTrue(error.getMessage().contains("belongs to nobody"), error.getMessage());
    }

    @Test
    void propertyNamesAnotherLibrary() throws Exception {
        Path other = Files.write(folder.resolve(NAME), content);
        Path cache = folder.resolve("cache");
        assertEquals(other.toString(), outputOf(start(cache, "-D" + NativeLibrary.PATH_PROPERTY + "=" + other), 0));
        assertFalse(Files.exists(cache));

        String message = outputOf(start(cache, "-D" + NativeLibrary.PATH_PROPERTY + "=/missing"), 1);
        assertTrue(message.contains("no readable file at"), message);
    }

    @Test
    void unknownPlatformListsThePackagedOnes() {
        var error = assertThrows(UnsatisfiedLinkError.class, () -> NativeLibrary.packaged("plan9-vax", NAME));
        String message = error.getMessage();
        assertTrue(message.contains("plan9-vax") && message.contains(NativeLibrary.platform()), message);
    }

    private Process start(Path cache, String... options) throws IOException {
        return start(Loader.class, cache, "", options);
    }

    private Process start(Class<?> main, Path cache, String argument, String... options) throws IOException {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of(options));
        command.addAll(List.of("--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"),
                main.getName(), argument));
        var builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("LAMINA_CACHE", cache.toString());
        return builder.start();
    }

    private static String outputOf(Process process, int exitCode) throws Exception {
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
        assertEquals(exitCode, process.waitFor(), output);
        return output;
    }

    private static Path onlyFile(Path cache) throws IOException {
        try (Stream<Path> files = Files.list(cache.resolve("natives"))) {
            List<Path> all = files.toList();
            assertEquals(1, all.size(), all.toString());
            return all.getFirst();
        }
    }

    private boolean isPosix() {
        return folder.getFileSystem().supportedFileAttributeViews().contains("posix");
    }
}
