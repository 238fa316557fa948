package dev.lamina.internal.generate;

import dev.lamina.Chat;
import dev.lamina.Generation;
import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.LogitsConsumer;
import dev.lamina.MemoryNeeds;
import dev.lamina.MemoryPlan;
import dev.lamina.Message;
import dev.lamina.ModelInfo;
import dev.lamina.ModelOptions;
import dev.lamina.Perplexity;
import dev.lamina.Profile;
import dev.lamina.Prompt;
import dev.lamina.Rates;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DurableFiles;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.model.KvShape;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.UnusedTensors;
import dev.lamina.internal.runtime.ComputeRate;
import dev.lamina.internal.runtime.FreeMemory;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.telemetry.Both;
import dev.lamina.internal.telemetry.Recorder;
import dev.lamina.internal.telemetry.Telemetry;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.locks.ReentrantLock;
import java.util.random.RandomGenerator;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/** A model whose weights stream from disk. */
final class StreamedModel implements LanguageModel {
    /** Tokens that one window of {@link #perplexity} scores together. */
    private static final int PERPLEXITY_WINDOW = 512;

    /** Positions of a conversation's context where nobody says and they fit. */
    private static final int CHAT_CONTEXT = 4096;

    /** A device keeps this share of what is free: for the kernels' code, and whatever else is on it. */
    private static final int DEVICE_RESERVE = 10;

    private static final System.Logger LOG = System.getLogger(StreamedModel.class.getName());
    private static final long DISK_RATE_BYTES = 4L << 30;
    private static final double DISK_RATE_SECONDS = 1.5;

    private final ModelOptions options;
    private final List<Processor> processors;
    private final @Nullable HostProcessor host;
    private final Weights weights;
    private final Budget budget;
    private final GenerationDefaults defaults;
    private final TextTools text;
    private final Telemetry telemetry;
    private final @Nullable Recorder recorder;
    private final ReentrantLock turn = new ReentrantLock(true);
    private volatile boolean cancelled;
    private volatile boolean closing;
    private boolean closed;

    private StreamedModel(ModelOptions options, List<Processor> processors, @Nullable HostProcessor host,
            Weights weights, Budget budget,
            GenerationDefaults defaults, TextTools text, Telemetry telemetry, @Nullable Recorder recorder) {
        this.options = options;
        this.processors = processors;
        this.host = host;
        this.weights = weights;
        this.budget = budget;
        this.defaults = defaults;
        this.text = text;
        this.telemetry = telemetry;
        this.recorder = recorder;
    }

    static StreamedModel open(Path directory, ModelOptions options) {
        if (!Files.isDirectory(directory)) {
            throw new LaminaException("There is no model folder " + directory
                    + ": give the folder of a Hugging Face model (safetensors or PyTorch .bin), or of a shard set.");
        }
        // each folder of a shard set has what a model needs beside its weights
        var folders = options.shards().isEmpty() ? List.of(directory) : options.shards();
        var config = ModelConfig.load(folders.getFirst());
        checkSameModel(directory, folders.getFirst());
        var checkpoint = Checkpoint.open(folders);
        var free = FreeMemory.now();
        var saved = options.plan() == null ? null : savedPlan(options, options.plan());
        long memory = saved != null ? saved.memory().host() : options.memory() > 0 ? options.memory() : free.budget();
        var name = saved != null ? new Budget.Name("The plan " + options.plan(), "as the plan " + options.plan()
                + " has it") : options.memory() > 0 ? Budget.Name.of(memory) : Budget.Name.of(free);
        long panel = saved != null ? saved.panelBytes() : options.panel();
        var defaults = GenerationDefaults.load(folders.getFirst(), config);
        // The Java runtime knows the limits of a container, which the native one does not.
        int threads = options.threads() > 0 ? options.threads() : Runtime.getRuntime().availableProcessors();
        var processors = Processor.open(saved != null ? saved.device() : options.device(), threads,
                options.mode() == ModelOptions.Mode.FAST);
        Weights weights = null;
        HostProcessor host = null;
        try {
            var use = saved != null ? saved.memory()
                    : new MemoryUse(memory, deviceMemory(processors, options.deviceMemory()));
            weights = Weights.open(checkpoint, config, processors, options, use, panel);
            if (saved != null && options.plan() != null) {
                saved.check(weights, options.hostCompute(), options.plan());
            }
            host = options.hostCompute() ? HostProcessor.open(weights, use, threads) : null;
            tellOfUnused(weights);
            var panels = weights.panelMap();
            var recorder = options.profile() ? new Recorder(panels) : null;
            var events = Telemetry.flightEvents(panels);
            var telemetry = recorder == null ? events : new Both(events, recorder);
            var budget = new Budget(weights, use, name, panel,
                    weights.streamOptions().withPrefetch(options.prefetch()).withBytesPerSecond(options.ioLimit()),
                    saved, host, telemetry);
            return new StreamedModel(options, processors, host, weights, budget, defaults,
                    new TextTools(folders.getFirst()), telemetry, recorder);
        } catch (Throwable e) {
            try {
                closeAll(processors, host, weights);
            } catch (Throwable closing) {
                e.addSuppressed(closing);
            }
            throw switch (e) {
                case RuntimeException unchecked -> unchecked;
                case Error error -> throw error;
                case IOException checked -> failure(checked);
                default -> new LaminaException(e.toString(), e);
            };
        }
    }

