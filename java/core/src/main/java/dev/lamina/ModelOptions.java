package dev.lamina;

import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/**
 * How a model is opened. Build one with {@link #builder}.
 *
 * @param memory host memory that Lamina may hold for this model, in bytes: staging ring, resident panels, KV caches and
 *     activations together stay below it; 0: what the machine and its control group leave free, less a reserve
 * @param deviceMemory the same of each GPU; 0: nine tenths of what is free there
 * @param threads threads that compute; 0: one a core
 * @param prefetch panels that are read ahead; 0: reading and computing take turns; -1: chosen for the disk
 * @param panel most bytes of a panel; 0: chosen
 * @param context positions of a KV cache; 0: what a call needs (a conversation: the least of the model's limit, 4096
 *     and what fits)
 * @param kv element type of KV caches
 * @param io how files are read
 * @param ioLimit most bytes a second that are read from files, to stand in for a slower drive; 0: no limit
 * @param shards all folders of a shard set, in any order: the weights are read from them, from drives that they are on
 *     at the same time, and configuration and tokenizer too. The model's folder may be one of them, or the folder that
 *     they were split from, or what is left of it. Empty: the model's folder holds all of it
 * @param profile whether to note what is read, waited for and computed
 * @param device what computes: {@code "cpu"}, {@code "cuda"}, {@code "cuda:1"} (one of several GPUs),
 *     {@code "cuda:0,cuda:1"} (the layers are spread over them) or {@code "auto"} (all GPUs, or the CPU where there is
 *     none)
 * @param mode how exact a GPU computes
 * @param hostCompute whether the host's processor may compute panels in host memory, in sweeps of up to 8 rows, where
 *     it was measured to be faster than copying them to the GPU; with {@link Mode#FAST} only. It does not round, so
 *     that results depend on which panels it computes and on how many rows a sweep has: they are at least as exact as
 *     without, but have the same bits only with the same {@code plan}, calls and batch. Without effect where no panel
 *     is in host memory that a GPU would get copied
 * @param predictExperts whether the experts of a mixture that rows may choose in the next layer are read ahead, with
 *     bandwidth that nothing else uses: those that its router chooses on what is known in this layer. Results are the
 *     same. Without effect on other models
 * @param plan a file of {@link LanguageModel#savePlan}, which says what memory, deviceMemory, device, panel and
 *     prefetch are, which must have their defaults here, and which panels go where; null: none
 */
