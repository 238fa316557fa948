package dev.lamina.internal.stream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.junit.jupiter.api.Test;

class RateLimiterTest {
    private static final long SECOND = 1_000_000_000L;

    @Test
    void readsTakeTheTimeThatTheirBytesTake() {
        for (long start : new long[] {0, -5, Long.MAX_VALUE - SECOND, Long.MIN_VALUE}) { // nanoTime may be anything
            var limiter = new RateLimiter(1_000_000);
            assertEquals(start + SECOND / 2, limiter.reserve(500_000, start));
            assertEquals(start + SECOND, limiter.reserve(500_000, start));
            assertEquals(start + 3 * SECOND, limiter.reserve(2_000_000, start + SECOND / 4));
        }
    }

    @Test
    void readersThatWakeLateCatchUpButAnIdleTimeIsLost() {
        var limiter = new RateLimiter(1_000_000);
        var random = new Random(1);
        long now = 0;
        for (int i = 0; i < 1000; i++) { // each one wakes up to 1 ms late
            now = limiter.reserve(10_000, now) + random.nextInt(1_000_000);
        }
        assertTrue(now >= 10 * SECOND && now < 10 * SECOND + 6_000_000, "10 MB took " + now + " ns");
        now += 100 * SECOND;
        long there = limiter.reserve(1_000_000, now);
        assertTrue(there >= now + SECOND - 5_000_000 && there <= now + SECOND, "an idle limiter gave " + (there - now));
    }

    @Test
    void whatIsGivenBackDelaysNobody() {
        var limiter = new RateLimiter(1_000_000);
        assertEquals(SECOND, limiter.reserve(1_000_000, 0));
        assertEquals(3 * SECOND, limiter.reserve(2_000_000, 0));
        limiter.giveBack(2_000_000);
        assertEquals(3 * SECOND / 2, limiter.reserve(500_000, 0));
    }
}
