package dev.lamina.internal.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Pieces, and how texts are cut into them. */
class PieceTableTest {
    private static List<List<Integer>> cuts(PieceTable table, String text) {
        List<List<Integer>> found = new ArrayList<>();
        table.cuts(text, (left, right, at) -> found.add(List.of(left, right, at)));
        return found;
    }

    @Test
    void textsAreCutWhereBothPartsArePieces() {
        Random random = new Random(5);
        int found = 0;
        for (int count : new int[] {0, 1, 2, 3, 100, 3000}) {
            PieceTable table = new PieceTable(count);
            Map<String, Integer> pieces = new HashMap<>();
            for (int id = 0; id < count; id++) {
                String piece = random(random, 1 + random.nextInt(9));
                table.put(piece, id); // some come twice
                pieces.put(piece, id);
            }
            for (int i = 0; i < 20_000; i++) {
                String text = random(random, random.nextInt(15));
                List<List<Integer>> expected = new ArrayList<>();
                for (int at = 1; at < text.length(); at++) {
                    Integer left = pieces.get(text.substring(0, at));
                    Integer right = pieces.get(text.substring(at));
                    if (left != null && right != null) {
                        expected.add(List.of(left, right, at));
                    }
                }
                assertEquals(expected, cuts(table, text));
                found += expected.size();
            }
        }
        assertTrue(found > 20_000);
    }

    private static String random(Random random, int length) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < length; i++) {
            text.append("ab\u2581".charAt(random.nextInt(3)));
        }
        return text.toString();
    }

    /** A replacement character may be a piece; bytes that it would stand for may not. */
    @Test
    void textThatIsNotUtf8IsTold() {
        for (String text : List.of("", "a\u2581", "\ufffd", "a\ufffdb")) {
            byte[] bytes = ("." + text + ".").getBytes(StandardCharsets.UTF_8);
            assertEquals(text, TextFiles.utf8(bytes, 1, bytes.length - 2));
        }
        for (byte[] bytes : new byte[][] {{'a', (byte) 0x80}, {(byte) 0xed, (byte) 0xa0, (byte) 0x80}, {(byte) 0xe2}}) {
            assertThrows(IllegalArgumentException.class, () -> TextFiles.utf8(bytes, 0, bytes.length));
        }
    }
}
