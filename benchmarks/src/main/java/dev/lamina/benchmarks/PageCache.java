package dev.lamina.benchmarks;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;

/** Tells the kernel to forget a file, so that what is timed next reads the drive and not memory. */
final class PageCache {
    private static final int DONTNEED = 4; // POSIX_FADV_DONTNEED of Linux
    private static final int READ_ONLY = 0; // O_RDONLY

    private PageCache() {}

    /** Drops the clean pages of a file that nobody has mapped. Does nothing on systems other than Linux. */
    static void drop(Path file) throws IOException {
        if (!System.getProperty("os.name").equals("Linux")) {
            return;
        }
        var linker = Linker.nativeLinker();
        var c = linker.defaultLookup();
        try (var arena = Arena.ofConfined()) {
            var open = linker.downcallHandle(c.find("open").orElseThrow(),
                    FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_INT),
                    Linker.Option.firstVariadicArg(2));
            var advise = linker.downcallHandle(c.find("posix_fadvise").orElseThrow(),
                    FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG,
                            ValueLayout.JAVA_LONG, ValueLayout.JAVA_INT));
            var close = linker.downcallHandle(c.find("close").orElseThrow(),
                    FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_INT));
            MemorySegment name = arena.allocateFrom(file.toString());
            int descriptor = (int) open.invokeExact(name, READ_ONLY);
            if (descriptor < 0) {
                throw new IOException(file + " cannot be opened");
            }
            int refused = (int) advise.invokeExact(descriptor, 0L, 0L, DONTNEED);
            int closed = (int) close.invokeExact(descriptor);
            if (refused != 0 || closed != 0) {
                throw new IOException(file + " stays in the page cache: error " + refused);
            }
        } catch (IOException | RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
    }
}
