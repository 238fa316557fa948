package dev.lamina.internal.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class StopMatcherTest {
    @Test
    void textEndsBeforeTheStopString() {
        StopMatcher matcher = new StopMatcher(List.of("User:", "\n\n"));
        assertEquals("Hello", matcher.accept("Hello"));
        assertEquals("", matcher.accept("\n"));
        assertEquals("\n", matcher.accept("Us"));
        assertFalse(matcher.stopped());
        assertEquals("", matcher.accept("er"));
        assertEquals("", matcher.accept(": more"));
        assertTrue(matcher.stopped());
        assertEquals("", matcher.accept("anything"));
        assertEquals("", matcher.finish());
    }

    @Test
    void whatWasHeldBackIsNotLost() {
        StopMatcher matcher = new StopMatcher(List.of("END."));
        assertEquals("The ", matcher.accept("The E"));
        assertEquals("EN", matcher.accept("NE"));
        assertEquals("END", matcher.accept("ND") + matcher.finish());
        assertFalse(matcher.stopped());
    }

    @Test
    void emptyStopStringsAreRefused() {
        assertThrows(LaminaException.class, () -> new StopMatcher(List.of("a", "")));
    }

    /** However a text is cut into pieces, it ends where the first complete stop string begins. */
    @Test
    void randomPieces() {
        Random random = new Random(3);
        List<String> stops = List.of("aab", "aba", "bb", "caaac");
        for (int round = 0; round < 2000; round++) {
            StringBuilder text = new StringBuilder();
            random.ints(random.nextInt(30), 'a', 'd').forEach(c -> text.append((char) c));
            int end = text.length();
            boolean found = false;
            for (int i = 1; i <= text.length() && !found; i++) {
                for (String stop : stops) {
                    int at = text.substring(0, i).indexOf(stop);
                    if (at >= 0) {
                        end = Math.min(end, at);
                        found = true;
                    }
                }
            }
            StopMatcher matcher = new StopMatcher(stops);
            StringBuilder out = new StringBuilder();
            for (int i = 0; i < text.length(); i++) {
                out.append(matcher.accept(text.substring(i, i + 1)));
                assertTrue(text.toString().startsWith(out.toString()));
            }
            out.append(matcher.finish());
            assertEquals(text.substring(0, end), out.toString());
            assertEquals(found, matcher.stopped());
        }
    }
}
