package dev.lamina.internal.generate;

import dev.lamina.FinishReason;
import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.internal.text.StopMatcher;
import dev.lamina.internal.text.TextStream;
import dev.lamina.internal.text.Tokenizer;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/** What one sequence of a generation has said so far, and whether it goes on. */
final class Answer {
    private final int index;
    private final Sequence sequence;
    private final int room;
    private final Sampler sampler;
    private final GenerationOptions options;
    private final Set<Integer> stopTokens;
    private final GenerationListener listener;
    private final int promptTokens;
    private final int cachedTokens;
    private final @Nullable TextStream stream;
    private final StopMatcher stopMatcher;
    private final List<Integer> ids = new ArrayList<>();
    private final StringBuilder text = new StringBuilder();
    private @Nullable FinishReason finishReason;

    /**
     * Begins an answer.
     *
     * @param index of the prompt in its call
     * @param sequence holds the prompt; its answer is appended
     * @param tokenizer for the text; null where the model has none
     */
    Answer(int index, Sequence sequence, Sampler sampler, GenerationOptions options, Set<Integer> stopTokens,
            @Nullable Tokenizer tokenizer, GenerationListener listener) {
        this.index = index;
        this.sequence = sequence;
        this.sampler = sampler;
        this.options = options;
        this.stopTokens = stopTokens;
        this.listener = listener;
        this.promptTokens = sequence.length();
        this.cachedTokens = sequence.cached();
        this.room = Math.min(options.maxTokens(), sequence.cache().capacity() - promptTokens);
        this.stream = tokenizer == null ? null : new TextStream(tokenizer);
        this.stopMatcher = new StopMatcher(options.stop());
        for (int i = 0; i < promptTokens; i++) {
            sampler.see(sequence.token(i));
        }
        if (room <= 0) {
            finishReason = FinishReason.LENGTH;
        }
    }

    /** Index of its prompt in the call. */
    int index() {
        return index;
    }

    Sequence sequence() {
        return sequence;
    }

    Sampler sampler() {
        return sampler;
    }

    int promptTokens() {
        return promptTokens;
    }

    int cachedTokens() {
        return cachedTokens;
    }

    List<Integer> ids() {
        return ids;
    }

    String text() {
        return text.toString();
    }

    boolean finished() {
        return finishReason != null;
    }

    FinishReason finishReason() {
        return finishReason == null ? FinishReason.CANCELLED : finishReason;
    }

    /** Takes the next token. */
    void accept(int token) {
        ids.add(token);
        sampler.see(token);
        listener.token(index, token);
        if (!options.ignoreEos() && stopTokens.contains(token)) {
            finish(FinishReason.STOP);
            return;
        }
        if (stream != null) {
            emit(stopMatcher.accept(stream.accept(token)));
        }
        if (stopMatcher.stopped()) {
            finishReason = FinishReason.STOP;
        } else if (ids.size() >= room) {
            finish(FinishReason.LENGTH);
        } else {
            sequence.append(token);
        }
    }

    /** Ends the answer where it is, with the text that was held back. */
    void finish(FinishReason reason) {
        if (stream != null && !stopMatcher.stopped()) {
            emit(stopMatcher.accept(stream.finish()));
            emit(stopMatcher.finish());
        }
        finishReason = reason;
    }

    private void emit(String piece) {
        if (!piece.isEmpty()) {
            text.append(piece);
            listener.text(index, piece);
        }
    }
}
