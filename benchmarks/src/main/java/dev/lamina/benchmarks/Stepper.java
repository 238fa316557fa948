package dev.lamina.benchmarks;

import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.GenerationStats;
import dev.lamina.LanguageModel;
import dev.lamina.Prompt;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * A model that generates one token after another, but only when it is told to: so that sweeps can be timed in turn with
 * something else. All sweeps have one row, since the prompt has one token.
 */
final class Stepper implements AutoCloseable {
    private static final int TOKENS = 256; // then it begins anew: the KV cache stays small
    private static final GenerationOptions OPTIONS =
            GenerationOptions.builder().maxTokens(TOKENS).greedy().ignoreEos(true).build();

    private final LanguageModel model;
    private final Semaphore go = new Semaphore(0);
    private final Semaphore done = new Semaphore(0);
    private final List<Long> ends = new ArrayList<>(); // written before done is released, read after it was acquired
    private final Thread thread;
    private volatile boolean closed;
    private volatile @Nullable Throwable failure;

    /** Begins with a model, which stays the caller's; no sweep runs until {@link #sweeps} asks for it. */
    Stepper(LanguageModel model) {
        this.model = model;
        this.thread = Thread.ofPlatform().daemon().name("stepper").start(this::run);
    }

    /**
     * Runs two sweeps of a call like those of a stepper: the first fills what stays in memory, and since later calls
     * need no more memory, that is then settled.
     *
     * @return what these sweeps took
     */
    static GenerationStats warmUp(LanguageModel model) {
        var tokens = new AtomicInteger();
        return model.generate(Prompt.ids(1), OPTIONS, new GenerationListener() {
            @Override
            public void text(String piece) {}

            @Override
            public void token(int prompt, int id) {
                if (tokens.incrementAndGet() == 2) {
                    model.cancel();
                }
            }
        }).stats();
    }

    /** Positions of the KV cache that it needs. */
    static int positions() {
        return TOKENS + 1;
    }

    private void run() {
        try {
            go.acquireUninterruptibly();
            while (!closed) {
                model.generate(Prompt.ids(1), OPTIONS, new Gate());
            }
        } catch (Throwable e) {
            failure = e;
            done.release(Integer.MAX_VALUE / 2);
        }
    }

    /**
     * Lets sweeps run without a pause between them, one more than is asked for: the first begins with a ring that was
     * filled while the model waited, so it is not counted.
     *
     * @param count how many are counted
     * @return seconds for one
     */
    double sweeps(int count) {
        return each(count).stream().mapToDouble(seconds -> seconds).sum() / count;
    }

    /** Like {@link #sweeps}, but returns the seconds of each. */
    List<Double> each(int count) {
        ends.clear();
        go.release(count + 1);
        done.acquireUninterruptibly(count + 1);
        if (failure != null) {
            throw new IllegalStateException(failure);
        }
        var seconds = new ArrayList<Double>();
        for (int i = 0; i < count; i++) {
            seconds.add((ends.get(i + 1) - ends.get(i)) / 1e9);
        }
        return seconds;
    }

    @Override
    public void close() throws InterruptedException {
        closed = true;
        model.cancel();
        go.release();
        thread.join();
    }

    /** Waits after each token until the next sweep may begin. */
    private final class Gate implements GenerationListener {
        @Override
        public void text(String piece) {}

        @Override
        public void token(int prompt, int id) {
            ends.add(System.nanoTime());
            done.release();
            go.acquireUninterruptibly();
        }
    }
}
