package dev.lamina.internal.generate;

import dev.lamina.bindings.NativeLibrary;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.concurrent.atomic.AtomicReference;

/** What a test makes go wrong with the emulated GPUs, until {@link #reset}: the functions of faults.h. */
final class EmulatedFaults {
    /** A call of CUDA that fails: their numbers in faults.h are their order here. */
    enum Call { ALLOC, PIN, COPY, LAUNCH, WAIT, CREATE, RECORD }

    static final int INVALID_VALUE = 1;
    static final int OUT_OF_MEMORY = 2;
    static final int UNAVAILABLE = 46;
    static final int LAUNCH_FAILURE = 719;

    private static final Linker LINKER = Linker.nativeLinker();

    private final SymbolLookup library;

    /** Finds the functions in the library that the runtime has loaded, or will load. */
    EmulatedFaults() {
        var found = new AtomicReference<SymbolLookup>();
        NativeLibrary.loadBackend("lamina_cuda_emulated",
                file -> found.set(SymbolLookup.libraryLookup(file, Arena.global())));
        library = found.get();
    }

    private Object call(String function, Class<?> result, Object... arguments) {
        var layouts = new MemoryLayout[arguments.length];
        for (int i = 0; i < layouts.length; i++) {
            layouts[i] = arguments[i] instanceof Long ? ValueLayout.JAVA_LONG : ValueLayout.JAVA_INT;
        }
        var descriptor = result == void.class
                ? FunctionDescriptor.ofVoid(layouts)
                : FunctionDescriptor.of(ValueLayout.JAVA_LONG, layouts);
        MethodHandle handle = LINKER.downcallHandle(library.find(function).orElseThrow(), descriptor);
        try {
            return handle.invokeWithArguments(arguments);
        } catch (Throwable e) {
            throw new IllegalStateException(function, e);
        }
    }

    /** One call of a kind fails, with one of CUDA's errors, once {@code after} more have worked. */
    void fail(Call call, long after, int error) {
        call("emulated_fail", void.class, call.ordinal(), after, error);
    }

    /** The memory of the first GPU, in bytes. */
    void memory(long bytes) {
        call("emulated_memory", void.class, 0, bytes);
    }

    /** The driver: for CUDA {@code 1000 * major + 10 * minor}, 0 for none; and the GPUs that it finds. */
    void driver(int version, int devices) {
        call("emulated_driver", void.class, version, devices);
    }

    /** Bytes of the first GPU's memory that are taken. */
    long used() {
        return (long) call("emulated_used", long.class, 0);
    }

    /** The most bytes of it that were taken since the last reset. */
    long peak() {
        return (long) call("emulated_peak", long.class, 0);
    }

    /** Bytes of host memory that are page-locked. */
    long pinned() {
        return (long) call("emulated_pinned", long.class);
    }

    /** Streams and events that were not destroyed. */
    long handles() {
        return (long) call("emulated_handles", long.class);
    }

    /** Calls of a kind since the last reset. */
    long calls(Call call) {
        return (long) call("emulated_calls", long.class, call.ordinal());
    }

    /** Nothing goes wrong any more. */
    void reset() {
        call("emulated_reset", void.class);
    }
}
