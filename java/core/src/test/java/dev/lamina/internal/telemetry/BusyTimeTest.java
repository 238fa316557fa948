package dev.lamina.internal.telemetry;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.BitSet;
import java.util.Comparator;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class BusyTimeTest {
    @Test
    void countsWhatIsCoveredOnceAndOnlyOnce() {
        for (int seed = 0; seed < 200; seed++) {
            var random = new Random(seed);
            int lateness = random.nextInt(30);
            int longest = 1 + random.nextInt(60);
            var intervals = IntStream.range(0, 3000)
                    .mapToObj(i -> {
                        int end = random.nextInt(20_000);
                        return new int[] {Math.max(0, end - random.nextInt(longest)), end,
                            end + random.nextInt(lateness + 1)};
                    })
                    .sorted(Comparator.comparingInt(interval -> interval[2]))
                    .toList();
            var busy = new BusyTime();
            var covered = new BitSet();
            long sum = 0;
            for (var interval : intervals) {
                covered.set(interval[0], interval[1]);
                sum += busy.add(interval[0], interval[1]);
                assertEquals(covered.cardinality(), sum, "seed " + seed);
            }
        }
    }

    @Test
    void whatComesTooLateIsNotCountedTwice() {
        var busy = new BusyTime();
        long sum = 0;
        for (int i = 1; i <= 10_000; i++) {
            sum += busy.add(10 * i, 10 * i + 5);
        }
        assertEquals(50_000, sum);
        assertEquals(256 * 5, busy.add(0, 1_000_000) - (1_000_000 - (10L * 9_744 + 5)) + 2 * 256 * 5,
                "counted from the last piece that was forgotten on, less the 256 that are kept");
        assertEquals(0, busy.add(5, 5));
    }
}