    private static void tellOfUnused(Weights weights) {
        var unused = UnusedTensors.of(weights.program(), weights.checkpoint());
        if (!unused.isEmpty()) {
            LOG.log(System.Logger.Level.DEBUG, "{0}: {1} tensors, {2} bytes, are not used by {3}: {4}.",
                    weights.checkpoint().directory(), unused.count(), unused.bytes(), weights.program().architecture(),
                    unused.examples());
        }
    }

    private static SavedPlan savedPlan(ModelOptions options, Path file) {
        var defaults = ModelOptions.defaults();
        if (options.memory() > 0 || options.deviceMemory() > 0 || options.panel() > 0
                || options.prefetch() != defaults.prefetch() || !options.device().equals(defaults.device())) {
            throw new LaminaException("The plan " + file + " says what memory, device memory, device, panel and "
                    + "prefetch are: give either a plan or these options.");
        }
        return SavedPlan.read(file);
    }

    /** What may be used of each device that has memory of its own; asked: 0 for what is free less a reserve. */
    private static List<Long> deviceMemory(List<Processor> processors, long asked) {
        return processors.stream()
                .map(processor -> processor.device().info())
                .filter(device -> !device.unified())
                .map(device -> asked > 0 ? asked : device.freeBytes() - device.freeBytes() / DEVICE_RESERVE)
                .toList();
    }

    private static void checkSameModel(Path model, Path shards) {
        var config = model.resolve("config.json");
        var copy = shards.resolve("config.json");
        try {
            if (Files.exists(config) && Files.mismatch(config, copy) >= 0) {
                throw new LaminaException(shards + " holds shards of another model than " + model
                        + ": their config.json differ. Name the shards of this model, or split it again.");
            }
        } catch (IOException e) {
            throw FileErrors.explain("cannot compare " + config + " with " + copy, e);
        }
    }

    private static LaminaException failure(IOException e) {
        return new LaminaException(e.getMessage() == null ? e.toString() : e.getMessage(), e);
    }

    /** Closes all of them, in order, and the processors at last, whatever goes wrong. */
    private static void closeAll(List<Processor> processors, @Nullable AutoCloseable... resources) {
        var all = new Closing();
        for (var resource : resources) {
            all.close(resource);
        }
        processors.forEach(all::close);
        all.end();
    }

    @Override
    public ModelInfo info() {
        var program = weights.program();
        return new ModelInfo(weights.checkpoint().directory(), program.architecture(),
                weights.checkpoint().manifest() != null, program.layers(), program.vocabulary(),
                program.contextLimit(), weights.parameters(), weights.schedule().weightBytes(),
                program.kv().stream().mapToLong(KvShape::perPosition).sum()
                        * (weights.kv().half() ? Short.BYTES : Float.BYTES),
                weights.reading(), processors.stream().map(processor -> processor.device().info().toString())
                        .collect(Collectors.joining(", ")));
    }

    @Override
    public MemoryNeeds memoryNeeds(int positions) {
        return inTurn(() -> budget.needs(positions));
    }

    @Override
    public MemoryPlan plan(long memory, int positions, Rates rates) {
        return inTurn(() -> budget.plan(memory, positions, rates));
    }

