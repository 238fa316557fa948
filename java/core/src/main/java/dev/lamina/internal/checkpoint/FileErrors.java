package dev.lamina.internal.checkpoint;

import dev.lamina.LaminaException;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Locale;

/** Turns what the file system says into one clear line. */
public final class FileErrors {
    private static final int SHOWN_NAME = 120;

    private FileErrors() {}

    /**
     * Explains a failure.
     *
     * @param action what could not be done, for example {@code "cannot read /models/x"}
     * @param problem why
     */
    public static LaminaException explain(String action, IOException problem) {
        return new LaminaException(action + ": " + reason(problem), problem);
    }

    private static String reason(IOException problem) {
        if (problem instanceof NoSuchFileException missing) {
            return missing.getFile() + " does not exist; check the path";
        }
        if (problem instanceof AccessDeniedException denied) {
            return "no permission for " + denied.getFile() + "; change its permissions or use another user";
        }
        String message = problem.getMessage() == null ? problem.getClass().getSimpleName() : problem.getMessage();
        if (isDiskFull(problem)) {
            return "the disk is full (" + message + "); free some space and run the same command again";
        }
        if (problem instanceof FileSystemException inFile && inFile.getReason() == null) {
            return problem.getClass().getSimpleName() + " " + message;
        }
        return message;
    }

    private static boolean isDiskFull(IOException problem) {
        String message = problem.getMessage() == null ? "" : problem.getMessage().toLowerCase(Locale.ROOT);
        return message.contains("no space left") || message.contains("quota") || message.contains("not enough space");
    }

    /**
     * Makes sure that there is a file to read weights from.
     *
     * @throws LaminaException if there is none
     */
    static void checkFile(Path file) {
        if (Files.isRegularFile(file)) {
            return;
        }
        if (Files.isSymbolicLink(file) && !Files.exists(file)) {
            throw new LaminaException(file + " is a link to a file that is not there; download the model again");
        }
        throw new LaminaException(file + (Files.exists(file)
                ? " is not a regular file; give a file of weights"
                : " does not exist; check the path or download the file again"));
    }

    /** Returns a name from an untrusted file in quotes, on one line and not longer than a line should be. */
    public static String quote(String name) {
        StringBuilder shown = new StringBuilder("'");
        int end = Math.min(name.length(), SHOWN_NAME);
        for (int i = 0; i < end; i++) {
            char c = name.charAt(i);
            boolean plain = !Character.isISOControl(c) && Character.getType(c) != Character.FORMAT
                    && Character.getType(c) != Character.LINE_SEPARATOR
                    && Character.getType(c) != Character.PARAGRAPH_SEPARATOR && !Character.isSurrogate(c);
            shown.append(plain ? c : '?');
        }
        return shown.append(end < name.length() ? "...'" : "'").toString();
    }
}
