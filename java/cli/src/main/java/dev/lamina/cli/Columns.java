package dev.lamina.cli;

/** How many columns of a terminal a text takes. */
final class Columns {
    private static final int TAB = 8;

    private Columns() {}

    /** Whether the cursor stands at the right edge after a text that began at the left one. */
    static boolean endsAtTheEdge(CharSequence text, int columns) {
        int column = 0;
        for (int c : text.codePoints().toArray()) {
            if (c == '\n' || c == '\r') {
                column = 0;
            } else if (c == '\t') {
                column = Math.min(columns - 1, (column / TAB + 1) * TAB);
            } else {
                int width = width(c);
                column = column + width > columns ? width : column + width;
            }
        }
        return column >= columns;
    }

    private static int width(int c) {
        return switch (Character.getType(c)) {
            case Character.NON_SPACING_MARK, Character.ENCLOSING_MARK, Character.FORMAT, Character.CONTROL -> 0;
            default -> isWide(c) ? 2 : 1;
        };
    }

    /** The large blocks of wide characters: Chinese, Japanese, Korean, full width forms, emoji. */
    private static boolean isWide(int c) {
        return c >= 0x1100 && (c <= 0x115f || c >= 0x2e80 && c <= 0xa4cf || c >= 0xac00 && c <= 0xd7a3
                || c >= 0xf900 && c <= 0xfaff || c >= 0xfe30 && c <= 0xfe6f || c >= 0xff00 && c <= 0xff60
                || c >= 0xffe0 && c <= 0xffe6 || c >= 0x1f300 && c <= 0x1faff || c >= 0x20000 && c <= 0x3fffd);
    }
}
