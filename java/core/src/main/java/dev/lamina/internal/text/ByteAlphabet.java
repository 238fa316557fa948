package dev.lamina.internal.text;

/**
 * The printable characters that byte-level vocabularies write bytes as, first used by GPT-2: itself where a byte of
 * Latin-1 is printable, else the next unused character from U+0100 on.
 */
final class ByteAlphabet {
    static final int BYTES = 256;
    private static final String CHARACTERS = characters();

    private ByteAlphabet() {}

    private static String characters() {
        StringBuilder characters = new StringBuilder();
        int next = BYTES;
        for (int value = 0; value < BYTES; value++) {
            boolean printable = value > 0x20 && value < 0x7f || value > 0xa0 && value != 0xad;
            characters.append((char) (printable ? value : next++));
        }
        return characters.toString();
    }

    /** Writes bytes as characters. */
    static String write(byte[] bytes) {
        StringBuilder text = new StringBuilder(bytes.length);
        for (byte value : bytes) {
            text.append(CHARACTERS.charAt(value & 0xff));
        }
        return text.toString();
    }
}
