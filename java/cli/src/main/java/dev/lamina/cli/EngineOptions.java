package dev.lamina.cli;

import dev.lamina.LaminaException;
import dev.lamina.ModelOptions;
import java.nio.file.Path;
import java.util.Objects;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

/** Options that say what a model may use of the machine. All but {@code --mode} leave its answers as they are. */
final class EngineOptions {
    @Option(names = "--memory", paramLabel = "SIZE|auto", converter = Memory.class,
            description = "Most memory to hold for weights, KV cache and activations, such as 2GiB; auto: what the "
                    + "machine and its control group leave free, less a reserve. Default: auto.")
    private @Nullable Long memory;

    @Option(names = "--device-memory", paramLabel = "SIZE|auto", converter = Memory.class,
            description = "The same of each GPU. Default: auto, nine tenths of what is free there.")
    private @Nullable Long deviceMemory;

    @Option(names = "--threads", paramLabel = "N", description = "Threads that compute. Default: one a core.")
    private @Nullable Integer threads;

    @Option(names = "--device", paramLabel = "cpu|cuda[:N][,...]|auto",
            description = "What computes: the processor, a GPU by its number, several over which the layers are "
                    + "spread, or all there are (auto; where there is none, the processor). Default: cpu.")
    private @Nullable String device;

    @Option(names = "--mode", paramLabel = "exact|fast",
            description = "How exact a GPU computes; fast: products on tensor cores, with activations rounded to the "
                    + "type of the weights. Default: exact.")
    private ModelOptions.@Nullable Mode mode;

    @Option(names = "--host-compute",
            description = "With --mode fast, let the processor compute panels in host memory, in sweeps of few rows, "
                    + "where it was measured to be faster than copying them to the GPU. Results then depend on the "
                    + "plan (inspect --plan --save-plan keeps it) and on how many prompts run together.")
    private boolean hostCompute;

    @Option(names = "--predict-experts",
            description = "Read ahead the experts of a mixture that the next layer's router would choose now, with "
                    + "bandwidth that nothing else uses. Results are the same.")
    private boolean predictExperts;

    @Option(names = "--prefetch", paramLabel = "N",
            description = "Panels to read ahead; 0: read and compute in turn. Default: chosen.")
    private @Nullable Integer prefetch;

    @Option(names = "--panel", paramLabel = "SIZE", converter = Size.class,
            description = "Most bytes of weights to read and compute at a time. Default: chosen.")
    private @Nullable Long panel;

    @Option(names = "--context", paramLabel = "N",
            description = "Positions of the KV cache. Default: prompt and answer; in a chat the least of the model's "
                    + "limit, 4096 and what fits.")
    private @Nullable Integer context;

    @Option(names = "--kv", paramLabel = "f32|f16",
            description = "Numbers in the KV cache; f16 halves it. Default: f32.")
    private ModelOptions.@Nullable KvType kv;

    @Option(names = "--io", paramLabel = "auto|direct|channel|pread|uring|buffered|gds",
            description = "How to read: past the page cache in the way that is best for the drive (auto; direct: or "
                    + "not at all), in a given way, through the page cache, or straight into a GPU's memory (gds: "
                    + "cuFile). Default: auto.")
    private ModelOptions.@Nullable Io io;

    @Option(names = "--io-limit", paramLabel = "RATE", converter = Rate.class,
            description = "Read no more than this a second, such as 550MB/s, to see how a slower drive would do.")
    private @Nullable Long ioLimit;

    @Option(names = "--use-plan", paramLabel = "FILE",
            description = "Do as a plan says that inspect --plan --save-plan wrote, instead of --memory, "
                    + "--device-memory, --device, --panel and --prefetch.")
    private @Nullable Path usePlan;

    @Spec(Spec.Target.MIXEE)
    private CommandSpec spec;

    /** A size above 0. */
    static final class Size implements ITypeConverter<Long> {
        @Override
        public Long convert(String text) {
            try {
                long bytes = ModelOptions.parseSize(text);
                if (bytes > 0) {
                    return bytes;
                }
            } catch (LaminaException e) {
                throw new TypeConversionException(String.valueOf(e.getMessage()));
            }
            throw new TypeConversionException("must be more than 0");
        }
    }

    /** A size above 0, or {@code auto}, which is 0. */
    static final class Memory implements ITypeConverter<Long> {
        @Override
        public Long convert(String text) {
            return text.strip().equalsIgnoreCase("auto") ? 0 : new Size().convert(text);
        }
    }

    /** A size a second, above 0. */
    static final class Rate implements ITypeConverter<Long> {
        @Override
        public Long convert(String text) {
            return new Size().convert(text.strip().replaceFirst("/s$", ""));
        }
    }

    /** Whether any of them was given. */
    boolean given() {
        return hostCompute || predictExperts
                || Stream.of(memory, deviceMemory, threads, device, mode, prefetch, panel, context, kv, io, ioLimit,
                        usePlan)
                .anyMatch(Objects::nonNull);
    }

    /** The options, checked. */
    ModelOptions options() {
        requirePositive("--threads", threads);
        requirePositive("--context", context);
        if (prefetch != null && prefetch < 0) {
            throw new ParameterException(spec.commandLine(), "--prefetch must be 0 or more, not " + prefetch);
        }
        if (usePlan != null
                && Stream.of(memory, deviceMemory, device, panel, prefetch).anyMatch(Objects::nonNull)) {
            throw new ParameterException(spec.commandLine(),
                    "--use-plan says what --memory, --device-memory, --device, --panel and --prefetch are: "
                            + "leave them out");
        }
        if (hostCompute && mode != ModelOptions.Mode.FAST) {
            throw new ParameterException(spec.commandLine(), "--host-compute needs --mode fast");
        }
        return checked(spec, () -> {
            var builder = ModelOptions.builder().hostCompute(hostCompute).predictExperts(predictExperts);
            if (memory != null) {
                builder.memory(memory);
            }
            if (deviceMemory != null) {
                builder.deviceMemory(deviceMemory);
            }
            if (threads != null) {
                builder.threads(threads);
            }
            if (device != null) {
                builder.device(device);
            }
            if (mode != null) {
                builder.mode(mode);
            }
            if (prefetch != null) {
                builder.prefetch(prefetch);
            }
            if (panel != null) {
                builder.panel(panel);
            }
            if (context != null) {
                builder.context(context);
            }
            if (kv != null) {
                builder.kv(kv);
            }
            if (io != null) {
                builder.io(io);
            }
            if (ioLimit != null) {
                builder.ioLimit(ioLimit);
            }
            return builder.plan(usePlan).build();
        });
    }

    private void requirePositive(String option, @Nullable Integer value) {
        if (value != null && value < 1) {
            throw new ParameterException(spec.commandLine(), option + " must be 1 or more, not " + value);
        }
    }

    /** Makes options; what they refuse is wrong usage. */
    static <T> T checked(CommandSpec spec, Supplier<T> options) {
        try {
            return options.get();
        } catch (LaminaException e) {
            throw new ParameterException(spec.commandLine(), String.valueOf(e.getMessage()), e);
        }
    }
}
