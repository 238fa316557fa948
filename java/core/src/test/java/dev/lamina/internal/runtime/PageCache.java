package dev.lamina.internal.runtime;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** What the page cache of Linux holds of a file. */
public final class PageCache {
    private static final int O_RDONLY = 0;
    private static final int POSIX_FADV_DONTNEED = 4;
    private static final MethodHandle MINCORE =
            function("mincore", ValueLayout.ADDRESS, ValueLayout.JAVA_LONG, ValueLayout.ADDRESS);
    private static final MethodHandle OPEN = function("open", ValueLayout.ADDRESS, ValueLayout.JAVA_INT);
    private static final MethodHandle CLOSE = function("close", ValueLayout.JAVA_INT);
    private static final MethodHandle FADVISE = function("posix_fadvise", ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG,
            ValueLayout.JAVA_LONG, ValueLayout.JAVA_INT);
    private static final MethodHandle PAGE_BYTES = function("getpagesize");

    private PageCache() {}

    private static MethodHandle function(String name, ValueLayout... arguments) {
        var linker = Linker.nativeLinker();
        var address = linker.defaultLookup().find(name).orElseThrow();
        var descriptor = FunctionDescriptor.of(ValueLayout.JAVA_INT, arguments);
        return name.equals("open")
                ? linker.downcallHandle(address, descriptor, Linker.Option.firstVariadicArg(arguments.length))
                : linker.downcallHandle(address, descriptor);
    }

    private static int call(MethodHandle function, Object... arguments) {
        try {
            return (int) function.invokeWithArguments(arguments);
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
    }

    /** Bytes of a file that are in the page cache, in whole pages. */
    public static long residentBytes(Path file) throws IOException {
        long page = call(PAGE_BYTES);
        try (var channel = FileChannel.open(file, StandardOpenOption.READ); var arena = Arena.ofConfined()) {
            var mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena); // reads nothing
            var states = arena.allocate(Math.ceilDiv(mapped.byteSize(), page));
            if (call(MINCORE, mapped, mapped.byteSize(), states) != 0) {
                throw new IOException("mincore failed on " + file);
            }
            long pages = 0;
            for (long i = 0; i < states.byteSize(); i++) {
                pages += states.get(ValueLayout.JAVA_BYTE, i) & 1;
            }
            return pages * page;
        }
    }

    /** Takes a file out of the page cache, as far as the file system lets that happen. */
    public static void drop(Path file) throws IOException {
        try (var channel = FileChannel.open(file, StandardOpenOption.WRITE); var arena = Arena.ofConfined()) {
            channel.force(true); // pages that were not written yet would stay
            MemorySegment name = arena.allocateFrom(file.toString());
            int descriptor = call(OPEN, name, O_RDONLY);
            if (descriptor < 0) {
                throw new IOException("cannot open " + file);
            }
            int error = call(FADVISE, descriptor, 0L, 0L, POSIX_FADV_DONTNEED);
            call(CLOSE, descriptor);
            if (error != 0) {
                throw new IOException("posix_fadvise failed on " + file + ": error " + error);
            }
        }
    }
}
