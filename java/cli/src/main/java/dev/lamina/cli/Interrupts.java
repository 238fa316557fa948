package dev.lamina.cli;

import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import sun.misc.Signal;

/**
 * Signals that ask the process to end: the first one is noted and tells the work of the moment, which then ends in
 * order; the second one ends the process at once. (A shutdown hook would not do: it can neither be called off, which a
 * conversation needs, nor see a second signal.)
 */
final class Interrupts implements AutoCloseable {
    private static final String[] SIGNALS = {"INT", "TERM", "HUP"};

    private final AtomicInteger signal = new AtomicInteger();
    private final AtomicReference<@Nullable Runnable> action = new AtomicReference<>();

    private Interrupts() {}

    /** Listens to the signals of this process. Those that the parent process made it ignore stay ignored. */
    static Interrupts ofProcess() {
        var interrupts = new Interrupts();
        for (var name : SIGNALS) {
            try {
                Signal.handle(new Signal(name), received -> interrupts.receive(received.getNumber()));
            } catch (IllegalArgumentException e) {
                // A system without that signal, or a JVM that was told to leave signals alone.
            }
        }
        return interrupts;
    }

    /** Listens to nothing. */
    static Interrupts none() {
        return new Interrupts();
    }

    private void receive(int number) {
        if (!signal.compareAndSet(0, number)) {
            Runtime.getRuntime().exit(128 + number);
        }
        var current = action.get();
        if (current != null) {
            current.run();
        }
    }

    /** What a command returns that a signal may have ended: 0, or 128 + the number of the signal. */
    int exitStatus() {
        return interrupted() ? 128 + signal.get() : 0;
    }

    /** Whether a signal came. */
    boolean interrupted() {
        return signal.get() != 0;
    }

    /** Throws if a signal came. */
    void check() {
        if (interrupted()) {
            throw new CancelledException();
        }
    }

    /**
     * Sets what a signal does beyond being noted, on a thread of its own, until another action is set; at once if one
     * came already.
     */
    void onSignal(@Nullable Runnable next) {
        action.set(next);
        if (next != null && interrupted()) {
            next.run();
        }
    }

    /** Forgets a signal that was dealt with. */
    void reset() {
        signal.set(0);
    }

    @Override
    public void close() {
        action.set(null);
    }
}