public record ModelOptions(long memory, long deviceMemory, int threads, int prefetch, long panel, int context,
        KvType kv, Io io, long ioLimit, List<Path> shards, boolean profile, String device, Mode mode,
        boolean hostCompute, boolean predictExperts, @Nullable Path plan) {
    /** Element type of a KV cache. */
    public enum KvType {
        /** 4 bytes an element. */
        F32,
        /** 2 bytes an element, rounded. */
        F16
    }

    /** How exact a GPU computes. The CPU has one way, which is exact. */
    public enum Mode {
        /** In f32, apart from the order of sums like the CPU. */
        EXACT,
        /** Products on tensor cores: activations are rounded to the type of the weights, sums stay f32. */
        FAST
    }

    /** How files are read. */
    public enum Io {
        /**
         * Past the page cache, in the way that was measured to be the best for the drive; through the page cache where
         * the file system refuses.
         */
        AUTO,
        /** Past the page cache, in the way that was measured to be the best for the drive, or not at all. */
        DIRECT,
        /** Past the page cache, with file channels of the Java runtime. */
        CHANNEL,
        /** Past the page cache, with the system call pread. */
        PREAD,
        /** Past the page cache, with io_uring of Linux. */
        URING,
        /** Through the page cache, which is told to drop what was read. */
        BUFFERED,
        /**
         * Straight into the memory of a GPU, with cuFile (GPUDirect Storage): panels are in no host memory then, and
         * those that stay are on the GPU. A MiB with a checksum is read a second time, into host memory, at its first
         * read. Shard sets are aligned as the kernels like it; of other checkpoints some tensors may be computed slowly.
         */
        GDS
    }

    /** Checks the ranges. */
    public ModelOptions {
        require(memory >= 0, "memory", memory);
        require(deviceMemory >= 0, "deviceMemory", deviceMemory);
        require(threads >= 0 && threads <= 1024, "threads", threads);
        require(prefetch >= -1 && prefetch <= 4096, "prefetch", prefetch);
        require(panel >= 0 && panel <= 1L << 30, "panel", panel);
        require(context >= 0, "context", context);
        require(ioLimit >= 0, "ioLimit", ioLimit);
        shards = List.copyOf(shards);
        if (hostCompute && mode != Mode.FAST) {
            throw new LaminaException("The option hostCompute changes results, as mode FAST does: give it with that.");
        }
    }

    private static void require(boolean fits, String name, long value) {
        if (!fits) {
            throw new LaminaException("The option " + name + " cannot be " + value + ".");
        }
    }

    /** Options with all defaults. */
    public static ModelOptions defaults() {
        return builder().build();
    }

    /** Begins with all defaults. */
    public static Builder builder() {
        return new Builder();
    }

    /** Begins with these options. */
    public Builder toBuilder() {
        return builder().memory(memory).deviceMemory(deviceMemory).threads(threads).prefetch(prefetch).panel(panel)
                .context(context).kv(kv).io(io).ioLimit(ioLimit).shards(shards).profile(profile).device(device)
                .mode(mode).hostCompute(hostCompute).predictExperts(predictExperts).plan(plan);
    }

    /** Builds {@link ModelOptions}. */
    public static final class Builder {
        private long memory;
        private long deviceMemory;
        private int threads;
        private int prefetch = -1;
        private long panel;
        private int context;
        private KvType kv = KvType.F32;
        private Io io = Io.AUTO;
        private long ioLimit;
        private List<Path> shards = List.of();
        private boolean profile;
        private String device = "cpu";
        private Mode mode = Mode.EXACT;
        private boolean hostCompute;
        private boolean predictExperts;
        private @Nullable Path plan;

        private Builder() {}

        /** Host memory in bytes; 0: chosen. */
        public Builder memory(long bytes) {
            this.memory = bytes;
            return this;
        }

        /** Host memory such as {@code "2GiB"} or {@code "512MB"}. */
        public Builder memory(String size) {
            return memory(parseSize(size));
        }

        /** Memory of each GPU in bytes; 0: chosen. */
        public Builder deviceMemory(long bytes) {
            this.deviceMemory = bytes;
            return this;
        }

        /** Threads that compute; 0: one a core. */
        public Builder threads(int count) {
            this.threads = count;
            return this;
        }

        /** Panels read ahead; -1: chosen. */
        public Builder prefetch(int panels) {
            this.prefetch = panels;
            return this;
        }

        /** Most bytes of a panel; 0: chosen. */
        public Builder panel(long bytes) {
            this.panel = bytes;
            return this;
        }

        /** Positions of a KV cache; 0: chosen. */
        public Builder context(int positions) {
            this.context = positions;
            return this;
        }

        /** Element type of KV caches. */
        public Builder kv(KvType type) {
            this.kv = type;
            return this;
        }

        /** How files are read. */
        public Builder io(Io mode) {
            this.io = mode;
            return this;
        }

        /** Most bytes a second that are read from files; 0: no limit. */
        public Builder ioLimit(long bytesPerSecond) {
            this.ioLimit = bytesPerSecond;
            return this;
        }

        /** Folders of a shard set that was split over several drives. */
        public Builder shards(List<Path> folders) {
            this.shards = folders;
            return this;
        }

        /** Whether to note what is read, waited for and computed. */
        public Builder profile(boolean on) {
            this.profile = on;
            return this;
        }

        /** What computes: {@code "cpu"}, {@code "cuda"}, {@code "cuda:1"}, several of these, or {@code "auto"}. */
        public Builder device(String name) {
            this.device = name;
            return this;
        }

        /** How exact a GPU computes. */
        public Builder mode(Mode exactness) {
            this.mode = exactness;
            return this;
        }

        /** Whether the host's processor may compute panels in host memory; with {@link Mode#FAST} only. */
        public Builder hostCompute(boolean on) {
            this.hostCompute = on;
            return this;
        }

        /** Whether experts that rows may choose next are read ahead. */
        public Builder predictExperts(boolean on) {
            this.predictExperts = on;
            return this;
        }

        /** A plan that was saved; null: none. */
        public Builder plan(@Nullable Path file) {
            this.plan = file;
            return this;
        }

        /** The options. */
        public ModelOptions build() {
            return new ModelOptions(memory, deviceMemory, threads, prefetch, panel, context, kv, io, ioLimit, shards,
                    profile, device, mode, hostCompute, predictExperts, plan);
        }
    }

    /**
     * Reads a size: a number, then B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024), or K, M, G,
     * T (powers of 1024), in any case; no unit means bytes.
     *
     * @return bytes
     * @throws LaminaException if it is no size
     */
    public static long parseSize(String text) {
        var trimmed = text.strip();
        int end = 0;
        while (end < trimmed.length() && (Character.isDigit(trimmed.charAt(end)) || trimmed.charAt(end) == '.')) {
            end++;
        }
        double unit = switch (trimmed.substring(end).strip().toLowerCase(Locale.ROOT)) {
            case "", "b" -> 1;
            case "kb" -> 1e3;
            case "mb" -> 1e6;
            case "gb" -> 1e9;
            case "tb" -> 1e12;
            case "k", "kib" -> 0x1p10;
            case "m", "mib" -> 0x1p20;
            case "g", "gib" -> 0x1p30;
            case "t", "tib" -> 0x1p40;
            default -> Double.NaN;
        };
        try {
            double bytes = Double.parseDouble(trimmed.substring(0, end)) * unit;
            if (bytes >= 0 && bytes < 0x1p62) {
                return (long) bytes;
            }
        } catch (NumberFormatException e) {
            // Falls through to the one message for all that is no size.
        }
        throw new LaminaException("\"" + text + "\" is not a size: write it like 512MiB, 2GiB or 1.5GB.");
    }
}