    @Override
    public Rates measureRates(boolean anew) {
        return inTurn(() -> {
            var known = weights.rates();
            boolean reads = anew || known.disk() == Rates.Origin.ASSUMED || weights.readings().size() > 1;
            var slowest = processors.stream()
                    .map(processor -> {
                        var rate = ComputeRate.measure(processor.device(), processor.queue());
                        processor.queue().trim();
                        return rate;
                    })
                    .min(Comparator.comparingDouble(ComputeRate::computeBytesPerSecond)).orElseThrow();
            return new Rates(reads ? diskRate() : known.diskBytesPerSecond(),
                    reads ? Rates.Origin.MEASURED : known.disk(), slowest.busBytesPerSecond(), Rates.Origin.MEASURED,
                    slowest.computeBytesPerSecond(), Rates.Origin.MEASURED).limited(options.ioLimit());
        });
    }

    @Override
    public void savePlan(Path file, int positions) {
        inTurn(() -> {
            budget.toSave(positions).write(file);
            return file;
        });
    }

    private HostMemory hostMemory() {
        return processors.getFirst().device();
    }

    private double diskRate() throws IOException {
        try {
            return weights.measureDisk(DISK_RATE_BYTES, DISK_RATE_SECONDS, processors.getFirst().device());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new InterruptedIOException("interrupted while the rate of the disk was measured");
        }
    }

    @Override
    public Generation generate(Prompt prompt, GenerationOptions options, GenerationListener listener) {
        return generate(List.of(prompt), options, listener).getFirst();
    }

    @Override
    public List<Generation> generate(List<Prompt> prompts, GenerationOptions options, GenerationListener listener) {
        return inTurn(() -> {
            var ids = prompts.stream().map(this::ids).toList();
            var capacities = ids.stream().map(each -> capacity(each.length, options.maxTokens())).toList();
            var results = new ArrayList<Generation>();
            while (results.size() < prompts.size()) {
                int first = results.size();
                int count = together(ids, capacities, first);
                results.addAll(generateTogether(first, prompts.subList(first, first + count),
                        ids.subList(first, first + count), capacities.subList(first, first + count), options,
                        listener));
            }
            return List.copyOf(results);
        });
    }

    /** How many prompts from {@code first} on fit the budget at the same time, at least one. */
    private int together(List<int[]> ids, List<Integer> capacities, int first) {
        int count = ids.size() - first;
        while (count > 1) {
            if (budget.fitsWell(capacities.subList(first, first + count))) {
                return count;
            }
            count = Math.ceilDiv(count, 2);
        }
        return count;
    }

    private List<Generation> generateTogether(int first, List<Prompt> prompts, List<int[]> ids,
            List<Integer> capacities, GenerationOptions options, GenerationListener listener) throws IOException {
        int count = ids.size();
        long rows = capacities.stream().mapToLong(each -> each).sum();
        var start = new RunStart(budget);
        var sweep = budget.prepare(rows, count, count, capacities, count);
        var sequences = new ArrayList<Sequence>();
        try (var logits = new LogitsRows(hostMemory(), count, weights.program().vocabulary())) {
            var answers = new ArrayList<Answer>();
            for (int i = 0; i < count; i++) {
                var sequence = new Sequence(budget.newCache(capacities.get(i)), weights.program().ropes());
                sequences.add(sequence);
                sequence.setTokens(ids.get(i));
                answers.add(new Answer(first + i, sequence, defaults.sampler(options, seed(options)), options,
                        stopTokens(prompts.get(i) instanceof Prompt.Conversation), text.tokenizerOrNull(), listener));
            }
            return new Decoding(sweep, logits, budget.rows(), listener, this::cancelled, telemetry)
                    .run(answers, start);
        } finally {
            sequences.forEach(Sequence::close);
        }
    }

    private Set<Integer> stopTokens(boolean conversation) {
        var tokens = new TreeSet<>(defaults.stopTokens());
        if (conversation) {
            tokens.addAll(text.chatStopTokens());
        }
        return tokens;
    }

    private static long seed(GenerationOptions options) {
        return options.seed() != null ? options.seed() : RandomGenerator.getDefault().nextLong();
    }

