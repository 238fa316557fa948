package dev.lamina;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Locale;
import java.util.ServiceLoader;
import java.util.concurrent.CompletableFuture;

/**
 * Reads ranges of files into memory of a device, or into page-locked host memory, past the page cache: for applications
 * that want bytes on a GPU, and no language model.
 *
 * {@snippet :
 * try (var reader = DeviceReader.open("cuda")) {
 *     var file = reader.openFile(Path.of("weights.safetensors"));
 *     var memory = reader.allocate(file.size());       // on the GPU
 *     file.read(0, memory).join();                     // or .thenRun(...): the GPU has the bytes now
 *     System.out.println(reader.stats());
 * }
 * }
 *
 * <p><b>Memory.</b> What {@link #allocate} and {@link #allocateHost} return, and slices of it, is what can be read
 * into; it is freed with {@link #free} or when the reader is closed. Memory of a GPU has an address that means nothing
 * to Java: a program that looks into it gets a {@link WrongThreadException} on every thread, and passes {@code
 * MemorySegment.ofAddress(memory.address())} to native calls that want it. Until a read is complete nothing else may
 * use its memory, and two reads must not overlap in memory.
 *
 * <p><b>Threads.</b> All methods may be called from any thread. Reads are done by threads of the reader, in the order
 * in which they were asked for, several at the same time. What depends on a future runs on one of these threads, or on
 * the one that asked, or closed; it should be short, and may ask for reads but not wait for one. On threads of the
 * reader {@link #free}, {@link #close} and {@link Source#close} are refused.
 *
 * <p><b>Errors.</b> What goes wrong is a {@link LaminaException}; a read that fails completes its future with one, and
 * its memory has any content. When a future has completed, nothing writes to the memory of its read any more, with one
 * exception: a read whose future was cancelled, or completed by the program, ends within the pieces that are under
 * way; {@link #free} and {@link #close} wait for these.
 */
public interface DeviceReader extends AutoCloseable {
    /**
     * Opens a reader with the options that suit most drives.
     *
     * @param device {@code "cpu"}, {@code "cuda"} or {@code "cuda:1"} (one of several GPUs)
     * @throws LaminaException if the device cannot be used here; the message says why
     */
    static DeviceReader open(String device) {
        return open(DeviceReaderOptions.of(device));
    }

    /**
     * Opens a reader.
     *
     * @throws LaminaException if the device cannot be used here; the message says why
     */
    static DeviceReader open(DeviceReaderOptions options) {
        return ServiceLoader.load(DeviceReaderProvider.class, DeviceReaderProvider.class.getClassLoader())
                .findFirst()
                .orElseThrow(() -> new LaminaException(
                        "No provider of device readers on the class path: the jar of Lamina is incomplete."))
                .open(options);
    }

    /** A file that is open for reading. It is closed with its reader, if not before. */
    interface Source extends AutoCloseable {
        /** The path it was opened with. */
        Path path();

        /** Bytes it had when it was opened. */
        long size();

        /** How its bytes get into device memory: {@link DeviceReaderOptions.Method#GDS} or {@code STAGED}. */
        DeviceReaderOptions.Method method();

        /**
         * Whether bytes need not pass through host memory on their way to the device, if the drive and its file system
         * let them; false: they surely do.
         */
        boolean direct();

        /**
         * Reads as many bytes as the memory has, and returns at once.
         *
         * @param offset of the first byte in the file; any
         * @param to memory of this reader, or a slice of it at any byte; aligned to 4096 bytes, like the offset, it is
         *     read into without a copy by the processor
         * @return completes when all bytes are there
         * @throws LaminaException if the range ends beyond the file, the memory is not of this reader, or the file or
         *     the reader is closed
         */
        CompletableFuture<Void> read(long offset, MemorySegment to);

        /** Closes the file. Reads that are not complete fail; waits for what is under way. Twice does nothing. */
        @Override
        void close();
    }

    /**
     * What was read.
     *
     * @param bytes that reads brought
     * @param seconds during which at least one read was not complete
     */
    record Stats(long bytes, double seconds) {
        /** The rate while reading; 0 before the first read. */
        public double bytesPerSecond() {
            return seconds > 0 ? bytes / seconds : 0;
        }

        /** For people, such as {@code "1.50 GB in 0.50 s, 3.00 GB/s"}. */
        @Override
        public String toString() {
            return String.format(Locale.ROOT, "%.2f GB in %.2f s, %.2f GB/s", bytes / 1e9, seconds,
                    bytesPerSecond() / 1e9);
        }
    }

    /** The device, for people. */
    String device();

    /**
     * Opens a file.
     *
     * @param file a regular file
     * @throws LaminaException if it cannot be read, or not in the way that the options demand
     */
    Source openFile(Path file);

    /**
     * Allocates zeroed memory of the device, aligned to 4096 bytes.
     *
     * @param bytes above 0
     * @throws LaminaException if there is not so much
     */
    MemorySegment allocate(long bytes);

    /**
     * Allocates host memory, page-locked where the device wants it, aligned to 4096 bytes, of any content. Java may
     * use it from any thread until it is freed.
     *
     * @param bytes above 0
     * @throws LaminaException if there is not so much
     */
    MemorySegment allocateHost(long bytes);

    /**
     * Frees memory. Reads into it that are not complete fail; waits for what is under way.
     *
     * @param memory what {@link #allocate} or {@link #allocateHost} returned, no slice of it
     */
    void free(MemorySegment memory);

    /**
     * Copies memory of this reader to where Java can look at it, and waits for that.
     *
     * @param from memory of this reader, or a slice of it
     * @param to any memory of the same size
     */
    void copyToHost(MemorySegment from, MemorySegment to);

    /** What was read so far; may be asked for after closing. */
    Stats stats();

    /**
     * Fails the reads that are not complete, waits for what is under way, and frees all memory, files and threads.
     * Closing twice does nothing.
     */
    @Override
    void close();
}
