package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.ModelOptions;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;

/**
 * A program of its own, because the instruction set is chosen by an environment variable: prints a digest of logits.
 */
final class LogitsDigest {
    /** Exit code where this machine lacks the instruction set. */
    static final int UNSUPPORTED = 3;

    private LogitsDigest() {}

    public static void main(String[] arguments) {
        var ids = Arrays.stream(arguments[1].replaceAll("[\\[\\] ]", "").split(","))
                .mapToInt(Integer::parseInt)
                .toArray();
        try {
            System.out.println(of(ModesTest.logits(Path.of(arguments[0]), ModelOptions.defaults(), ids)));
        } catch (LaminaException e) {
            System.out.println(e.getMessage());
            System.exit(e.getMessage().contains("LAMINA_SIMD") || e.getMessage().contains("instruction set")
                    ? UNSUPPORTED : 1);
        }
    }

    static String of(float[] values) {
        var bytes = ByteBuffer.allocate(values.length * Float.BYTES);
        bytes.asFloatBuffer().put(values);
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes.array()));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