    @Override
    public Chat chat(List<Message> history, GenerationOptions options) {
        return inTurn(() -> {
            int limit = this.options.context() > 0
                    ? this.options.context()
                    : Math.min(weights.program().contextLimit(), CHAT_CONTEXT);
            int capacity = this.options.context() > 0 ? limit : budget.contextThatFits(limit);
            budget.prepare(capacity, 1, 1, List.of(capacity), 1);
            var sequence = new Sequence(budget.newCache(capacity), weights.program().ropes());
            budget.keep(sequence);
            return new Conversation(this, sequence, history, options);
        });
    }

    /** Answers a conversation, of which the KV cache of {@code sequence} may hold a part. */
    Generation answer(
            Sequence sequence, List<Message> messages, GenerationOptions options, GenerationListener listener) {
        return inTurn(() -> {
            if (!budget.keeps(sequence)) {
                throw new LaminaException("The conversation is closed.");
            }
            var ids = text.encodeChat(messages);
            checkIds(ids);
            if (ids.length >= sequence.cache().capacity()) {
                throw new LaminaException("The conversation has " + ids.length + " tokens, but the context holds "
                        + sequence.cache().capacity() + ": raise --context, or begin a new conversation.");
            }
            sequence.setTokens(ids);
            var start = new RunStart(budget);
            int vocabulary = weights.program().vocabulary();
            var sweep = budget.prepare(sequence.cache().capacity(), 1, 1, List.of(), 1);
            try (var logits = new LogitsRows(hostMemory(), 1, vocabulary)) {
                var answer = new Answer(0, sequence, defaults.sampler(options, seed(options)), options,
                        stopTokens(true), text.tokenizerOrNull(), listener);
                return new Decoding(sweep, logits, budget.rows(), listener, this::cancelled, telemetry)
                        .run(List.of(answer), start).getFirst();
            }
        });
    }

    /** Frees the KV cache of a conversation. */
    void release(Sequence sequence) {
        if (turn.isHeldByCurrentThread()) {
            throw new LaminaException("A listener cannot close the conversation that calls it: close it afterwards.");
        }
        turn.lock();
        try {
            budget.release(sequence);
        } finally {
            turn.unlock();
        }
    }

    @Override
    public void logits(int[] ids, LogitsConsumer consumer) {
        inTurn(() -> {
            checkIds(ids);
            boolean complete = score(ids, (firstRow, rows, firstColumn, columns, block) -> consumer.accept(
                    firstRow, rows, firstColumn, columns,
                    block.asByteBuffer().order(ByteOrder.nativeOrder()).asFloatBuffer()));
            if (!complete) {
                throw new LaminaException("Cancelled before the logits were complete.");
            }
            return ids.length;
        });
    }

    @Override
    public Perplexity perplexity(String text) {
        return inTurn(() -> {
            var bos = this.text.tokenizer().addsBos() ? this.text.tokenizer().bosId() : null;
            var ids = this.text.tokenizer().encode(text, false);
            int step = bos == null ? PERPLEXITY_WINDOW : PERPLEXITY_WINDOW - 1;
            var total = new LogLikelihood();
            for (int first = 0; first < ids.length; first += step) {
                int count = Math.min(step, ids.length - first);
                var window = new int[bos == null ? count : count + 1];
                if (bos != null) {
                    window[0] = bos;
                }
                System.arraycopy(ids, first, window, window.length - count, count);
                if (window.length > 1) {
                    checkIds(window);
                    total.begin(window);
                    if (!score(window, total)) {
                        break;
                    }
                    total.end();
                }
            }
            return total.perplexity();
        });
    }

    /** Takes the logits of all tokens of a sequence. */
    @FunctionalInterface
    interface ScoreSink {
        void accept(int firstRow, int rows, int firstColumn, int columns, MemorySegment block);
    }

    /** Computes the logits of all tokens; false if it was cancelled. */
    private boolean score(int[] ids, ScoreSink sink) throws IOException {
        int capacity = capacity(ids.length, 0);
        var sweep = budget.prepare(ids.length, Integer.MAX_VALUE, 1, List.of(capacity), 0);
        try (var sequence = new Sequence(budget.newCache(capacity), weights.program().ropes())) {
            sequence.setTokens(ids);
            while (sequence.pending() > 0) {
                int firstRow = sequence.cached();
                var part = new Sweep.Part(sequence, Math.min(sequence.pending(), budget.rows()), Sweep.Output.ALL);
                boolean complete = sweep.run(List.of(part),
                        (rows, firstColumn, columns, block) -> sink.accept(firstRow, rows, firstColumn, columns, block),
                        progress -> { }, this::cancelled);
                if (!complete) {
                    return false;
                }
            }
            return true;
        }
    }

