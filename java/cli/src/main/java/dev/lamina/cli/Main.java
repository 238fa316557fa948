package dev.lamina.cli;

import dev.lamina.LaminaException;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.util.logging.LogManager;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Help.Ansi;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.UnmatchedArgumentException;

/** The command {@code lamina}. */
@Command(
        name = "lamina",
        mixinStandardHelpOptions = true,
        scope = ScopeType.INHERIT,
        versionProvider = Version.class,
        synopsisSubcommandLabel = "COMMAND",
        usageHelpAutoWidth = false,
        usageHelpWidth = 100,
        sortOptions = false,
        description = "Runs language models that are larger than the memory of this machine: their weights stay on "
                + "disk and stream through the processor while it computes.",
        subcommands = {
            DemoCommand.class,
            GenerateCommand.class,
            ChatCommand.class,
            SplitCommand.class,
            InspectCommand.class,
            LogitsCommand.class,
            PerplexityCommand.class,
            ProfileCommand.class,
            DoctorCommand.class
        },
        footer = {
            "",
            "Start with:",
            "  lamina demo",
            "  lamina doctor --model models/Llama-3.1-8B-Instruct",
            "  lamina chat --model models/Llama-3.1-8B-Instruct --memory 2GiB"
        })
public final class Main implements Runnable {
    static final int FAILED = 1;
    static final int WRONG_USAGE = 2;

    private final Terminal terminal;

    @Option(names = "--verbose", scope = ScopeType.INHERIT,
            description = "Show log messages, and stack traces of errors.")
    private boolean verbose;

    @CommandLine.Spec
    private CommandLine.Model.CommandSpec spec;

    private Main(Terminal terminal) {
        this.terminal = terminal;
    }

    /** Runs the command line and ends the process. */
    public static void main(String[] arguments) {
        try (var terminal = Terminal.ofProcess()) {
            int status = run(terminal, arguments);
            Runtime.getRuntime().exit(terminal.finish(status));
        }
    }

    /** Runs the command line. Returns the exit status: 0 done, 1 failed, 2 wrong usage, 128 + n after signal n. */
    static int run(Terminal terminal, String... arguments) {
        var main = new Main(terminal);
        var commandLine = new CommandLine(main)
                .setOut(new PrintWriter(terminal.out(), true))
                .setErr(new PrintWriter(terminal.err(), true))
                .setCaseInsensitiveEnumValuesAllowed(true)
                .setAbbreviatedOptionsAllowed(false)
                .setColorScheme(CommandLine.Help.defaultColorScheme(
                        terminal.outIsTerminal() ? Ansi.ON : Ansi.OFF))
                .setExecutionStrategy(parsed -> {
                    main.showLog();
                    return new CommandLine.RunLast().execute(parsed);
                })
                .setParameterExceptionHandler((e, args) -> main.wrongUsage(e))
                .setExecutionExceptionHandler((e, command, parsed) -> main.failed(e));
        try {
            return commandLine.execute(arguments);
        } catch (Error e) {
            return main.failed(e);
        }
    }

    Terminal terminal() {
        return terminal;
    }

    boolean verbose() {
        return verbose;
    }

    @Override
    public void run() {
        spec.commandLine().usage(terminal.out());
    }

    /** The library logs through {@link System.Logger}: shown only on demand. */
    private void showLog() {
        LogManager.getLogManager().reset();
        if (verbose) {
            LogPrinter.install(terminal.err());
        }
    }

    private int wrongUsage(ParameterException reported) {
        var unknown = reported.getCommandLine().getUnmatchedArguments();
        // an option that is misspelt is the reason why another one is missing
        var e = unknown.isEmpty() ? reported : new UnmatchedArgumentException(reported.getCommandLine(), unknown);
        var message = e.getMessage() == null ? "wrong usage" : e.getMessage().replaceFirst("^Error: ", "");
        if (e instanceof UnmatchedArgumentException unmatched && !unmatched.getSuggestions().isEmpty()) {
            message += "; did you mean " + String.join(" or ", unmatched.getSuggestions()) + "?";
        }
        terminal.error(message);
        terminal.err().println("Try '" + e.getCommandLine().getCommandSpec().qualifiedName() + " --help'.");
        return WRONG_USAGE;
    }

    private int failed(Throwable e) {
        if (e instanceof StdoutClosedException) {
            return 0;
        }
        boolean cancelled = terminal.interrupts().interrupted()
                && (e instanceof CancelledException || e instanceof LaminaException);
        if (!cancelled) {
            terminal.error(explain(e));
        }
        if (verbose) {
            e.printStackTrace(terminal.err());
        }
        return cancelled ? terminal.interrupts().exitStatus() : FAILED;
    }

    private static String explain(Throwable e) {
        return switch (e) {
            case LaminaException known -> String.valueOf(known.getMessage());
            case UncheckedIOException wrapped -> explain(wrapped.getCause());
            case IOException io -> io.getMessage() == null ? io.toString() : io.getMessage();
            case UnsatisfiedLinkError link -> String.valueOf(link.getMessage());
            case OutOfMemoryError memory -> "the Java heap is full (" + memory.getMessage()
                    + "): give the JVM more, for instance LAMINA_JAVA_OPTS=-Xmx1g";
            default -> "unexpected " + e + ": a fault of Lamina; run it again with --verbose to see where";
        };
    }
}
