package dev.lamina.internal.runtime;

import dev.lamina.LaminaException;
import dev.lamina.bindings.NativeLibrary;
import dev.lamina.bindings.lamina_h;
import dev.lamina.bindings.lm_abi;
import dev.lamina.bindings.lm_device_info;
import dev.lamina.bindings.lm_device_options;
import dev.lamina.bindings.lm_kv_layer;
import dev.lamina.bindings.lm_op;
import dev.lamina.bindings.lm_read;
import dev.lamina.bindings.lm_read_result;
import dev.lamina.bindings.lm_step;
import dev.lamina.bindings.lm_view;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;

/**
 * A processor that computes, with its threads and its memory. Allocation may be used from any thread. What was
 * allocated is freed before the device is closed.
 */
public final class Device implements HostMemory, AutoCloseable {
    private static final Pattern NAME = Pattern.compile("cpu|(cuda|cuda-emulated)(?::([0-9]{1,4}))?");
    private static final String[] SIMD_NAMES = {"auto", "plain", "avx2", "avx512", "neon"};

    /**
     * What a device is.
     *
     * @param name of the processor
     * @param backend such as {@code "cpu"}
     * @param threads of the CPU that compute
     * @param simd the instruction set of the CPU in use
     * @param simdSupported all that can run here
     * @param unified whether it reads host memory in place; else it has memory of its own
     * @param memoryBytes of its own memory
     * @param freeBytes of those, how many nobody had taken when it was opened
     * @param fast whether it may round the activations of a product to the type of its weights
     */
    public record Info(String name, String backend, int threads, String simd, List<String> simdSupported,
            boolean unified, long memoryBytes, long freeBytes, boolean fast) {
        @Override
        public String toString() {
            return unified
                    ? backend + " (" + simd + ", " + threads + (threads == 1 ? " thread)" : " threads)")
                    : backend + " (" + name + ", " + (memoryBytes >> 20) + "MiB)";
        }
    }

    private final MemorySegment handle;
    private final String name;
    private final Info info;

    private Device(MemorySegment handle, String name) {
        this.handle = handle;
        this.name = name;
        try {
            this.info = readInfo(handle, name);
        } catch (RuntimeException e) {
            lamina_h.lm_device_close(handle);
            throw e;
        }
    }

    /**
     * Opens a device by its name.
     *
     * @param name {@code "cpu"}, {@code "cuda"}, {@code "cuda:1"} or {@code "cuda-emulated"}
     * @param threads of the CPU that compute; 0: one a core
     * @param fast whether a GPU may round the activations of a product to the type of its weights
     * @throws LaminaException there is no such device, or it cannot be used; the message says why
     */
    public static Device open(String name, int threads, boolean fast) {
        var parts = NAME.matcher(name);
        if (!parts.matches()) {
            throw new LaminaException("There is no device " + name
                    + ": use cpu, cuda, cuda:N for one of several, or auto alone.");
        }
        if (name.equals("cpu")) {
            return openCpu(threads);
        }
        int backend = loadBackend(parts.group(1));
        int ordinal = parts.group(2) == null ? 0 : Integer.parseInt(parts.group(2));
        try (var arena = Arena.ofConfined()) {
            var options = lm_device_options.allocate(arena);
            lm_device_options.backend(options, backend);
            lm_device_options.ordinal(options, ordinal);
            lm_device_options.mode(options, fast ? lamina_h.LM_MODE_FAST() : lamina_h.LM_MODE_EXACT());
            var out = arena.allocate(ValueLayout.ADDRESS);
            Status.checkOpened(lamina_h.lm_device_open(options, out), name);
            return new Device(out.get(ValueLayout.ADDRESS, 0), parts.group(1) + ":" + ordinal);
        }
    }

    /**
     * How many devices there are of a kind.
     *
     * @param kind {@code "cuda"} or {@code "cuda-emulated"}
     * @throws LaminaException they cannot be used here; the message says why
     */
    public static int count(String kind) {
        int backend = loadBackend(kind);
        try (var arena = Arena.ofConfined()) {
            var out = arena.allocate(ValueLayout.JAVA_INT);
            Status.checkOpened(lamina_h.lm_device_count(backend, out), kind);
            return out.get(ValueLayout.JAVA_INT, 0);
        }
    }

