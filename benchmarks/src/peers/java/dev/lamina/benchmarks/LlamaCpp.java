package dev.lamina.benchmarks;

import de.kherud.llama.InferenceParameters;
import de.kherud.llama.LlamaModel;
import de.kherud.llama.LlamaOutput;
import de.kherud.llama.ModelParameters;
import de.kherud.llama.args.Sampler;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * The peer: llama.cpp, on the CPU, with the cheapest greedy sampling that it has. Its API takes text, so a token id is
 * written as the one character that {@link GgufFile} gave it.
 */
final class LlamaCpp implements AutoCloseable {
    /** Each token id is this code point and the id; they are beyond the surrogates, so that no id is without one. */
    static final int FIRST_CODE_POINT = 0x10000;

    private final LlamaModel model;

    LlamaCpp(Path gguf, int threads, int context) {
        model = new LlamaModel(new ModelParameters()
                .setModel(gguf.toString())
                .setThreads(threads)
                .setThreadsBatch(threads)
                .setCtxSize(context)
                .setBatchSize(context)
                .setGpuLayers(0)
                .disableMmap() // else its weights are in memory only as long as the page cache keeps them
                .disableLog());
    }

    /** Continues a prompt. */
    Run generate(int[] prompt, int tokens) {
        var text = new StringBuilder();
        Arrays.stream(prompt).forEach(id -> text.appendCodePoint(FIRST_CODE_POINT + id));
        var run = new Run(tokens);
        for (LlamaOutput output : model.generate(new InferenceParameters(text.toString())
                .setNPredict(tokens)
                .setSamplers(Sampler.TOP_K)
                .setTopK(1)
                .setIgnoreEos(true)
                .setCachePrompt(false))) {
            output.text.codePoints().forEach(point -> run.token(point - FIRST_CODE_POINT));
        }
        return run;
    }

    @Override
    public void close() {
        model.close();
    }
}
