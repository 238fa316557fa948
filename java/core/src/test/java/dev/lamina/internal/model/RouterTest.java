package dev.lamina.internal.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.internal.model.Router.GroupScore;
import dev.lamina.internal.model.Router.Scoring;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Random;
import java.util.stream.DoubleStream;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Choices against the formulas, written down plainly in doubles. */
class RouterTest {
    private static final float NONE = Float.NaN;
    private static final float INFINITE = Float.POSITIVE_INFINITY;

    /** What a row chose. */
    private record Choice(int[] experts, float[] weights) {}

    private static Choice choose(Router router, float @Nullable [] bias, float... logits) {
        var given = logits.clone();
        var choice = new Choice(new int[router.chosen()], new float[router.chosen()]);
        router.choose(logits, bias, choice.experts, choice.weights);
        assertArrayEquals(given, logits, "the logits are only read");
        return choice;
    }

    private static double sum(float[] weights) {
        return IntStream.range(0, weights.length).mapToDouble(i -> weights[i]).sum();
    }

    @ParameterizedTest
    @EnumSource(Scoring.class)
    void choicesAreThoseOfTheFormulas(Scoring scoring) {
        var random = new Random(7);
        for (int round = 0; round < 2000; round++) {
            int groups = 1 + random.nextInt(4);
            int size = 2 + random.nextInt(5);
            int keptGroups = 1 + random.nextInt(groups);
            int chosen = 1 + random.nextInt(keptGroups * size);
            var router = new Router(chosen, scoring, groups, keptGroups,
                    random.nextBoolean() ? GroupScore.LARGEST : GroupScore.LARGEST_TWO, random.nextBoolean(),
                    0.5f + random.nextFloat());
            var logits = gaussians(random, groups * size, 2);
            var bias = random.nextBoolean() ? gaussians(random, groups * size, 0.3) : null;
            var choice = choose(router, bias, logits);
            var experts = expected(router, bias, logits);
            assertArrayEquals(experts, choice.experts, router + " " + Arrays.toString(logits));
            assertArrayEquals(weights(router, logits, experts), choice.weights, 1e-5f, router.toString());
        }
    }

    private static float[] gaussians(Random random, int count, double scale) {
        var numbers = new float[count];
        for (int i = 0; i < count; i++) {
            numbers[i] = (float) (random.nextGaussian() * scale);
        }
        return numbers;
    }

    private static double sigmoid(double x) {
        return 1 / (1 + Math.exp(-x));
    }

    private static double[] softmax(double... x) {
        double sum = Arrays.stream(x).map(Math::exp).sum();
        return Arrays.stream(x).map(each -> Math.exp(each) / sum).toArray();
    }

    private static double[] doubles(float[] x) {
        return IntStream.range(0, x.length).mapToDouble(i -> x[i]).toArray();
    }

    private static double[] scores(Router router, float[] logits) {
        return switch (router.scoring()) {
            case SOFTMAX -> softmax(doubles(logits));
            case SIGMOID -> Arrays.stream(doubles(logits)).map(RouterTest::sigmoid).toArray();
            case SOFTMAX_OF_CHOSEN, SIGMOID_OF_CHOSEN -> doubles(logits);
        };
    }

    /** The experts with the largest corrected scores, of the groups with the largest scores. */
    private static int[] expected(Router router, float @Nullable [] bias, float[] logits) {
        var corrected = scores(router, logits);
        for (int i = 0; bias != null && i < bias.length; i++) {
            corrected[i] += bias[i];
        }
        int size = logits.length / router.groups();
        var groups = IntStream.range(0, router.groups()).boxed()
                .sorted(Comparator.comparingDouble(group -> -DoubleStream.of(corrected)
                        .skip((long) group * size).limit(size)
                        .map(score -> -score).sorted().map(score -> -score)
                        .limit(router.groupScore() == GroupScore.LARGEST ? 1 : 2).sum()))
                .limit(router.chosenGroups())
                .toList();
        return IntStream.range(0, logits.length).boxed()
                .filter(expert -> groups.contains(expert / size))
                .sorted(Comparator.comparingDouble(expert -> -corrected[expert]))
                .limit(router.chosen())
                .mapToInt(Integer::intValue)
                .toArray();
    }