    @Override
    public int[] encode(String text) {
        return this.text.tokenizer().encode(text, true);
    }

    @Override
    public int[] encode(List<Message> conversation) {
        return text.encodeChat(conversation);
    }

    @Override
    public String decode(int[] ids) {
        return text.tokenizer().decode(ids, true);
    }

    @Override
    public Profile profile() {
        return recorder().profile();
    }

    @Override
    public void writeTimeline(Path file) {
        var directory = weights.checkpoint().directory();
        var name = directory.getFileName() == null ? directory : directory.getFileName();
        var page = recorder().timeline(name.toString()).getBytes(StandardCharsets.UTF_8);
        try {
            DurableFiles.replace(file, page);
        } catch (IOException e) {
            throw FileErrors.explain("cannot write " + file, e);
        }
    }

    private Recorder recorder() {
        if (recorder == null) {
            throw new LaminaException("There is no profile of " + weights.checkpoint().directory()
                    + ": open the model with ModelOptions.profile.");
        }
        return recorder;
    }

    private int[] ids(Prompt prompt) {
        var ids = switch (prompt) {
            case Prompt.Text(var string) -> text.tokenizer().encode(string, true);
            case Prompt.Conversation(var messages) -> text.encodeChat(messages);
            case Prompt.Ids(var list) -> list.stream().mapToInt(Integer::intValue).toArray();
        };
        checkIds(ids);
        return ids;
    }

    private void checkIds(int[] ids) {
        if (ids.length == 0) {
            throw new LaminaException("The prompt is empty: give at least one token.");
        }
        for (int id : ids) {
            if (id < 0 || id >= weights.program().tokens()) {
                throw new LaminaException("The token id " + id + " is outside the model's vocabulary of "
                        + weights.program().tokens() + " tokens.");
            }
        }
    }

    /** Positions that a KV cache for a prompt and its answer needs. */
    private int capacity(int promptTokens, int maxTokens) {
        int limit = options.context() > 0 ? options.context() : weights.program().contextLimit();
        if (promptTokens > limit) {
            throw new LaminaException("The prompt has " + promptTokens + " tokens, but the context holds " + limit
                    + ": " + (options.context() > 0 ? "raise --context, or shorten the prompt."
                            : "shorten the prompt, or go beyond what the model was made for with --context "
                                    + ((long) promptTokens + maxTokens) + "."));
        }
        return options.context() > 0 ? limit : (int) Math.min(limit, (long) promptTokens + maxTokens);
    }

    /** Work of one call. */
    @FunctionalInterface
    private interface Work<T> {
        T run() throws IOException;
    }

    /** Runs one call after those that came before it. After a failure the next call begins with new readers. */
    private <T> T inTurn(Work<T> work) {
        turn.lock();
        try {
            if (turn.getHoldCount() > 1) {
                throw new LaminaException("A listener cannot call the model that calls it: wait for the result.");
            }
            if (closing) {
                throw new LaminaException("The model " + weights.checkpoint().directory() + " is closed.");
            }
            cancelled = false;
            return work.run();
        } catch (LaminaException e) {
            throw e;
        } catch (IOException e) {
            budget.reset();
            throw failure(e);
        } catch (RuntimeException | Error e) {
            budget.reset();
            throw e;
        } finally {
            turn.unlock();
        }
    }

    private boolean cancelled() {
        return cancelled || closing || Thread.currentThread().isInterrupted();
    }

    @Override
    public void cancel() {
        cancelled = true;
    }

    @Override
    public void close() {
        if (turn.isHeldByCurrentThread()) {
            throw new LaminaException("A listener cannot close the model that calls it: cancel it instead.");
        }
        closing = true;
        turn.lock();
        try {
            if (!closed) {
                closed = true;
                closeAll(processors, text, budget, host, weights);
            }
        } finally {
            turn.unlock();
        }
    }
}
