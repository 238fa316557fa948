package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ColumnsTest {
    @ParameterizedTest
    @CsvSource({
        "'', 4, false", "abc, 4, false", "abcd, 4, true", "abcde, 4, false", "abcdefgh, 4, true", "'abcd\n', 4, false",
        "'ab\nabcd', 4, true", "日本, 4, true", "a日本, 4, false", "a日本日, 4, true", "e\u0301bcd, 4, true",
        "e\u0301bc, 4, false", "😀😀, 4, true", "'\tabc', 8, false", "'a\tbcdefghi', 16, true"})
    void aTextEndsAtTheEdgeWhenItFillsItsLine(String text, int columns, boolean atTheEdge) {
        assertEquals(atTheEdge, Columns.endsAtTheEdge(text, columns));
    }
}
