package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class StatusLineTest {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private final PrintStream out = new PrintStream(bytes, true, StandardCharsets.UTF_8);
    private final StatusLine status = new StatusLine(out, true);

    /** What a terminal of so many columns and rows shows: it knows the few sequences that are used. */
    private String screen(int columns, int rows) {
        var cells = new StringBuilder[rows];
        for (int i = 0; i < rows; i++) {
            cells[i] = new StringBuilder(" ".repeat(columns));
        }
        int row = 0;
        int column = 0;
        int savedRow = 0;
        int savedColumn = 0;
        boolean wrap = true;
        var text = bytes.toString(StandardCharsets.UTF_8);
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            boolean down = false;
            if (c == '\r') {
                column = 0;
            } else if (c == '\n') {
                column = 0;
                down = true;
            } else if (c == '\033') {
                int end = i + 1;
                if (text.charAt(end) == '[') {
                    do {
                        end++;
                    } while (!Character.isLetter(text.charAt(end)));
                }
                var sequence = text.substring(i + 1, end + 1);
                i = end;
                switch (sequence) {
                    case "D" -> down = true;
                    case "M" -> row = Math.max(0, row - 1);
                    case "7" -> {
                        savedRow = row;
                        savedColumn = column;
                    }
                    case "8" -> {
                        row = savedRow;
                        column = savedColumn;
                    }
                    case "[B" -> row = Math.min(rows - 1, row + 1);
                    case "[K" -> cells[row].replace(column, columns, " ".repeat(columns - column));
                    case "[?7l" -> wrap = false;
                    case "[?7h" -> wrap = true;
                    default -> throw new AssertionError("unknown sequence " + sequence);
                }
            } else {
                if (column == columns && wrap) {
                    column = 0;
                    if (row == rows - 1) {
                        scroll(cells, columns);
                    } else {
                        row++;
                    }
                }
                column = Math.min(column, columns - 1);
                cells[row].setCharAt(column++, c);
            }
            if (down) {
                if (row == rows - 1) {
                    scroll(cells, columns);
                } else {
                    row++;
                }
            }
        }
        var shown = new StringBuilder();
        for (var line : cells) {
            shown.append(line.toString().stripTrailing()).append('|');
        }
        return shown.toString();
    }

    private static void scroll(StringBuilder[] cells, int columns) {
        System.arraycopy(cells, 1, cells, 0, cells.length - 1);
        cells[cells.length - 1] = new StringBuilder(" ".repeat(columns));
    }

    @Test
    void writesOverItself() {
        status.show("a long status");
        status.show("short");
        assertEquals("short||", screen(20, 2));
        status.clear();
        out.print("text");
        assertEquals("text||", screen(20, 2));
    }

    @Test
    void isCutOffWhereTheTerminalEnds() {
        status.show("0123456789");
        assertEquals("01239||", screen(5, 2));
    }

    @Test
    void standsBelowATextThatGoesOn() {
        for (int rows = 2; rows < 6; rows++) {
            bytes.reset();
            out.print("one\ntwo\nthr");
            status.showBelow("10 %, of something long");
            status.showBelow("20 %");
            var with = screen(12, rows);
            assertEquals("thr|20 %|", with.substring(with.indexOf("thr"), with.indexOf("%") + 2));
            status.clear();
            status.clear();
            out.print("ee\nfour");
            var after = screen(12, rows);
            var all = "one|two|three|four|";
            assertFalse(after.contains("%"));
            assertEquals(rows < 4 ? "three|four|" : all, after.substring(after.indexOf(rows < 4 ? "three" : "one"),
                    after.indexOf("four|") + 5));
        }
    }

    @Test
    void movesFromItsPlaceToAnother() {
        status.show("prompt");
        status.clear();
        out.print("text");
        status.showBelow("token");
        assertEquals("text|token||", screen(12, 3));
    }

    @Test
    void isNothingWithoutATerminal() {
        var none = new StatusLine(out, false);
        none.show("a");
        none.showBelow("b");
        none.clear();
        assertEquals("", bytes.toString(StandardCharsets.UTF_8));
        assertFalse(none.due(0));
    }
}
