package dev.lamina.cli;

import dev.lamina.LaminaException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.FilterOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/** Standard input, output and error, in UTF-8 whatever the locale; which of them are a terminal; and the signals. */
final class Terminal implements AutoCloseable {
    /** Notes the first failure of a stream: {@link PrintStream} only remembers that there was one. */
    private static final class Noting extends FilterOutputStream {
        private @Nullable IOException failure;

        Noting(OutputStream out) {
            super(out);
        }

        @Override
        public void write(byte[] bytes, int offset, int length) throws IOException {
            try {
                out.write(bytes, offset, length);
            } catch (IOException e) {
                failure = failure == null ? e : failure;
                throw e;
            }
        }
    }

    private static final long WINDOW_SIZE_LINUX = 0x5413;
    private static final long WINDOW_SIZE_MAC = 0x40087468;

    private final InputStream in;
    private final Noting outFailure;
    private final PrintStream out;
    private final PrintStream err;
    private final boolean inIsTerminal;
    private final boolean outIsTerminal;
    private final StatusLine status;
    private final Interrupts interrupts;

    private Terminal(InputStream in, OutputStream out, OutputStream err, boolean inIsTerminal, boolean outIsTerminal,
            boolean errIsTerminal, Interrupts interrupts) {
        this.in = in;
        this.outFailure = new Noting(out);
        this.out = new PrintStream(outFailure, false, StandardCharsets.UTF_8);
        this.err = new PrintStream(err, true, StandardCharsets.UTF_8);
        this.inIsTerminal = inIsTerminal;
        this.outIsTerminal = outIsTerminal;
        this.status = new StatusLine(this.err, errIsTerminal);
        this.interrupts = interrupts;
    }

    /** The streams of this process; listens to its signals until it is closed. */
    static Terminal ofProcess() {
        return new Terminal(new FileInputStream(FileDescriptor.in), new FileOutputStream(FileDescriptor.out),
                new FileOutputStream(FileDescriptor.err), isTerminal(0), isTerminal(1), isTerminal(2),
                Interrupts.ofProcess());
    }

    /** Streams that are no terminal, and no signals. */
    static Terminal of(InputStream in, OutputStream out, OutputStream err) {
        return new Terminal(in, out, err, false, false, false, Interrupts.none());
    }

    /** Asks the C library: {@link System#console} knows input and output together, and nothing of the error stream. */
    private static boolean isTerminal(int descriptor) {
        var linker = Linker.nativeLinker();
        boolean windows = System.getProperty("os.name", "").toLowerCase(Locale.ROOT).startsWith("windows");
        var isatty = linker.defaultLookup().find(windows ? "_isatty" : "isatty");
        if (isatty.isEmpty()) {
            return false;
        }
        try {
            return (int) linker.downcallHandle(isatty.get(),
                    FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_INT)).invokeExact(descriptor) != 0;
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
    }

    /** Columns of the terminal that the standard output is; 0 where that is not known. */
    int columns() {
        if (!outIsTerminal) {
            return 0;
        }
        var linker = Linker.nativeLinker();
        var ioctl = linker.defaultLookup().find("ioctl");
        if (ioctl.isEmpty()) {
            return 0;
        }
        long request = System.getProperty("os.name", "").startsWith("Mac") ? WINDOW_SIZE_MAC : WINDOW_SIZE_LINUX;
        var signature = FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG,
                ValueLayout.ADDRESS);
        try (var arena = Arena.ofConfined()) {
            var size = arena.allocate(ValueLayout.JAVA_SHORT, 4); // rows, columns, and both in pixels
            int status = (int) linker.downcallHandle(ioctl.get(), signature, Linker.Option.firstVariadicArg(2))
                    .invokeExact(1, request, size);
            return status == 0 ? Short.toUnsignedInt(size.getAtIndex(ValueLayout.JAVA_SHORT, 1)) : 0;
        } catch (Throwable e) {
            throw new IllegalStateException(e);
        }
    }

    InputStream in() {
        return in;
    }

    PrintStream out() {
        return out;
    }

    PrintStream err() {
        return err;
    }

    boolean inIsTerminal() {
        return inIsTerminal;
    }

    boolean outIsTerminal() {
        return outIsTerminal;
    }

    StatusLine status() {
        return status;
    }

    Interrupts interrupts() {
        return interrupts;
    }

    /** Prints text at once, and takes note of a standard output that takes no more. */
    void print(String text) {
        out.print(text);
        checkOut();
    }

    /** Prints a line at once. */
    void println(String text) {
        print(text + "\n");
    }

    /** Prints one line on stderr that says what went wrong. */
    void error(String message) {
        status.clear();
        err.println("lamina: " + message.replaceAll("\\s*\\R\\s*", " "));
    }

    private void checkOut() {
        if (out.checkError()) {
            var failure = outFailure.failure;
            var reason = failure == null ? "unknown reason" : String.valueOf(failure.getMessage());
            if (failure != null && (reason.contains("Broken pipe") || reason.contains("pipe is being closed"))) {
                throw new StdoutClosedException(failure);
            }
            throw new LaminaException("cannot write to the standard output: " + reason, failure);
        }
    }

    /** Flushes the standard output at the end of a command; returns the exit status, with what may go wrong here. */
    int finish(int exitStatus) {
        status.clear();
        try {
            checkOut();
        } catch (StdoutClosedException e) {
            return exitStatus;
        } catch (LaminaException e) {
            if (exitStatus == 0) {
                error(String.valueOf(e.getMessage()));
                return Main.FAILED;
            }
        }
        return exitStatus;
    }

    @Override
    public void close() {
        status.clear();
        out.flush();
        interrupts.close();
    }
}
