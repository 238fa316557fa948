package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class CrewTest {
    @Test
    void oneThreadIsEnoughWhileTheDiskIsTheLimit() {
        var crew = new Crew(4);
        assertFalse(crew.alone(1), "nothing is known yet");
        crew.swept(800, 1000);
        assertTrue(crew.alone(1), "four times the computing still fits the waiting");
        crew.swept(300, 1000);
        assertTrue(crew.alone(1));
        crew.swept(200, 1000);
        assertFalse(crew.alone(1), "it became the limit itself");
        crew.swept(790, 1000);
        assertFalse(crew.alone(1));
    }

    @Test
    void anotherNumberOfRowsIsAnotherMatter() {
        var crew = new Crew(2);
        crew.alone(1);
        crew.swept(900, 1000);
        assertTrue(crew.alone(1));
        assertFalse(crew.alone(512));
        crew.swept(10, 1000);
        assertFalse(crew.alone(1));
    }

    @Test
    void aSingleThreadIsNoCrew() {
        var crew = new Crew(1);
        crew.alone(1);
        crew.swept(1000, 1000);
        assertFalse(crew.alone(1));
    }
}
