package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.TreeMap;
import org.junit.jupiter.api.Test;

class SamplerTest {
    private static final float[] LOGITS = {1f, 3f, 2f, -1f, Float.NaN, Float.NEGATIVE_INFINITY, 3f};

    private static TreeMap<Integer, Integer> draw(Sampler sampler, float[] logits, int times) {
        var counts = new TreeMap<Integer, Integer>();
        for (int i = 0; i < times; i++) {
            counts.merge(sampler.sample(logits.clone()), 1, Integer::sum);
        }
        return counts;
    }

    @Test
    void greedyTakesTheFirstOfTheLargestAndNeverNan() {
        var sampler = new Sampler(0, 0, 1, 0, 1, 1);
        assertEquals(1, sampler.sample(LOGITS.clone()));
        assertEquals(1, sampler.sample(new float[] {Float.NaN, -5f, Float.NaN}));
    }

    @Test
    void samplingFollowsTheSoftmax() {
        var logits = new float[] {0f, (float) Math.log(2), (float) Math.log(5)};
        int times = 80_000;
        var counts = draw(new Sampler(1, 0, 1, 0, 1, 7), logits, times);
        assertEquals(1 / 8.0, counts.get(0) / (double) times, 0.01);
        assertEquals(2 / 8.0, counts.get(1) / (double) times, 0.01);
        assertEquals(5 / 8.0, counts.get(2) / (double) times, 0.01);
        var cooler = draw(new Sampler(0.5, 0, 1, 0, 1, 7), logits, times);
        assertEquals(25 / 30.0, cooler.get(2) / (double) times, 0.01);
    }

    @Test
    void filtersKeepWhatTheyShould() {
        assertEquals(2, draw(new Sampler(1, 2, 1, 0, 1, 3), LOGITS, 2000).size(), "top-k 2");
        var logits = new float[] {
                (float) Math.log(0.5), (float) Math.log(0.3), (float) Math.log(0.15), (float) Math.log(0.05)};
        assertEquals(2, draw(new Sampler(1, 0, 0.8, 0, 1, 3), logits, 5000).size(), "0.5 + 0.3 reach 0.8");
        assertEquals(3, draw(new Sampler(1, 0, 0.81, 0, 1, 3), logits, 5000).size(), "0.81 needs a third");
        assertEquals(1, draw(new Sampler(1, 0, 0.0001, 0, 1, 3), logits, 1000).size(), "one is always kept");
        assertEquals(3, draw(new Sampler(1, 0, 1, 0.2, 1, 3), logits, 5000).size(), "min-p 0.2 of 0.5 is 0.1");
        var all = draw(new Sampler(1, 0, 1, 0, 1, 3), LOGITS, 20_000);
        assertTrue(!all.containsKey(4) && !all.containsKey(5), "NaN and minus infinity are never drawn: " + all);
    }

    @Test
    void repetitionPenaltyHoldsBackWhatWasSeen() {
        var sampler = new Sampler(0, 0, 1, 0, 2, 1);
        sampler.see(0);
        sampler.see(2);
        assertEquals(1, sampler.sample(new float[] {3f, 2f, -1f}), "3 / 2 is below 2");
        assertEquals(3, sampler.sample(new float[] {-1f, -3f, -1f, -1.5f}), "-1 * 2 is below -1.5");
    }

    @Test
    void aSeedDecides() {
        assertEquals(draw(new Sampler(1, 0, 1, 0, 1, 5), LOGITS, 1), draw(new Sampler(1, 0, 1, 0, 1, 5), LOGITS, 1));
        var first = new Sampler(1.3, 0, 0.99, 0, 1, 9);
        var second = new Sampler(1.3, 0, 0.99, 0, 1, 9);
        for (int i = 0; i < 200; i++) {
            assertEquals(first.sample(LOGITS.clone()), second.sample(LOGITS.clone()));
        }
    }
}