    private static float[] weights(Router router, float[] logits, int[] experts) {
        var scores = scores(router, logits);
        var own = IntStream.of(experts).mapToDouble(expert -> scores[expert]).toArray();
        var made = switch (router.scoring()) {
            case SOFTMAX, SIGMOID -> own;
            case SOFTMAX_OF_CHOSEN -> softmax(own);
            case SIGMOID_OF_CHOSEN -> Arrays.stream(own).map(RouterTest::sigmoid).toArray();
        };
        double sum = router.normalised() ? Arrays.stream(made).sum() : 1;
        var weights = new float[made.length];
        for (int i = 0; i < made.length; i++) {
            weights[i] = (float) (made[i] / sum * router.scale());
        }
        return weights;
    }

    @Test
    void ofEqualScoresTheFirstIsTaken() {
        for (var scoring : Scoring.values()) {
            var choice = choose(Router.of(3, scoring, true), null, 1, 2, 2, 1, 2, 2);
            assertArrayEquals(new int[] {1, 2, 4}, choice.experts, scoring.toString());
            var grouped = new Router(3, scoring, 3, 2, GroupScore.LARGEST_TWO, false, 1);
            assertArrayEquals(new int[] {0, 1, 2}, choose(grouped, null, 1, 1, 1, 1, 1, 1).experts);
        }
    }

    @Test
    void theBiasChoosesButDoesNotWeigh() {
        var router = Router.of(1, Scoring.SIGMOID, false);
        assertEquals(0, choose(router, null, 2, 1).experts[0]);
        var choice = choose(router, new float[] {0, 1}, 2, 1);
        assertEquals(1, choice.experts[0]);
        assertEquals(sigmoid(1), choice.weights[0], 1e-6);
    }

    @Test
    void expertsOfOtherGroupsAreLeftOutHoweverBadThoseOfTheBestAre() {
        // all corrected scores are below 0, which would be above them if it stood for those that are left out
        var bias = new float[] {-5, -5, -9, -9};
        var router = new Router(2, Scoring.SIGMOID, 2, 1, GroupScore.LARGEST_TWO, true, 1);
        assertArrayEquals(new int[] {1, 0}, choose(router, bias, 1, 2, 3, 4).experts);
    }

    @Test
    void theLargestLogitsAreChosenWhereTheirSigmoidsAreTheSame() {
        assertEquals(1, choose(Router.of(1, Scoring.SIGMOID_OF_CHOSEN, false), null, 40, 50).experts[0]);
    }

    @Test
    void weightsWithoutASumAreNothing() {
        var choice = choose(Router.of(2, Scoring.SIGMOID, true), null, -1000, -2000, -3000);
        assertArrayEquals(new float[] {0, 0}, choice.weights);
    }

    @ParameterizedTest
    @EnumSource(Scoring.class)
    void brokenNumbersChooseDifferentExperts(Scoring scoring) {
        var numbers = new float[] {NONE, INFINITE, -INFINITE, 0, Float.MAX_VALUE, -Float.MAX_VALUE};
        var random = new Random(11);
        for (int round = 0; round < 2000; round++) {
            var logits = new float[6];
            var bias = new float[6];
            for (int i = 0; i < logits.length; i++) {
                logits[i] = numbers[random.nextInt(numbers.length)];
                bias[i] = numbers[random.nextInt(numbers.length)];
            }
            var router = new Router(4, scoring, 3, 2, GroupScore.LARGEST_TWO, random.nextBoolean(), 1);
            var experts = choose(router, random.nextBoolean() ? bias : null, logits).experts;
            assertEquals(4, IntStream.of(experts).distinct().count(), () -> Arrays.toString(logits));
            assertTrue(IntStream.of(experts).allMatch(expert -> expert >= 0 && expert < 6));
        }
    }

    @Test
    void aLogitThatIsNoNumberIsTheLastChoice() {
        var choice = choose(Router.of(2, Scoring.SOFTMAX_OF_CHOSEN, false), null, NONE, -3, NONE, -2);
        assertArrayEquals(new int[] {3, 1}, choice.experts);
        assertEquals(1, sum(choice.weights), 1e-6);
    }
}