    private static int loadBackend(String kind) {
        loadLibrary();
        boolean emulated = kind.equals("cuda-emulated");
        int backend = emulated ? lamina_h.LM_BACKEND_CUDA_EMULATED() : lamina_h.LM_BACKEND_CUDA();
        try (var arena = Arena.ofConfined()) {
            NativeLibrary.loadBackend(emulated ? "lamina_cuda_emulated" : "lamina_cuda", file -> Status.check(
                    lamina_h.lm_backend_load(backend, arena.allocateFrom(file.toString()))));
            return backend;
        } catch (UnsatisfiedLinkError e) {
            throw new LaminaException("The device " + kind + " cannot be used: " + e.getMessage()
                    + ". Use --device cpu, or build Lamina where nvcc is installed.", e);
        }
    }

    /**
     * Opens the CPU. The environment variable {@code LAMINA_SIMD} forces an instruction set.
     *
     * @param threads that compute; 0: one a core
     */
    public static Device openCpu(int threads) {
        loadLibrary();
        try (var arena = Arena.ofConfined()) {
            var options = lm_device_options.allocate(arena);
            lm_device_options.backend(options, lamina_h.LM_BACKEND_CPU());
            lm_device_options.threads(options, threads);
            lm_device_options.simd(options, lamina_h.LM_SIMD_AUTO());
            var out = arena.allocate(ValueLayout.ADDRESS);
            Status.check(lamina_h.lm_device_open(options, out));
            return new Device(out.get(ValueLayout.ADDRESS, 0), "cpu");
        }
    }

    /** Loads the native library, if it is not, and makes sure that it fits the bindings. */
    static void loadLibrary() {
        try {
            NativeLibrary.load();
            checkAbi();
        } catch (UnsatisfiedLinkError e) {
            throw new LaminaException("Cannot load the native library: " + e.getMessage(), e);
        }
    }

    /**
     * Compares the structs of the loaded library with those of the bindings: a stale library must not crash the JVM.
     */
    private static void checkAbi() {
        try (var arena = Arena.ofConfined()) {
            var abi = lm_abi.allocate(arena);
            Status.check(lamina_h.lm_get_abi(abi));
            boolean fits = lm_abi.version(abi) == lamina_h.LM_ABI_VERSION()
                    && lm_abi.size_abi(abi) == lm_abi.sizeof()
                    && lm_abi.size_device_options(abi) == lm_device_options.sizeof()
                    && lm_abi.size_device_info(abi) == lm_device_info.sizeof()
                    && lm_abi.size_kv_layer(abi) == lm_kv_layer.sizeof()
                    && lm_abi.size_view(abi) == lm_view.sizeof()
                    && lm_abi.size_op(abi) == lm_op.sizeof()
                    && lm_abi.size_step(abi) == lm_step.sizeof()
                    && lm_abi.size_read(abi) == lm_read.sizeof()
                    && lm_abi.size_read_result(abi) == lm_read_result.sizeof();
            if (!fits) {
                throw new LaminaException("The native library has interface version " + lm_abi.version(abi)
                        + " or other struct sizes than the bindings (version " + lamina_h.LM_ABI_VERSION()
                        + "): build both from the same sources.");
            }
        }
    }

