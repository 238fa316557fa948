package dev.lamina.bindings;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFileAttributeView;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.UUID;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * Loads the native runtime into the class loader of the generated bindings, which look their symbols up there.
 *
 * <p>The library is a resource, {@code dev/lamina/natives/<os>-<arch>/}, and a library can be loaded from a file only.
 * So it is copied once to a folder of the user's: {@code $LAMINA_CACHE}, else the platform's cache folder. The name of
 * the copy holds the SHA-256 of its content: versions live side by side, and processes that start at once write the
 * same bytes. A copy that is found there is compared with the resource before it is loaded, and trusted only where no
 * other user can write. Where that folder cannot be used, a private temporary one serves instead.
 *
 * <p>The system property {@value #PATH_PROPERTY} names another file to load as it is, for developers.
 */
public final class NativeLibrary {
    /** System property: the path of a library to load in place of the packaged one. */
    public static final String PATH_PROPERTY = "lamina.library.path";

    private static final List<String> SYSTEMS = List.of("linux", "macos", "windows");
    private static final List<String> ARCHITECTURES = List.of("x86_64", "aarch64");
    private static final Set<PosixFilePermission> OWNER_ONLY = PosixFilePermissions.fromString("rwx------");

    /** Which file was loaded: a fact about the process, which is why it is static. */
    private static @Nullable Path loaded;

    private NativeLibrary() {}

    /**
     * Loads the library unless it is loaded. May be called from any thread.
     *
     * @return the file that was loaded; it may be gone by now when it was in a temporary folder
     * @throws UnsatisfiedLinkError if there is no library for this platform or it cannot be loaded; the message is one
     *     line that says what to do
     */
    public static synchronized Path load() {
        Path file = loaded;
        if (file == null) {
            String override = System.getProperty(PATH_PROPERTY);
            file = override != null ? loadOverride(Path.of(override)) : loadPackaged();
            loaded = file;
        }
        return file;
    }

    /**
     * Finds the library of a backend, which is packaged beside the runtime where the build could make it, and has it
     * loaded.
     *
     * @param name such as {@code "lamina_cuda"}
     * @param loading is given the file, which may be gone afterwards; where that throws, it is given another copy, for
     *     the cache folder may be on a file system from which nothing can be loaded
     * @throws UnsatisfiedLinkError there is none for this platform, or no copy could be loaded; the message is one line
     */
    public static synchronized void loadBackend(String name, Consumer<Path> loading) {
        String file = System.mapLibraryName(name);
        String override = System.getProperty(PATH_PROPERTY);
        if (override != null) {
            loading.accept(Path.of(override).toAbsolutePath().resolveSibling(file));
            return;
        }
        byte[] content = resourceContent(resource(platform(), file));
        if (content == null) {
            throw new UnsatisfiedLinkError("this build has no " + file + " for " + platform());
        }
        loadCopy(file, content, file, loading);
    }

    private static Path loadOverride(Path file) {
        Path absolute = file.toAbsolutePath();
        if (!Files.isReadable(absolute)) {
            throw new UnsatisfiedLinkError("no readable file at " + absolute + ": correct -D" + PATH_PROPERTY);
        }
        try {
            System.load(absolute.toString());
        } catch (UnsatisfiedLinkError e) {
            throw linkError("cannot load " + absolute + " (-D" + PATH_PROPERTY + "): " + e.getMessage(), e);
        }
        return absolute;
    }

    private static Path loadPackaged() {
        String name = System.mapLibraryName("lamina");
        return loadCopy(name, packaged(platform(), name), "the native runtime", file -> System.load(file.toString()));
    }

    /** Loads a copy in the cache folder, or in a temporary one where that cannot be. Returns the copy. */
    private static Path loadCopy(String name, byte[] content, String what, Consumer<Path> loading) {
        List<@Nullable String> failures = new ArrayList<>();
        try {
            Path file = cached(cacheFolder(), name, content);
            loading.accept(file);
            return file;
        } catch (IOException | RuntimeException | UnsatisfiedLinkError e) {
            failures.add(describe(e));
        }
        try {
            return loadTemporary(name, content, loading);
        } catch (IOException | RuntimeException | UnsatisfiedLinkError e) {
            failures.add(describe(e));
            throw linkError("cannot load " + what + " (" + String.join("; ", failures)
                    + "): set LAMINA_CACHE to a folder of yours on a file system that is not mounted noexec", e);
        }
    }

    private static Path loadTemporary(String name, byte[] content, Consumer<Path> loading) throws IOException {
        Path folder = Files.createTempDirectory("lamina-"); // for the owner only, and owned by us: it is new
        Path file = folder.resolve(name);
        try {
            write(file, content);
            Path real = file.toRealPath();
            loading.accept(real);
            return real;
        } finally {
            if (!System.getProperty("os.name").startsWith("Windows")) { // which cannot delete what is loaded
                Files.deleteIfExists(file);
                Files.delete(folder);
            }
        }
    }

    /** This platform as the resources are named: {@code linux-x86_64}, {@code macos-aarch64} and so on. */
    static String platform() {
        String os = System.getProperty("os.name").toLowerCase(Locale.ROOT);
        String arch = System.getProperty("os.arch").toLowerCase(Locale.ROOT);
        return (os.startsWith("mac") ? "macos" : os.startsWith("windows") ? "windows" : os) + "-"
                + switch (arch) {
                    case "amd64", "x64" -> "x86_64";
                    case "arm64" -> "aarch64";
                    default -> arch;
                };
    }

    /** Reads the packaged library of a platform. */
    static byte[] packaged(String platform, String name) {
        byte[] content = resourceContent(resource(platform, name));
        if (content != null) {
            return content;
        }
        List<String> present = new ArrayList<>();
        for (String os : SYSTEMS) {
            for (String arch : ARCHITECTURES) {
                if (loader().getResource(resource(os + "-" + arch, fileName(os))) != null) {
                    present.add(os + "-" + arch);
                }
            }
        }
        throw new UnsatisfiedLinkError("no native runtime for " + platform + " on the class path, only for "
                + (present.isEmpty() ? "no platform" : String.join(", ", present))
                + ": build Lamina on this machine, or point -D" + PATH_PROPERTY + " at a library");
    }

    private static byte @Nullable [] resourceContent(String resource) {
        try (InputStream in = loader().getResourceAsStream(resource)) {
            return in == null ? null : in.readAllBytes();
        } catch (IOException e) {
            throw linkError("cannot read " + resource + " on the class path: " + e.getMessage(), e);
        }
    }

    private static String fileName(String os) {
        return switch (os) {
            case "windows" -> "lamina.dll";
            case "macos" -> "liblamina.dylib";
            default -> "liblamina.so";
        };
    }

    private static String resource(String platform, String name) {
        return "dev/lamina/natives/" + platform + "/" + name;
    }

    private static ClassLoader loader() {
        return NativeLibrary.class.getClassLoader();
    }

    /** Lamina's folder for what can be made again: {@code $LAMINA_CACHE}, else in the platform's cache folder. */
    public static Path cacheFolder() {
        String explicit = System.getenv("LAMINA_CACHE");
        if (explicit != null && !explicit.isEmpty()) {
            return Path.of(explicit).toAbsolutePath();
        }
        String home = System.getProperty("user.home");
        String os = System.getProperty("os.name");
        if (os.startsWith("Mac")) {
            return Path.of(home, "Library", "Caches", "lamina");
        }
        if (os.startsWith("Windows")) {
            String local = System.getenv("LOCALAPPDATA");
            return local != null ? Path.of(local, "lamina", "cache") : Path.of(home, ".lamina");
        }
        String xdg = System.getenv("XDG_CACHE_HOME");
        return xdg != null && xdg.startsWith("/") ? Path.of(xdg, "lamina") : Path.of(home, ".cache", "lamina");
    }

    /**
     * Makes sure that a folder holds a copy of the library.
     *
     * @param cache the cache folder, absolute; created where it is missing
     * @param name the library's file name
     * @param content the library
     * @return the copy, verified to have this content and to be out of other users' reach
     * @throws IOException if the folder cannot be written, or another user could change what is in it
     */
    static Path cached(Path cache, String name, byte[] content) throws IOException {
        Path folder = cache.resolve("natives");
        createFolder(folder);
        requireOurs(folder);
        int dot = name.lastIndexOf('.');
        Path file = folder.resolve(name.substring(0, dot) + "-" + sha256(content) + name.substring(dot));
        if (Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)
                && Files.size(file) == content.length
                && Arrays.equals(Files.readAllBytes(file), content)) {
            requireOurs(file);
            return file;
        }
        Path temporary = folder.resolve(file.getFileName() + "." + UUID.randomUUID());
        try {
            write(temporary, content);
            Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(temporary);
        }
        return file;
    }

    private static void createFolder(Path folder) throws IOException {
        if (isPosix(folder)) {
            Files.createDirectories(folder, PosixFilePermissions.asFileAttribute(OWNER_ONLY));
        } else {
            Files.createDirectories(folder);
        }
    }

    /** Whoever could write here could run code as us: refuses what another user owns or may write. */
    private static void requireOurs(Path path) throws IOException {
        if (!isPosix(path)) {
            return;
        }
        var attributes = Files.getFileAttributeView(path, PosixFileAttributeView.class).readAttributes();
        Set<PosixFilePermission> permissions = attributes.permissions();
        String us = ProcessHandle.current().info().user().orElse("");
        if (!attributes.owner().getName().equals(us)) {
            throw new IOException(path + " belongs to " + attributes.owner().getName() + ", not to " + us);
        }
        if (permissions.contains(PosixFilePermission.GROUP_WRITE)
                || permissions.contains(PosixFilePermission.OTHERS_WRITE)) {
            throw new IOException(path + " can be written by other users");
        }
    }

    private static boolean isPosix(Path path) {
        return path.getFileSystem().supportedFileAttributeViews().contains("posix");
    }

    /** Writes a new file to disk, for the owner only. */
    private static void write(Path file, byte[] content) throws IOException {
        var options = Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
        try (FileChannel channel = isPosix(file)
                ? FileChannel.open(file, options, PosixFilePermissions.asFileAttribute(OWNER_ONLY))
                : FileChannel.open(file, options)) {
            ByteBuffer rest = ByteBuffer.wrap(content);
            while (rest.hasRemaining()) {
                channel.write(rest);
            }
            channel.force(true);
        }
    }

    private static String sha256(byte[] content) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every Java platform has SHA-256", e);
        }
    }

    /** The message alone does not tell what went wrong: that of an AccessDeniedException is a path. */
    private static @Nullable String describe(Throwable e) {
        return e instanceof FileSystemException ? e.getClass().getSimpleName() + ": " + e.getMessage() : e.getMessage();
    }

    private static UnsatisfiedLinkError linkError(String message, Throwable cause) {
        var error = new UnsatisfiedLinkError(message);
        error.initCause(cause);
        return error;
    }
}
