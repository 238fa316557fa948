package dev.lamina;

/**
 * How a {@link DeviceReader} reads.
 *
 * @param device whose memory is read into: {@code "cpu"}, {@code "cuda"} or {@code "cuda:1"} (one of several GPUs)
 * @param method how bytes get into device memory
 * @param readers threads that read, 1 to 64
 * @param requestBytes most bytes of one read of a file: 1 MiB to 512 MiB, a multiple of 1 MiB. Where bytes are staged,
 *     each reader has two page-locked slots of this size
 */
public record DeviceReaderOptions(String device, Method method, int readers, int requestBytes) {
    private static final int MIB = 1 << 20;

    /** How bytes get into device memory. */
    public enum Method {
        /** As {@link #GDS} where that leaves host memory out, otherwise as {@link #STAGED}. */
        AUTO,
        /**
         * By cuFile (GPUDirect Storage), or not at all. Where there is no way from the drive to the GPU, cuFile itself
         * goes through host memory, unless its configuration forbids that. It writes a file {@code cufile.log} when
         * something fails; {@code CUFILE_LOGFILE_PATH} says where. On {@code "cpu"} through the page cache.
         */
        GDS,
        /**
         * Past the page cache (through it where the file system has no direct reads) into page-locked slots, and from there by copies of the device; where device memory is
         * host memory, straight into it.
         */
        STAGED
    }

    /** Checks the ranges. */
    public DeviceReaderOptions {
        require(readers >= 1 && readers <= 64, "readers", readers);
        require(requestBytes >= MIB && requestBytes <= 512 * MIB && requestBytes % MIB == 0, "requestBytes",
                requestBytes);
    }

    private static void require(boolean fits, String name, int value) {
        if (!fits) {
            throw new LaminaException("The option " + name + " cannot be " + value + ".");
        }
    }

    /** What suits most drives: {@link Method#AUTO}, 4 readers, reads of 4 MiB. */
    public static DeviceReaderOptions of(String device) {
        return new DeviceReaderOptions(device, Method.AUTO, 4, 4 * MIB);
    }

    /** The same with another method. */
    public DeviceReaderOptions withMethod(Method other) {
        return new DeviceReaderOptions(device, other, readers, requestBytes);
    }

    /** The same with another number of reader threads. */
    public DeviceReaderOptions withReaders(int threads) {
        return new DeviceReaderOptions(device, method, threads, requestBytes);
    }

    /** The same with another size of reads. */
    public DeviceReaderOptions withRequestBytes(int bytes) {
        return new DeviceReaderOptions(device, method, readers, bytes);
    }
}