    private static Info readInfo(MemorySegment handle, String name) {
        try (var arena = Arena.ofConfined()) {
            var info = lm_device_info.allocate(arena);
            Status.checkOpened(lamina_h.lm_device_get_info(handle, info), name);
            var supported = new ArrayList<String>();
            for (int simd = 1; simd < SIMD_NAMES.length; simd++) {
                if ((lm_device_info.simd_supported(info) & 1 << simd) != 0) {
                    supported.add(SIMD_NAMES[simd]);
                }
            }
            int backend = lm_device_info.backend(info);
            var backendName = backend == lamina_h.LM_BACKEND_CPU() ? "cpu"
                    : backend == lamina_h.LM_BACKEND_CUDA() ? "cuda" : "cuda-emulated";
            return new Info(lm_device_info.name(info).getString(0), backendName, lm_device_info.threads(info),
                    SIMD_NAMES[lm_device_info.simd(info)], List.copyOf(supported), lm_device_info.unified(info) != 0,
                    lm_device_info.memory_bytes(info), lm_device_info.free_bytes(info),
                    lm_device_info.mode(info) == lamina_h.LM_MODE_FAST());
        }
    }

    /** Lamina's folder for what can be made again. */
    public static Path cacheFolder() {
        return NativeLibrary.cacheFolder();
    }

    /** Its name for {@link #open}, with its number where it has one. */
    public String name() {
        return name;
    }

    /** What this device is. */
    public Info info() {
        return info;
    }

    /** Throws if a call to this device failed. */
    void check(int status) {
        if (info.unified()) {
            Status.check(status);
        } else {
            Status.checkGpu(status, name + " (" + info.name() + ")");
        }
    }

    @Override
    public MemorySegment allocate(long bytes) {
        try (var arena = Arena.ofConfined()) {
            var out = arena.allocate(ValueLayout.ADDRESS);
            check(lamina_h.lm_host_alloc(handle, bytes, out));
            return out.get(ValueLayout.ADDRESS, 0).reinterpret(bytes);
        }
    }

    @Override
    public void free(MemorySegment memory) {
        check(lamina_h.lm_host_free(handle, memory, memory.byteSize()));
    }

    /** Allocates zeroed memory of the device; only the device reads and writes it. */
    public MemorySegment allocateOnDevice(long bytes) {
        try (var arena = Arena.ofConfined()) {
            var out = arena.allocate(ValueLayout.ADDRESS);
            check(lamina_h.lm_device_alloc(handle, bytes, out));
            return out.get(ValueLayout.ADDRESS, 0).reinterpret(bytes);
        }
    }

    /** Frees what {@link #allocateOnDevice} returned. */
    public void freeOnDevice(MemorySegment memory) {
        check(lamina_h.lm_device_free(handle, memory, memory.byteSize()));
    }

    /** The device's own memory, for panels that are read straight into it: see {@link #allocateOnDevice}. */
    public HostMemory panelMemory() {
        return new HostMemory() {
            @Override
            public MemorySegment allocate(long bytes) {
                return allocateOnDevice(bytes);
            }

            @Override
            public void free(MemorySegment memory) {
                freeOnDevice(memory);
            }
        };
    }

    /** Opens a queue of work. */
    public Queue openQueue() {
        try (var arena = Arena.ofConfined()) {
            var out = arena.allocate(ValueLayout.ADDRESS);
            check(lamina_h.lm_queue_create(handle, out));
            return new Queue(this, out.get(ValueLayout.ADDRESS, 0));
        }
    }

    /**
     * Opens a file to be read into memory of this device.
     *
     * @throws UnsupportedOperationException there is no cuFile here, or it cannot read this file; the message says why
     * @throws IOException the file cannot be opened
     */
    public DeviceFile openFile(Path path) throws IOException {
        return DeviceFile.open(handle, path);
    }

    /**
     * Makes a KV cache for one sequence of at most {@code capacity} positions.
     *
     * @param hostLayers how many of the last layers are in host memory, which the device reads over its bus
     */
    public KvCache createKv(KvLayout layout, int capacity, int hostLayers) {
        try (var arena = Arena.ofConfined()) {
            var out = arena.allocate(ValueLayout.ADDRESS);
            check(lamina_h.lm_kv_create(
                    handle, layout.toNative(arena), layout.layers().size(), capacity, layout.dtype(), hostLayers,
                    out));
            return new KvCache(out.get(ValueLayout.ADDRESS, 0), capacity, layout.bytes(capacity));
        }
    }

    @Override
    public void close() {
        check(lamina_h.lm_device_close(handle));
    }
}
