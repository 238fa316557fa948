package dev.lamina.cli;

import java.io.PrintStream;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import java.util.logging.SimpleFormatter;

/** Prints log messages: ours from level FINE on, the {@code DEBUG} of {@link System.Logger}, others from INFO on. */
final class LogPrinter extends Handler {
    private final PrintStream err;
    private final SimpleFormatter formatter = new SimpleFormatter();

    private LogPrinter(PrintStream err) {
        this.err = err;
    }

    /** Sends log messages to a stream. */
    static void install(PrintStream err) {
        var root = Logger.getLogger("");
        root.addHandler(new LogPrinter(err));
        root.setLevel(Level.FINE);
    }

    @Override
    public void publish(LogRecord message) {
        var logger = String.valueOf(message.getLoggerName());
        if (message.getLevel().intValue() >= Level.INFO.intValue() || logger.startsWith("dev.lamina")) {
            err.println("[" + message.getLevel() + "] " + logger + ": " + formatter.formatMessage(message));
            if (message.getThrown() != null) {
                message.getThrown().printStackTrace(err);
            }
        }
    }

    @Override
    public void flush() {
        err.flush();
    }

    @Override
    public void close() {}
}
