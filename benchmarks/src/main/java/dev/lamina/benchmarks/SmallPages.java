package dev.lamina.benchmarks;

import dev.lamina.internal.runtime.HostMemory;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/** Memory of ordinary pages only, to see what huge ones are worth. */
final class SmallPages implements HostMemory {
    private static final boolean LINUX = System.getProperty("os.name").equals("Linux");
    private static final int READ_AND_WRITE = 3;
    private static final int PRIVATE_AND_ANONYMOUS = LINUX ? 0x22 : 0x1002;
    private static final int NO_HUGE_PAGES = 15;

    private static final MethodHandle MMAP = find("mmap", FunctionDescriptor.of(ValueLayout.ADDRESS,
            ValueLayout.ADDRESS, ValueLayout.JAVA_LONG, ValueLayout.JAVA_INT, ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG));
    private static final MethodHandle MUNMAP = find("munmap",
            FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_LONG));
    private static final MethodHandle MADVISE = find("madvise", FunctionDescriptor.of(ValueLayout.JAVA_INT,
            ValueLayout.ADDRESS, ValueLayout.JAVA_LONG, ValueLayout.JAVA_INT));

    private static MethodHandle find(String name, FunctionDescriptor type) {
        var linker = Linker.nativeLinker();
        return linker.downcallHandle(linker.defaultLookup().find(name).orElseThrow(), type);
    }

    @Override
    public MemorySegment allocate(long bytes) {
        try {
            var memory = (MemorySegment) MMAP.invokeExact(MemorySegment.NULL, bytes, READ_AND_WRITE,
                    PRIVATE_AND_ANONYMOUS, -1, 0L);
            if (memory.address() == -1) {
                throw new OutOfMemoryError("mmap of " + bytes + " bytes failed");
            }
            if (LINUX) {
                // Fails where the kernel has no huge pages at all, which is just as well.
                int ignored = (int) MADVISE.invokeExact(memory, bytes, NO_HUGE_PAGES);
            }
            return memory.reinterpret(bytes);
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
    }

    @Override
    public void free(MemorySegment memory) {
        try {
            int ignored = (int) MUNMAP.invokeExact(memory, memory.byteSize());
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
    }
}
