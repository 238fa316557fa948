package dev.lamina;

import java.nio.file.Path;
import java.util.List;
import java.util.ServiceLoader;

/**
 * A language model whose weights stay on disk and stream through the device while it computes.
 *
 * {@snippet :
 * try (var model = LanguageModel.open("models/Llama-3.1-8B-Instruct", ModelOptions.builder().memory("2GiB").build())) {
 *     var prompt = Prompt.chat(Message.user("Why is the sky blue?"));
 *     var answer = model.generate(prompt, GenerationOptions.builder().maxTokens(200).build(), System.out::print);
 *     System.out.println(answer.stats());
 * }
 * }
 *
 * <p><b>Threads.</b> All methods may be called from any thread. A model computes one call at a time: calls that come
 * meanwhile wait their turn, in order of arrival. Run prompts together with {@link #generate(List, GenerationOptions,
 * GenerationListener)}. {@link #cancel} and {@link #close} do not wait for a turn.
 *
 * <p><b>Interrupts.</b> An interrupt of the calling thread cancels its call as {@link #cancel} does, and leaves the
 * thread interrupted: the next call of that thread is cancelled too unless the flag is cleared. A call that waits its
 * turn goes on waiting. Opening and {@link #measureRates} end with a {@link LaminaException} instead. The reading of
 * weights is not disturbed, and the model stays usable.
 *
 * <p><b>Errors.</b> What goes wrong with files, memory or arguments is a {@link LaminaException}; the model stays
 * usable unless it is closed.
 */
public interface LanguageModel extends AutoCloseable {
    /**
     * Opens a model with default options.
     *
     * @param model folder of a Hugging Face model (safetensors or PyTorch .bin), or of a shard set
     */
    static LanguageModel open(String model) {
        return open(model, ModelOptions.defaults());
    }

    /**
     * Opens a model: reads its configuration, headers and small tensors, and detects its family. The tokenizer is read
     * when it is first needed. Whether the memory is enough is told by the first call that computes.
     *
     * @param model folder of a Hugging Face model (safetensors or PyTorch .bin), or of a shard set
     * @throws LaminaException if the model is not there, damaged, of an unknown family, or does not fit the options
     */
    static LanguageModel open(String model, ModelOptions options) {
        return ServiceLoader.load(ModelProvider.class, ModelProvider.class.getClassLoader())
                .findFirst()
                .orElseThrow(() -> new LaminaException(
                        "No model provider on the class path: the jar of Lamina is incomplete."))
                .open(Path.of(model), options);
    }

    /** What this model is. */
    ModelInfo info();

    /**
     * What memory one sequence needs. Rounded up to MiB.
     *
     * @param positions of its KV cache
     */
    MemoryNeeds memoryNeeds(int positions);

    /**
     * Plans a budget for one sequence, as a call would use it.
     *
     * @param memory bytes, at least {@link MemoryNeeds#least}; 0: the budget of this model
     * @param positions of the KV cache
     * @param rates what the prediction is for, such as those of {@link #measureRates}; they change nothing else
     * @throws LaminaException if the budget is too small
     */
    MemoryPlan plan(long memory, int positions, Rates rates);

    /**
     * Writes to a file where each panel goes in calls with one sequence of so many positions, for a later
     * {@link ModelOptions#plan}: that one then has the same panels in the same places, whatever is free by then. A call
     * that needs more memory than the plan leaves does with fewer of these panels, and one that leaves no room for the
     * plan's ring with others. Types of KV caches, mode and ways to read are not in the file.
     *
     * @throws LaminaException if the budget is too small, or the file cannot be written
     */
    void savePlan(Path file, int positions);

    /**
     * How fast this model's files can be read and its weights be computed. The rate of one drive is that with which
     * the way to read was chosen, if there was something to choose; that of several, which may share a bus, and all
     * else is measured now, which takes up to two seconds, and up to 100 MiB beside the budget.
     */
    default Rates measureRates() {
        return measureRates(false);
    }

    /**
     * The same.
     *
     * @param anew whether to measure the files now even if their rate is known
     */
    Rates measureRates(boolean anew);

    /**
     * Continues a prompt.
     *
     * @param listener told of each piece of text as it becomes certain, on the calling thread
     */
    Generation generate(Prompt prompt, GenerationOptions options, GenerationListener listener);

    /** Continues a prompt. */
    default Generation generate(Prompt prompt, GenerationOptions options) {
        return generate(prompt, options, text -> { });
    }

    /** Continues a text; the tokenizer adds what it adds at the start of a text. */
    default Generation generate(String text, GenerationOptions options, GenerationListener listener) {
        return generate(Prompt.text(text), options, listener);
    }

    /** Continues a text. */
    default Generation generate(String text, GenerationOptions options) {
        return generate(Prompt.text(text), options);
    }

    /**
     * Continues prompts of any lengths together: each sweep through the weights moves all of them by one step. Each
     * result is the same as if its prompt had run alone.
     *
     * @return one result for each prompt, in the same order
     */
    List<Generation> generate(List<Prompt> prompts, GenerationOptions options, GenerationListener listener);

    /** Continues prompts of any lengths together. */
    default List<Generation> generate(List<Prompt> prompts, GenerationOptions options) {
        return generate(prompts, options, text -> { });
    }

    /**
     * Begins a conversation, which keeps its KV cache from turn to turn.
     *
     * @param history messages so far, such as one of the role {@code "system"}; may be empty
     */
    Chat chat(List<Message> history, GenerationOptions options);

    /**
     * Computes the logits of every token of a sequence, without holding them all in memory.
     *
     * @param ids token ids, at least one
     * @param consumer takes them block by block, on the calling thread
     * @throws LaminaException if it is cancelled, by {@link #cancel}, {@link #close} or an interrupt, before the logits
     *     are complete; blocks that the consumer took are right
     */
    void logits(int[] ids, LogitsConsumer consumer);

    /**
     * Scores a text: exp(mean negative log-likelihood) over windows of 512 tokens that do not overlap, each begun with
     * the BOS token if the tokenizer adds one; the first token of a window is not scored. If it is cancelled, the
     * result covers the windows that were complete.
     */
    Perplexity perplexity(String text);

    /** The token ids of a text, with what the tokenizer adds at its start. */
    int[] encode(String text);

    /** The token ids of a conversation in the model's chat format, ready for the model's answer. */
    int[] encode(List<Message> conversation);

    /** The text of token ids, without special tokens. */
    String decode(int[] ids);

    /**
     * What was read, waited for and computed since the model was opened. Does not wait for a turn: during a call it
     * tells how far that is, and after closing what there was.
     *
     * @throws LaminaException if the model was not opened with {@link ModelOptions#profile}
     */
    Profile profile();

    /**
     * Writes a page that shows what was read, waited for and computed at which moment of the last sweeps. Does not wait
     * for a turn.
     *
     * @param file HTML that a browser opens without a network, a few MB at most; an older file is replaced when the new
     *     one is whole
     * @throws LaminaException if the model was not opened with {@link ModelOptions#profile}, or the file cannot be
     *     written
     */
    void writeTimeline(Path file);

    /**
     * Ends the call that computes now, and no other, within one panel; its result says {@link FinishReason#CANCELLED}.
     */
    void cancel();

    /** Cancels what computes, then frees all memory, threads and files. Closing twice does nothing. */
    @Override
    void close();
}
